// Package confine takes rights away from the process that it is called in, for good and
// for all programs that the process starts: files by Landlock (landlock.go), calls of the
// system by a filter (seccomp.go). Both need Linux and no privileges; neither needs cgo.
//
// It knows nothing of Roost. What the process may reach is told as paths; what a
// restriction forbids fails with EACCES or EPERM at whoever tries, nobody is killed.
//
// What a newcomer gets wrong: a rule holds for what is at a path at the moment of the call.
// A directory that is made anew in its place later is another, and out of reach.
package confine

// Ban is something that not every process needs.
type Ban int

const (
	Programs Ban = iota // starting one
	Sockets             // making, connecting or accepting one; those that are there or are passed can be used
)
