package main

// The long tests, all of testing/e2e.
const (
	killed    = "TestLongKilled"        // the first apply is killed while machines are made, and while files are written
	chaosKill = "TestLongChaosKill"     // killed at every step boundary, on three control planes
	chaosCut  = "TestLongChaosCut"      // every SSH connection cut at every step boundary, on three control planes
	renewal   = "TestLongRenewal"       // renewed certificates, until every client shows them
	rollback  = "TestLongRollback"      // a rotation of all CAs, taken back, on three control planes
	rotation  = "TestLongRotation"      // a rotation of all CAs, killed in each stage, on three control planes
	hostFault = "TestLongHostsFaults"   // one machine that exists has one fault after another
	entry     = "TestLongHostsEntry"    // a program lists machines, ssh_config says how they are entered, secrets are typed
	firewall  = "TestLongHostsFirewall" // machines that drop what docs/ports.md does not list, and one with a kernel of its own
	survival  = "TestLongSurvival"      // each control plane stopped in turn
	unfit     = "TestLongPreflight"     // faults on machines, one after another
	copies    = "TestLongDelivery"      // copies cut off, a machine that lies, one that no other reaches, a full disk
	diagnosis = "TestLongDiagnose"      // faults that are found, and mended as printed
)

// long lists them in the order in which they are chosen where not all fit.
var long = []string{survival, killed, hostFault, rollback, renewal, rotation, chaosKill, chaosCut, firewall, entry, unfit, copies, diagnosis}

// row says what a change of a package touches.
type row struct {
	// tests are the long tests that could find a mistake in the package that `make test` does not find.
	tests []string
	// wide packages import nearly all others, or nearly all others import them. Their tests are chosen by hand. What
	// imports a wide package is not touched with it, and a wide package is not touched with what it imports: each change
	// would touch everything, every time.
	wide bool
}

// table has a row for each package that ships code. A change touches the tests of the package, and those of the packages
// that import it, directly or not, up to wide ones.
var table = map[string]row{
	// Wiring and output. What these decide is covered by `make test`, which runs most commands.
	"cmd/slipway":               {wide: true},
	"provision/spec":            {wide: true},
	"provision/secret":          {wide: true},
	"provision/journal":         {},
	"provision/distro":          {tests: []string{unfit}},
	"provision/preflight":       {tests: []string{unfit}},
	"provision/diagnose":        {tests: []string{diagnosis}, wide: true},
	"provision/users":           {},
	"providers":                 {},
	"providers/aws":             {}, // make test has a fake of AWS; nothing here makes machines there
	"providers/hosts":           {tests: []string{hostFault, entry}},
	"providers/hosts/sshconfig": {tests: []string{entry}},
	"providers/local":           {tests: []string{killed, survival}},
	"provision":                 {tests: []string{killed, chaosKill, rotation}, wide: true},
	"provision/bundle":          {tests: []string{killed}, wide: true},
	"provision/state":           {tests: []string{killed}},
	"provision/keys":            {tests: []string{killed, renewal, rollback}},
	"provision/rotate":          {tests: []string{rollback, rotation}, wide: true},
	"certs":                     {tests: []string{renewal, rotation}, wide: true},
	"templates":                 {tests: []string{survival, rotation}, wide: true},
	"provision/stack":           {tests: []string{survival, rotation, firewall}, wide: true},
	"provision/kube":            {tests: []string{renewal, rotation}, wide: true},
	"provision/plan":            {tests: []string{rollback, chaosKill, chaosCut}},
	"provision/delivery":        {tests: []string{copies}},
	"provision/dag":             {tests: []string{killed, chaosKill, chaosCut}},
	"provision/converge":        {tests: []string{renewal, rollback, rotation, chaosKill, chaosCut}, wide: true},
	"provision/host":            {tests: []string{chaosKill, chaosCut}},
	"provision/live":            {tests: []string{survival, renewal}},
	"provision/observe":         {tests: []string{renewal}},
	"provision/etcd":            {tests: []string{survival, chaosKill}},
	"provision/balancer":        {tests: []string{survival, rotation}},

	// The program in pods is part of what the rotations prove. Files of testing/e2e touch the long tests in them: what
	// those share with others runs in `make test`.
	"testing/e2e/testserver": {tests: []string{rollback, rotation}},
}

// others are what a change touches besides packages: every dependency is pinned in these.
var others = map[string][]string{"go.mod": long, "go.sum": long}
