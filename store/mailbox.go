package store

import (
	"context"
	"iter"

	"github.com/emersion/go-imap/v2"
)

// View is one version of a mailbox: immutable, shared by all who hold that
// version. The zero View is the version before the first message.
type View struct {
	UIDs    Column   // ascending; sequence number = index + 1
	UIDNext imap.UID // above every UID of UIDs
	ModSeq  ModSeq   // everything up to here is in it: a View is also a cursor
	Gen     uint64   // counts the expunges; the store's way to find what UIDs is a prefix of
}

// Delta is the way from one View to a later one.
type Delta struct {
	Vanished []imap.UID // ascending, all of them in the older View
	Exists   uint32     // the new count
	Grown    bool       // messages were added, so that Exists must be told
	Recent   []imap.UID // added messages that are \Recent for this hold (RFC 3501 section 2.3.2)
	Changed  []Row      // flags or keywords that changed on messages of the older View; by UID, each once, newest state
}

// Row is what is known of a message without opening it.
type Row struct {
	UID      imap.UID
	ModSeq   ModSeq
	Flags    Flags
	Keywords Keywords
	Internal int64 // INTERNALDATE, unix seconds; Unmeasured until Mailbox.Measure
	Saved    int64 // SAVEDATE, unix seconds; good after Measure
	Size     int64 // RFC822.SIZE, with CRLF; -1 not yet known (Measure may, Message.Size will find it)
}

// Unmeasured stands in a Row for a date that nobody asked for yet.
const Unmeasured int64 = -1 << 63

// Flags are the system flags of one message.
type Flags uint8

const (
	FlagSeen Flags = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft
)

// Mailbox is one session's hold on state that all sessions share. One goroutine
// at a time, except Advance, which may run beside reads, and Message, which several may
// call at once and beside all else but Close.
//
// Every method may return ErrReplaced: the mailbox was deleted or another was
// put in its place. Nothing but Close is useful then.
type Mailbox interface {
	Info() Info
	View() View // newest

	// FirstUnseen is the lowest UID without \Seen in the newest version, 0 when all are
	// seen. Cheap: SELECT asks for it each time.
	FirstUnseen() imap.UID

	// Advance gives the newest version that may follow v, and the way there. Without
	// expunges it stops before the first one, so that every View shown was once the
	// mailbox's own. Advance(View{}, true) is how a hold starts: its Delta names the
	// count and what is \Recent, and has no Changed.
	Advance(v View, expunges bool) (View, Delta, error)

	// Coming is how many messages are about to be added to the newest version: they are
	// there, and get their UIDs at this moment. wake is called when there are some, and when
	// they were added, or after all were not. recent: they will be \Recent for this hold.
	Coming() (n int, recent bool)
	// Settled returns when what was Coming at the call is no more, one way or the other.
	Settled(ctx context.Context) error

	// Rows yields copies in chunks of at most 512, in the order of uids, which is
	// ascending; the gone are left out, and so are those whose ModSeq is not above newer.
	// A chunk is good until the next step, and the last one for as long as it is wanted.
	Rows(ctx context.Context, uids []imap.UID, newer ModSeq) iter.Seq2[[]Row, error]

	// Having gives those of uids, which ascend, whose messages are there and of the flags of
	// mask have those of want and no others. The result may lie in the memory of uids.
	Having(ctx context.Context, uids []imap.UID, mask, want Flags) ([]imap.UID, error)

	// Measure finds what rows do not tell of dates and sizes; it must be called before they
	// are used. Where all is known, which is nearly always, it costs nothing.
	Measure(ctx context.Context, rows []Row) error

	// Changed gives UIDs, ascending, among which are all messages of v whose MODSEQ is above
	// since; it may name others. It costs what has changed. known is false where the store does
	// not remember that far back: then it may be any.
	Changed(since ModSeq, v View) (uids []imap.UID, known bool, err error)

	// Vanished gives the UIDs that were expunged after since and up to v, ascending
	// (RFC 7162 section 3.2.6). known is false where the store does not remember that far
	// back: then any UID below v.UIDNext that v lacks may be one.
	Vanished(since ModSeq, v View) (uids []imap.UID, known bool, err error)

	// Notes are bytes that the caller once derived from a message; the store keeps
	// them, cannot read them, and may lose them. The yielded slices must not be changed
	// and are good until the next step.
	Notes(ctx context.Context, uids []imap.UID, kind NoteKind) iter.Seq2[imap.UID, []byte]
	Note(uid imap.UID, kind NoteKind, b []byte)

	// Message opens one message. ErrGone, ErrUnsupported; ErrUnreadable, which may come with
	// what says more: ErrDamaged, ErrLimit, ErrNoPermission. The store logs these last, once
	// a message.
	Message(ctx context.Context, uid imap.UID) (Message, error)

	// Candidates narrows a search for a text, folded as by message.AppendFold: of the
	// messages of v it gives, ascending, those that may hold it. All others hold it in none of
	// their passages (message.Passages), whatever is asked for with limits that cover
	// message.Common. Not ok: any may. What the store cannot narrow it need not; that some
	// were narrowed may be the reason that it can narrow more the next time.
	Candidates(ctx context.Context, v View, text []byte) (may []imap.UID, ok bool, err error)

	// SetFlags changes flags and keywords, and answers with the newest row of each UID
	// that is still there, changed or not, in order. modified are those that an
	// UnchangedSince refused. ErrReadOnly; ErrLimit when a keyword can't be kept.
	// The order on disk is whole and forward: a crash loses the last changes, never one
	// in the middle.
	SetFlags(ctx context.Context, uids []imap.UID, op FlagOp) (rows []Row, modified []imap.UID, err error)

	// Expunge removes those of uids that are \Deleted now (nil: of all), and says which.
	Expunge(ctx context.Context, uids []imap.UID) ([]imap.UID, ModSeq, error)

	// Copy is durable on return, and all or none: ErrGone when a message of uids is not there.
	Copy(ctx context.Context, uids []imap.UID, to Name) (Copied, error)

	// Move is durable on return. Each message is in exactly one of the two mailboxes at
	// every instant; messages that are gone are left out.
	Move(ctx context.Context, uids []imap.UID, to Name) (Copied, error)

	// Look makes sure that what others did to the files so far is known, where no
	// events tell of it. Cheap where they do.
	Look(ctx context.Context) error

	Close() error
}

// Info is what a hold knows of its mailbox now.
type Info struct {
	Name        Name
	ID          string // MAILBOXID (RFC 8474 section 4): no other mailbox of the account has it at that time; never ""
	UIDValidity uint32
	ReadOnly    bool
	NoModSeq    bool     // MODSEQs of this hold are not one history (RFC 7162 section 3.1.2.2)
	Keywords    []string // known to the mailbox, in the spelling first seen; for FLAGS
	KeywordsEnd bool     // no further keyword can be made: no \* in PERMANENTFLAGS
}

// NoteKind names a form of derived bytes, its version included; kinds are the
// protocol's own.
type NoteKind uint16

// FlagOp is one STORE.
type FlagOp struct {
	Op             imap.StoreFlagsOp
	Flags          []imap.Flag // system flags and keywords
	UnchangedSince ModSeq      // 0: no condition
	// HasUnchangedSince tells UNCHANGEDSINCE 0, which refuses all, from no condition.
	HasUnchangedSince bool
}

// Copied says where messages went (RFC 4315 section 3).
type Copied struct {
	UIDValidity uint32
	From, To    []imap.UID // pairwise
}
