package neighbour

// Compat says in a test's log what a row of docs/compatibility.md says: the kind is
// "tree", "delivery" or "client", the name and version are those of the other program,
// what is what was done with it. test/report gathers these lines, and the rows count
// only where the test passes.
func Compat(t interface {
	Helper()
	Logf(format string, args ...any)
}, kind, name, version, what string) {
	t.Helper()
	t.Logf("compat: %s|%s|%s|%s", kind, name, version, what)
}
