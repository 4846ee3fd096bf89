// Package auth says who is at the other end: it reads password files, verifies
// passwords, speaks the SASL mechanisms and slows down those who guess.
//
// It knows neither IMAP nor mail. A caller makes one Auth and asks it from any
// number of goroutines:
//
//	a, err := auth.New(auth.Options{File: "/etc/roost/passwd"})
//	user, err := a.Login(ctx, name, password, attempt)
//
// The way one login takes: throttle.go makes those who failed before wait (penalty.go has
// the records, familiar.go who is at home where, state.go their file),
// decide.go asks the sources (source.go) in their order, of which a password file is one
// (versions.go has the newest good version of a file, passwdfile.go reads it), cache.go answers what was verified a moment ago, pool.go
// lets a bounded number of slow hashes run, turn by turn among the addresses, and
// crypt.go and its neighbours compute them. Then the entry's own rules (allow_nets,
// nologin, ...) have their say, and a failure is answered when its delay is over.
//
// A login without a password (external.go, and bearer.go with token.go for tokens, which
// package oidc checks) goes through the same throttle, and then asks the same sources
// whether the user may log in.
//
// What a newcomer gets wrong: a login must not tell why it failed. Unknown user,
// wrong password, disabled user and forbidden network go one way, cost one hash and
// are answered at one time, counted from the start of the attempt; only Refusal.Reason,
// which is for the log, differs. What may be shown is said only to one who knew
// the password.
//
// Locks: each of file, cache, pool, throttle and familiar has one mutex; familiar's is taken
// under throttle's, no other while one is held, and none while a hash is computed.
package auth
