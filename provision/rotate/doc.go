// Package rotate works out which rotation of CAs and keys is meant, which stages lie ahead, what each of them does and
// what forbids it. It computes with values; only Survey asks a cluster. A stage is carried out like every other apply.
package rotate
