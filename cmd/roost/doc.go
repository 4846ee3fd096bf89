// Command roost serves Maildir trees over IMAP and holds the verbs with which an
// admin looks after it.
//
// It is the only place where everything meets: config gives values, auth says who
// somebody is, maildir keeps the mail, server speaks to clients, and a verb here
// introduces them to one another.
//
// One thing's way: main makes an environment from the process and calls run, which
// finds the verb in the table (main.go), lets it declare its flags, and calls what
// that gave. A verb sees the world through its environment alone, so that tests
// run verbs as functions. Help, `roost help` and docs/roost.md all come from the
// table (help.go).
package main
