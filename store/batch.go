package store

import (
	"context"
	"io"
	"time"

	"github.com/emersion/go-imap/v2"
)

// A Batch adds messages to one mailbox, all or none. One goroutine at a time.
type Batch interface {
	// Admit says whether a message of size bytes would be taken, before the client is
	// invited to send it: ErrTooBig, ErrOverQuota.
	Admit(size int64) error

	// Add stores one message out of sight. The bytes are kept as they come.
	Add(ctx context.Context, m Meta, r io.Reader) error

	// Replace has Commit remove a message of src too, which is of the same account and not
	// closed before: when what was added is durable, so that a crash may leave both and never
	// neither. It comes before Admit and Add, for the quota counts what goes as gone. ErrReadOnly;
	// ErrGone, of Commit too, which then adds nothing. At most once. RFC 8508.
	Replace(src Mailbox, uid imap.UID) error

	// Commit shows all that was added, in order. It is durable on return, then told to
	// all who hold the mailbox. Copied.From is nil.
	Commit(ctx context.Context) (Copied, error)

	// Close drops what was not committed.
	Close() error
}

// Committed is how one of several Batches ended, as Batch.Commit tells it.
type Committed struct {
	Copied Copied
	Err    error
}

// Meta is what a message has beside its bytes.
type Meta struct {
	Flags []imap.Flag
	Time  time.Time // INTERNALDATE; zero: now

	// Notes, when not nil, is called once the bytes were read to their end, and gives
	// the notes to keep with the message.
	Notes func() map[NoteKind][]byte
}
