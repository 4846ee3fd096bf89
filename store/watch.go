package store

import "context"

// Interest is what somebody wants to hear of a mailbox, and what an Event tells.
type Interest uint8

const (
	InterestNames         Interest = 1 << iota // it was made, deleted or renamed, or its attributes changed
	InterestSubscriptions                      // it was subscribed or is no more
	InterestMessages                           // messages came or went, or it has another UIDVALIDITY
	InterestUnseen                             // the number of messages without \Seen changed
	InterestFlags                              // flags or keywords changed

	// NoAccess is told once of a mailbox whose messages may not be read.
	NoAccess
)

// WatchOptions say what a Watch reports.
type WatchOptions struct {
	// Want says what is to be told of a mailbox. It is asked of all that List would name,
	// subscriptions without a mailbox included, again whenever names or subscriptions
	// changed, and must give the same answer for the same Entry.
	Want func(Entry) Interest

	// Limit bounds the mailboxes of which something is wanted. ErrLimit beyond it.
	Limit int

	// Wake is called with no lock held and from any goroutine when Pull may have something
	// to tell that it had not before; it must not block, and may be called once more after
	// Close.
	Wake func()
}

// Watch reports on the mailboxes of an account, whether or not anybody holds them
// (RFC 5465). What it has to tell is the difference between what it told last and
// what is: nothing piles up where nobody pulls. One goroutine at a time, which may be
// none that uses the Account meanwhile.
type Watch interface {
	// Pull tells what changed, each mailbox once: those that were renamed, then the others,
	// each sorted by name. What happened to the messages of except is left for a later
	// Pull. Of a mailbox whose counts were not at hand when the Watch began, the first
	// change of any kind is told as all kinds. An error says that nothing can be told any
	// more: ErrLimit, or what List may fail with.
	Pull(ctx context.Context, except Name) ([]Event, error)

	// Status counts a mailbox, and takes that for told. It fails as Account.Status does.
	Status(ctx context.Context, n Name) (Status, error)

	// Told lets the caller say what it knows of a mailbox by itself: edit changes the
	// counts that Pull compares with, and calls nothing of the store. It is not called for
	// a mailbox that is not watched, or of which nothing is known yet.
	Told(n Name, edit func(*Status))

	// Close ends the Watch; Wake may be called once more. It comes before Account.Close.
	Close() error
}

// Event is what changed in one mailbox.
type Event struct {
	Name   Name
	From   Name     // it was renamed from this; "" it was not
	Torn   bool     // and that alone would mislead: all names concerned are told each for itself
	Came   bool     // the name is there only since, or no longer
	Kind   Interest // what of it changed, as far as that was wanted
	Entry  Entry    // as it is now; \NonExistent and no more where there is nothing left to list
	Status Status   // with InterestMessages, InterestUnseen or InterestFlags; no Size
}
