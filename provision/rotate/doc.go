// Package rotate determines which rotation of CAs and keys is requested, which stages lie ahead,
// what each of them does and what prevents it. It computes with values; only Survey queries a
// cluster. A stage is carried out like every other apply.
package rotate
