// Package neighbour starts real mail programs as private instances: their own
// directories, loopback ports chosen by the kernel, ended by pid. The tests in
// test/peers and the measurements in bench talk to them.
//
// Dovecot and Postfix change their user, so they need root; who is not root gets
// an error that says so. Mail belongs to MailUID on both sides, as it does on a
// machine with virtual users.
package neighbour
