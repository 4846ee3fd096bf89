// Package workers splits a server into processes, so that mail can belong to the users of
// the system, and a hole before the login reaches none of it: the Runner of package server
// that works by processes, and what stands on the other sides.
//
//	       parent (root)                       starts the others; parent.go
//	      /      |      \
//	front      desk      worker, worker ...    front.go, desk.go, worker.go
//	  \_________/           /
//	  |    questions  \____/                   message.go; deeds.go, note.go
//	  \___________________/                    link.go, visit.go
//	       sessions
//
// Where certificates are asked for by ACME another process does that (issuer.go), and tells
// the front what it got.
//
// One login: the front asks the desk (Front.Login, or the steps of an exchange); who proved
// who they are gets a ticket. With that the front asks for a session (Front.Run); the desk
// alone knows whose ticket it is, makes the identity, and orders a session of the parent.
// The parent looks at uid and gid, finds or starts the worker, makes a socket and gives one
// end to the worker with the job, the other through the desk to the front. From then on
// bytes pass between front and worker; what else there is to say about sessions (an end, what
// a session does, who looks at its protocol) passes over the link that each worker has with
// the front.
//
// Who trusts whom, and why it is so:
//
//   - Nobody trusts the front, which strangers speak with. It names no user: what it says of a
//     session (its tag, its address) does harm to that session only. So a front that was taken
//     over can do what its clients can, and hear what they say; who does not log in meanwhile
//     has nothing to fear but guesses: it can lie about addresses, and unlock, so no throttle
//     binds it. Whether a login still stands it asks by a seal (seal.go), for else it could
//     guess at stored secrets at no cost. Client certificates it could invent, so EXTERNAL is
//     not there.
//   - The parent believes the desk who a session is for, because somebody must decide that and
//     it had better not be root: what verifies passwords parses SASL, LDAP's answers and
//     tokens, and may run programs. What the desk cannot be wrong about is kept in the parent:
//     no uid or gid below the least, no group below it. The parent parses the desk's orders
//     and nothing else: of the front one byte, of a worker that a session has ended.
//   - Nobody trusts a worker: its user may own its process by a debugger. It can tell of its
//     own sessions only, and nobody waits for it longer than sendTime. What it does to mail it
//     tells the desk, past the front, which could invent it for others. It has the desk's word
//     for a note to its user, by way of the parent.
//   - The front believes the issuer, which speaks with the authority and with whoever comes to
//     port 80: of the names that are in the configuration. It says nothing to it.
//
// Streams go through the front also without TLS, though the client's socket could be handed
// over: so counting, kicking, making room and the end of a server have one place, and no
// worker has a socket of the network. It costs a copy of what loopback clients read.
//
// How it ends: the parent tells the front, which says BYE to everybody by way of the
// workers; then it closes the channels of the workers, which write what they know and go;
// then the issuer, and the desk, which has heard their last words. A worker without sessions
// is told to go in the same way, and a session that comes meanwhile waits for its end: two
// processes on one mailbox would not share what they know. A process that ends otherwise is
// started anew, a worker at the next login.
//
// Locks: Parent.mu, Front.mu, counter.mu, workerLink.mu, Worker.mu and reports.mu are leaves;
// worker.starting and Issuer.mu are held while a message is sent.
package workers
