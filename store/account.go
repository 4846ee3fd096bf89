package store

import (
	"context"
	"iter"

	"github.com/emersion/go-imap/v2"
)

// An Account is one session's door to the mailboxes it may see. One goroutine at
// a time. Every method enforces access rights itself: the protocol never asks
// first. Names are taken as Canonical gives them.
type Account interface {
	// List yields the mailboxes that match, each once, sorted by name; parents that
	// exist only because of their children come as \NonExistent. With q.Subscribed
	// the names are those of the subscriptions, \NonExistent where the mailbox is gone.
	List(ctx context.Context, q ListQuery) iter.Seq2[Entry, error]

	// Create makes a mailbox, its missing parents too; durable on return. use is kept
	// with it (RFC 6154). ErrExists, ErrCannot.
	Create(ctx context.Context, n Name, use []imap.MailboxAttr) error

	// Delete removes a mailbox and its mail; durable. Children stay. INBOX cannot be
	// deleted (ErrCannot). Those who hold it get ErrReplaced.
	Delete(ctx context.Context, n Name) error

	// Rename moves a mailbox with its children; UIDs, UIDVALIDITY and ID go along, and so do
	// subscriptions; durable. Of INBOX it moves the messages, not the mailbox
	// (RFC 9051 section 6.3.6). ErrNotFound, ErrExists, ErrCannot.
	Rename(ctx context.Context, from, to Name) error

	// Subscribe adds or removes a name, whether or not it exists; durable.
	Subscribe(ctx context.Context, n Name, on bool) error

	// Status counts without opening a hold; with exact the sizes too, for which files
	// may have to be read. Without it, what is told of a mailbox that nobody opened yet need
	// not outlive a crash: UIDVALIDITY is greater then, and ID another.
	Status(ctx context.Context, n Name, exact bool) (Status, error)

	// Counter gives a Status for a command that counts many mailboxes: what another program
	// did before Counter was called is counted, what it does later may be.
	Counter() func(ctx context.Context, n Name, exact bool) (Status, error)

	// Hold opens a mailbox for reading, or for writing too. wake is called, with no lock
	// held and from any goroutine, when something may have happened after the last
	// Advance; it must not block. It may be called once more after Close.
	Hold(ctx context.Context, n Name, write bool, wake func()) (Mailbox, error)

	// Batch adds messages to one mailbox, all or none: APPEND, MULTIAPPEND, REPLACE, LMTP.
	// ErrNotFound.
	Batch(ctx context.Context, n Name) (Batch, error)

	// Commit commits batches of one mailbox, in this order, which may share what makes them
	// durable: each is all or none by itself, and one that fails does not fail the others. The
	// results are in their order.
	Commit(ctx context.Context, list ...Batch) []Committed

	// Annotations gives what is kept with a mailbox, or, where n is "", with the account,
	// sorted by the names of the entries in lower case. ErrNotFound, ErrDamaged.
	Annotations(ctx context.Context, n Name) ([]Annotation, error)

	// Annotate sets entries, all or none, the last one where one comes twice; durable. A
	// change raises the MODSEQ of the mailbox (RFC 7162 section 3.2). ErrNotFound; ErrTooBig
	// and ErrLimit beyond what may be kept; ErrUnsupported for private entries where only
	// shared ones can be; ErrCannot for special uses that cannot be, or cannot be taken away;
	// ErrDamaged when what is there cannot be read: it stays as it is.
	Annotate(ctx context.Context, n Name, set []Annotation) error

	// WatchAnnotations has wake called, as Hold does, when another Account of this Store
	// has changed annotations that this one sees.
	WatchAnnotations(wake func()) AnnotationWatch

	// Watch reports on all mailboxes without holding them: NOTIFY (RFC 5465). It begins with
	// what is there now, and must be closed before the Account is. ErrLimit.
	Watch(ctx context.Context, opt WatchOptions) (Watch, error)

	Close() error
}

// ListQuery is what LIST asks (RFC 9051 section 6.3.9).
type ListQuery struct {
	// Patterns are full names with '*' and '%'; the reference is already joined.
	Patterns   []string
	Subscribed bool // only subscribed names: the SUBSCRIBED selection option
	Deep       bool // RECURSIVEMATCH: parents that do not match themselves but whose children do
}

// Entry is one line of LIST.
type Entry struct {
	Name Name
	// Attrs holds \NonExistent, \Noselect, \HasChildren or \HasNoChildren, and the
	// special use. \Subscribed is told by Subscribed.
	Attrs      []imap.MailboxAttr
	Subscribed bool
	// ChildSubscribed: under RECURSIVEMATCH, a child is subscribed though this name need
	// not be (CHILDINFO, RFC 9051 section 6.3.9.6).
	ChildSubscribed bool
}

// Status is what STATUS asks (RFC 9051 section 6.3.11).
type Status struct {
	Messages, Unseen, Deleted, Recent uint32
	UIDValidity                       uint32
	UIDNext                           imap.UID
	HighestModSeq                     ModSeq // 0 where MODSEQs are not one history (Info.NoModSeq)
	Size                              int64  // of all messages, with CRLF; only when exact
	ID                                string // as Info.ID
}
