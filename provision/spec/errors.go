package spec

// Diagnostic is one mistake in a spec.
type Diagnostic struct {
	File         string
	Line, Column int    // from 1
	Field        string // "spec.network.podSubnet"
	Message      string // what is wrong
	Remedy       string // what to do
	Source       string // the source line
}

// Errors are all the mistakes of one spec, in the order of the file.
type Errors []Diagnostic

// Error lists every mistake. (Rendering is refined by the loader's author.)
func (e Errors) Error() string { return "invalid spec" }
