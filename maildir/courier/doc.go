// Package courier reads the files that Courier-IMAP keeps beside the mail, so that
// a tree of Courier's moves in with its UIDs, keywords and subscriptions:
//
//	courierimapuiddb        UIDVALIDITY, UIDNEXT and the UIDs of a mailbox: uids.go
//	courierimapkeywords/    the keywords of its messages: keywords.go
//	courierimapsubscribed   subscriptions, in the root: subscribed.go
//	courierimapacl          rights, and those of names without a mailbox in
//	courierimaphieracl/     the root: acl.go
//
// It knows bytes and no files: package maildir reads those, decides what to do with
// them (takeover.go there), and leaves them as they are. Whatever the bytes are, the
// parsers end with a value, in time and memory linear in their length; what is no
// such line is left out and counted.
//
// What a newcomer gets wrong. A base name, by which all these files know a message,
// is its file's name up to the first colon, the size in it included. Names of
// mailboxes begin with "INBOX", whose children all others are.
package courier
