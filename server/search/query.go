package search

import (
	"fmt"
	"slices"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// Op is what a Key asks.
type Op uint8

const (
	All Op = iota

	// These join the keys before them.
	And // N operands
	Or  // two
	Not // one

	UIDs // Set
	Flag // any bit of Flags
	Word // Text is a keyword

	Larger  // RFC822.SIZE above N bytes
	Smaller // below N bytes
	Before  // INTERNALDATE before N, unix seconds
	Since   // INTERNALDATE at N or later
	ModSeq  // MODSEQ N or above (RFC 7162 section 3.1.5)

	SavedBefore // SAVEDATE before N, unix seconds
	SavedSince  // SAVEDATE at N or later

	SentBefore // Date field before the day N, as DayOf counts
	SentOn     // on that day
	SentSince  // on it or later
	Digest     // the message.Digest is Text
	Header     // field Field holds Text; empty Text: there is such a field

	Body // the text of the body, and all of messages inside it, hold Text
	Text // these, or a header of the message or one of its parts
)

// Key is one key of a query. What an Op does not name is zero.
type Key struct {
	Op    Op
	Flags store.Flags
	N     int64
	Field string
	Text  string      // UTF-8
	Set   imap.UIDSet // ascending, disjoint, each range turned the right way; no "*"
}

// DayOf counts days as they are compared: a date without time and zone.
func DayOf(t time.Time) int64 {
	y, m, d := t.Date()
	return int64(y)*10000 + int64(m)*100 + int64(d)
}

// Limits bound a query.
const (
	MaxKeys  = 100_000 // keys in all: webmails ask for 20,000 Message-IDs in one command
	MaxTexts = 200     // BODY and TEXT, each of which is looked for in every byte
)

// A LimitError says that a query asks for more than the limits allow.
type LimitError struct {
	What string
	Max  int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d %s in one search", e.Max, e.What)
}

// A Query is a search being put together, in postfix order: the operands of And,
// Or and Not are added before it. The zero value is empty.
type Query struct {
	Scored bool // Found shall have scores; to be set before the first key

	keys    []Key
	texts   int
	fuzzies []fuzzy
}

// Add appends a key. It fails with a *LimitError.
func (q *Query) Add(k Key) error {
	if k.Op == Body || k.Op == Text {
		if k.Text == "" { // part of everything
			return q.Add(Key{Op: All})
		}
		if q.texts++; q.texts > MaxTexts {
			return &LimitError{"BODY and TEXT keys", MaxTexts}
		}
	}
	if len(q.keys) >= MaxKeys {
		return &LimitError{"keys", MaxKeys}
	}
	q.keys = append(q.keys, k)
	return nil
}

// Len is how many keys there are.
func (q *Query) Len() int { return len(q.keys) }

// WithSets gives the query with other sets of its UIDs keys: sets[i] is that of the key
// before whose Add Len was at[i]. q stays as it is.
func (q *Query) WithSets(at []int, sets []imap.UIDSet) Query {
	other := *q
	other.keys = slices.Clone(q.keys)
	for i, k := range at {
		other.keys[k].Set = sets[i]
	}
	return other
}

// operands is how many values before it a key takes.
func (k *Key) operands() int {
	switch k.Op {
	case And:
		return int(k.N)
	case Or:
		return 2
	case Not:
		return 1
	}
	return 0
}
