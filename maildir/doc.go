// Package maildir serves Maildir trees as a store.Store.
//
// The way of a message. An MTA renames it into new/; the watch tells the mailbox's
// worker (events.go), which looks at the file, says that it is coming (coming.go), which
// is enough for an EXISTS, gives it a UID in dovecot-uidlist (batch.go), adds a row to the
// table (table.go), lets the newest View grow (generation.go) and wakes the holds
// (mailbox.go). A session's hold (hold.go) then learns of it by Advance. What a session
// adds itself goes through tmp/ (deliver.go; several batches at once: together.go), what it
// copies and moves through move.go;
// flags are renames (flags.go), an expunge is an unlink (expunge.go); while either changes most
// of a mailbox, cur is not watched (muffle.go). Where no events tell,
// and after a doubt, scan.go compares the directories with the table. load.go opens a
// mailbox, from roost.index as far as that is believed (tableload.go), and closes it; where
// nothing changed since, SELECT is answered by the index's last block and the rest is read
// behind (unread.go); dates and sizes are asked for when somebody wants them (measure.go).
// account.go and layout.go turn names into places; store.go keeps the open mailboxes.
//
// Locks, in the order in which they are taken: tree.mu of the account side;
// mailbox.files (of two mailboxes: by key), which covers whatever changes files and may
// be held for as long as that takes; the uidlist's dotlock; Store.mu; mailbox.mu, which
// is held for microseconds and never across a file call or a callback. The table is
// changed under both files and mu, and so may be read under either; but who reads it under mu alone
// asks mailbox.whole first, for it may be yet to be read (unread.go; whoever takes files finds it whole). Wake functions are
// called with mu free and must not block.
//
// Who watches without a hold (store.Watch) has an accountWatch (watching.go; for changes of
// names it watches the directories above, watchlevels.go) and, at each mailbox whose
// messages matter, a sentry that all accounts share (sentry.go): events and open mailboxes
// set bits there, and Pull lists or counts. A sentry's setup is held over file calls; its
// mu, accountWatch.mu and watching.mu are leaves. Names are listed under tree.mu, so that a
// RENAME of this process is seen whole.
//
// Annotations are read and set in annotations.go, by the file that metadata.go draws; who is
// told of them is in annotationwatch.go. Which of two mailboxes a GUID belongs to: guid.go.
//
// Who owns which file. dovecot-uidlist, dovecot-keywords and subscriptions are shared
// with Dovecot. roost-keywords, roost-metadata, roost-server-metadata, roost-state and
// roost-courier are ours and are kept; what begins with courierimap is Courier's, and only
// read (takeover.go). roost.index, roost.cache and roost.fts are caches of the process that
// holds roost.lock; textindex.go has the last made and asks it. What is shown is added to roost.index right behind (record.go); how far it is
// believed at the next open says trust.go.
//
// What a newcomer gets wrong. Absence from a scan proves nothing, for readdir misses
// files that are renamed meanwhile: see the top of scan.go. An event's name is only a
// hint: the file says what happened. UIDs are shown in order, so a delivery waits for
// the sync of a message that got its UID before. And a UID that was shown is never
// given again: where its line cannot be kept, the message is not shown; only where no
// uidlist can be written at all is a mailbox served under a UIDVALIDITY of its own that
// ends with it.
package maildir
