// Package uidlist reads and writes dovecot-uidlist, the file that says which UID a
// message has, and that Roost shares with Dovecot: its form, its lock, and its habit
// of growing at the end.
//
// Parse knows bytes only. A File is one mailbox's uidlist as this process last saw
// it; it keeps the header and where the file ended, not the records, which live in
// the mailbox's table. Refresh tells what was written since, by anyone. Lock takes
// dovecot-uidlist.lock; under it, and after a Refresh, come Append (lines at the
// end, one write) and Rewrite (a new file in place of the old one). Beside it,
// Reserve is roost-state: the UIDs that may have been shown though their lines were
// not yet synced.
//
// What a newcomer gets wrong. The N of the header is not UIDNEXT: appends leave it
// old, and UIDNEXT is the larger of N and the last UID + 1. N is never lowered and the
// file never removed, for a live Dovecot answers both by renumbering all messages.
// And a record whose file is gone is no error: directories say what exists.
package uidlist
