// Package server speaks with clients until they have logged in, and hands them
// to a session then. It owns the sockets, TLS, the limits on connections, and
// the order in which all of it stops.
//
// One connection's way: a Listener accepts (listener.go); Server.serveConn gives
// it an id and a place (server.go, limits.go) and shakes hands on TLS where that
// comes first (tls.go); the gate greets, finds out who it is and finds their mail
// (prelogin.go, sasl.go, visit.go); Runner.Run carries the session (runner.go, package
// session; package workers for one in another process). All of that is one goroutine.
//
// How it stops stands in one function, Server.Serve: its context ends, nobody is
// accepted any more, every connection's context ends with it, by which each
// finishes the command that it is in, says BYE and goes; after the patience that
// the limits grant the rest is cut off. The caller then closes the store.
//
// What a silent client costs: rest.go lets go of TLS's buffers and waits on little stack;
// thrift.go gives back what a burst leaves. The frames of serveConn, gate.serve and
// Runner.Run lie under each session: what needs room stands in functions that return first.
//
// Contexts: a connection's context ends with the server's, or when it must make
// room, and its cause is what BYE says (session.Goodbye). Nothing looks at it
// while it blocks in Read: its end sets the stream's read deadline into the past.
//
// Locks: registry.mu, places.mu and Certificates.mu, none taken under another.
// The options are replaced as a whole (Reconfigure); a connection keeps those
// that it came under.
//
// What a newcomer gets wrong: after Outcome.Unauthenticated (UNAUTHENTICATE is one
// reason) the same connection goes back to the gate, with the bytes that the session
// had read already, and its place among those of the user is free.
package server
