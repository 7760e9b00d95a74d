package stack

// For the tests outside the package.
var (
	AuthorityRing  = authorityRing
	DisablePlugins = disablePlugins
	EnablePlugins  = enablePlugins
	NoResolvConf   = noResolvConf
	Quote          = quote
	StackSliceFile = stackSliceFile
	Subsets        = subsets
	WithAdmission  = withAdmission
)
