// Package memstore is the naive model of store.Store: mailboxes in slices and
// maps under one mutex, nothing on disk. It is what the Maildir storage is
// compared with, and what tests of the protocol run on, so it is written to be
// obviously right and not to be fast: each change of a mailbox is kept for ever
// as a version with its whole column of UIDs, and Advance picks among them.
//
// Where store leaves a choice, the model chooses the plain one: UIDs count from
// 1, every message added is \Recent until a hold with write access was told of
// it, a mailbox that is renamed keeps its holds, one \NonExistent parent exists
// as long as its children do. Prefix, layout and paths of store.Root mean
// nothing here; Folders and Create are honoured, and so are Separator and Quota.
package memstore
