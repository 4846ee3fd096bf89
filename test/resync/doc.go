// Package resync has a client that keeps a copy of a mailbox by QRESYNC (RFC 7162), as a
// phone does: it hangs up at any time, comes back with what it knew, and asks for the
// difference only. The test changes the mailbox meanwhile, by other clients and by other
// programs, kills the server, and deletes its caches: the copy must end like the mailbox.
// Half of the copies go without sequence numbers (RFC 9586), and all compare what they are
// told of ids (RFC 8474).
package resync
