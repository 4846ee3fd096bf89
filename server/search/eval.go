package search

import (
	"bytes"
	"context"
	"slices"
	"sort"

	"roost/message"
	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// slice is how many messages are taken at once.
const slice = 512

// Source is the mailbox that is searched.
type Source struct {
	Box  store.Mailbox
	View store.View // the client's
	Low  int        // index of the first message that may be looked at

	// Parts is the kind of the notes that message.DecodeParts reads, Fields of those
	// that are a header of the fields for which Common holds. Common may be nil.
	Parts, Fields store.NoteKind
	Common        func(fields []string) bool

	// CommonOf makes such a header of a whole one, to be kept, where it is not nil; nil: it
	// is too big to keep.
	CommonOf func(header []byte) []byte

	// Keys is the kind of the notes in which what Sort and the threads compare is kept.
	Keys store.NoteKind

	// Digest is the kind of the notes that are a message.Digest.
	Digest store.NoteKind

	Limits message.Limits // of what is taken apart

	// Progress, which may be nil, is told how far it is.
	Progress *Progress

	// Others, when not nil, counts what was asked for by anybody. While it changes a search
	// leaves room to others.
	Others func() uint64

	// Opened, when not nil, is called before each message that must be opened; its
	// error ends the search.
	Opened func() error
}

// commonOf is what is to be kept of a header; nil: nothing.
func (src *Source) commonOf(header []byte) []byte {
	if src.CommonOf == nil || src.Fields == 0 || len(header) >= message.MaxSearchedHeader {
		return nil
	}
	return src.CommonOf(header)
}

// Found is the result of a search.
type Found struct {
	UIDs []imap.UID // ascending
	Nums []uint32   // their sequence numbers

	// ModSeq is the highest of theirs where the query asks for MODSEQs, else 0.
	ModSeq  store.ModSeq
	modSeqs []store.ModSeq // of each, likewise

	// Scores are 1 to 100, of each message, where the query is Scored (RFC 6203 section 4).
	Scores []uint8

	// Unread counts messages that could not be read, and so do not match what only
	// reading decides; Err is why, for the first of them.
	Unread int
	Err    error
}

// truth is what a key says of a message. NOT is yes - t.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

// run is one search under way.
type run struct {
	ctx      context.Context
	plan     *Plan
	src      Source
	want     scope
	limit    int // how many are wanted of lowest and highest
	stack    []truth
	pending  []piece // of the message at hand
	found    Found
	rowsRoom []store.Row // of the slice at hand
	done     int         // messages before the slice
	inSlice  []imap.UID  // its UIDs, as the view has them
	from     int         // the index of the first
	passed   int         // how many of them lie before what is found next
	left     []imap.UID  // those that may match

	looked   int          // messages that were looked into
	narrowed bool         // the store was asked
	may      []candidates // for which each key may hold; nil, of one too: any

	fields []string // that the plan asks for, and whether the notes hold them all
	common bool

	ahead    headers // of the slice; its next is nil where they are read one by one
	uidsRoom []imap.UID
	foldRoom []byte

	alone    bool    // messages are opened one by one
	looks    []look  // that must be opened, in order
	verdicts []truth // of the rows of the slice
	crew     *crew
	readers  [maxReaders]*run

	// Of a run that is a reader.
	scan     *message.Scanner // nil before the first is needed
	headRoom []byte
	noted    []byte // the note on the parts of the message at hand
	kept     kept   // what was made of it, to be kept

	// What is known of the message at hand.
	uid   imap.UID
	at    int // its index in the view
	row   store.Row
	size  int64
	depth level
	match matcher // found is of headers and content alike
	day   int64   // of the Date field; 0 for none
	sum   []byte  // its digest; nil: not known so far
}

// scope is which of the messages that match are wanted.
type scope uint8

const (
	all scope = iota
	lowest
	highest
)

// run finds messages of the view that match, of the highest the highest first.
func (p *Plan) run(ctx context.Context, src Source, want scope, limit int) (Found, error) {
	r := newRun(ctx, p, src)
	defer busy(&searching)()
	r.crew = newCrew(src.Others)
	defer r.crew.close()
	r.want, r.limit = want, limit
	// Where it may end before the last message none is opened that need not be.
	r.alone = want != all || p.scored || src.Opened != nil || len(p.keys) > maxTogether
	for f := range p.fields {
		r.fields = append(r.fields, f)
	}
	if p.dates {
		r.fields = append(r.fields, "date")
	}
	r.common = len(r.fields) > 0 && src.Common != nil && src.Common(r.fields)

	end := src.View.UIDs.Len()
	n := end - src.Low
	for done := 0; done < n; done += slice {
		src.Progress.At(done)
		from, to := src.Low+done, src.Low+min(done+slice, n)
		if want == highest {
			from, to = end-min(done+slice, n), end-done
		}
		r.done = done
		if err := r.slice(from, to); err != nil || r.enough() {
			return r.found, err
		}
		r.crew.turns.give()
	}
	return r.found, nil
}

// maxTogether is how many keys a query has at most whose messages are opened several at
// once: of each it is noted which keys were found.
const maxTogether = 1000

func newRun(ctx context.Context, p *Plan, src Source) *run {
	r := &run{ctx: ctx, plan: p, src: src}
	r.match = matcher{ctx: ctx, needles: p.folded, found: make([]bool, len(p.keys))}
	r.match.turns.begin()
	return r
}

// slice looks at the messages with the indexes from to to.
func (r *run) slice(from, to int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	clear(r.match.found)
	r.sum = nil
	r.inSlice = r.src.View.UIDs.AppendSlice(r.inSlice[:0], from, to)
	r.from, r.passed = from, 0
	uids := append(r.left[:0], r.inSlice...)
	r.left = uids
	if r.plan.cheapest() == byUID || r.may != nil {
		uids = r.possible(uids)
	}
	if r.plan.mask != 0 && len(uids) > 0 {
		var err error
		if uids, err = r.src.Box.Having(r.ctx, uids, r.plan.mask, r.plan.want); err != nil {
			return err
		}
	}
	if !r.narrowed && r.want == all && len(uids) > narrowAfter && r.plan.textsOnly {
		if err := r.narrow(); err != nil {
			return err
		}
		if r.may != nil {
			uids = r.possible(uids)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	if r.want == highest {
		slices.Reverse(uids)
	}
	if r.plan.deepest() == byUID || r.plan.flagsOnly {
		for _, u := range uids {
			if r.add(store.Row{UID: u}); r.enough() {
				break
			}
		}
		return nil
	}
	rows, err := r.rows(uids)
	if err != nil {
		return err
	}
	if r.common && r.narrowed && r.want != highest {
		r.headersOf(rows)
		defer func() {
			r.ahead.stop()
			r.ahead = headers{}
		}()
	}
	if r.alone {
		return r.oneByOne(rows)
	}
	return r.batches(rows)
}

// possible keeps those of uids, which ascend, that are not ruled out by what is known of them
// without their rows.
func (r *run) possible(uids []imap.UID) []imap.UID {
	left, i := uids[:0], 0
	for _, u := range uids {
		for r.inSlice[i] != u {
			i++
		}
		r.uid, r.at, r.depth = u, r.from+i, byUID
		if r.hold(r.plan.pieces) != no {
			left = append(left, u)
		}
	}
	return left
}

// oneByOne looks at the messages of a slice until there are enough.
func (r *run) oneByOne(rows []store.Row) error {
	shallow := r.plan.deepest() == byRow // the slice is done in no time
	for i, row := range rows {
		t, err := r.message(row)
		if err == nil && !r.decided(t) {
			t, err = r.openNow(row)
		}
		if !shallow {
			r.src.Progress.At(r.done + i + 1)
		}
		if err != nil {
			return err
		}
		if t == yes {
			if r.add(row); r.enough() {
				break
			}
		}
	}
	return nil
}

// batches looks at the messages of a slice, and at those that must be opened several at once.
func (r *run) batches(rows []store.Row) error {
	r.verdicts = slices.Grow(r.verdicts[:0], len(rows))[:len(rows)]
	for i, row := range rows {
		t, err := r.message(row)
		if err != nil {
			return err
		}
		r.verdicts[i] = t
		if r.decided(t) {
			continue
		}
		r.looks = append(r.looks, look{
			at: i, row: row, depth: r.depth, found: slices.Clone(r.match.found), day: r.day, sum: r.sum,
		})
		if len(r.looks) == batch {
			if err := r.open(); err != nil {
				return err
			}
		}
	}
	if err := r.open(); err != nil {
		return err
	}
	for i, t := range r.verdicts {
		if t == yes {
			r.add(rows[i])
		}
	}
	return nil
}

// enough tells that what was found is all that is wanted.
func (r *run) enough() bool { return r.want != all && len(r.found.UIDs) >= r.limit }

func (r *run) add(row store.Row) {
	i := r.indexOf(row.UID)
	r.found.UIDs = append(r.found.UIDs, row.UID)
	r.found.Nums = append(r.found.Nums, uint32(i)+1)
	if r.plan.scored {
		r.found.Scores = append(r.found.Scores, r.score())
	}
	if r.plan.modSeq {
		r.found.ModSeq = max(r.found.ModSeq, row.ModSeq)
		r.found.modSeqs = append(r.found.modSeqs, row.ModSeq)
	}
}

// indexOf gives the index in the view of a message of the slice.
func (r *run) indexOf(uid imap.UID) int {
	// Mostly it lies a little behind the one before.
	uids := r.inSlice
	for i := r.passed; i < min(r.passed+32, len(uids)); i++ {
		if uids[i] == uid {
			r.passed = i + 1
			return r.from + i
		}
	}
	i, _ := slices.BinarySearch(uids, uid)
	r.passed = i + 1
	return r.from + i
}

func (r *run) rows(uids []imap.UID) ([]store.Row, error) {
	rows := r.rowsRoom[:0]
	backwards := r.want == highest
	if backwards { // Rows wants them ascending
		slices.Reverse(uids)
	}
	for part, err := range r.src.Box.Rows(r.ctx, uids, 0) {
		if err != nil {
			return nil, err
		}
		if r.plan.measure {
			if err := r.src.Box.Measure(r.ctx, part); err != nil {
				return nil, err
			}
		}
		rows = append(rows, part...)
	}
	r.rowsRoom = rows
	if backwards {
		slices.Reverse(rows)
	}
	return rows, nil
}

// meet makes a message the one at hand.
func (r *run) meet(row store.Row) {
	r.uid, r.row, r.size, r.day, r.sum = row.UID, row, row.Size, 0, nil
	if r.may != nil {
		r.at, _ = r.src.View.UIDs.Find(row.UID)
	}
	clear(r.match.found)
	r.depth = byRow
}

// message decides about one message, as far as it can without opening it.
func (r *run) message(row store.Row) (truth, error) {
	r.meet(row)
	r.pending = append(r.pending[:0], r.plan.pieces...)
	first := r.hold(r.pending)
	if r.decided(first) { // before t, which the loops below share, is allocated
		return first, nil
	}
	if !r.narrowed {
		if r.looked++; r.looked > narrowAfter {
			if err := r.narrow(); err != nil {
				return no, err
			}
			return r.message(row)
		}
	}
	t := first
	if r.plan.digests {
		for _, note := range r.notes(r.src.Digest) {
			if len(note) == message.DigestLen { // else it is none of ours
				r.sum = bytes.Clone(note)
				t = r.hold(r.pending)
			}
		}
	}
	if !r.decided(t) && r.common {
		if r.ahead.next != nil {
			if note, ok := r.ahead.of(row.UID); ok {
				if err := r.header(note); err != nil {
					return no, err
				}
				t = r.hold(r.pending)
			}
		} else {
			for _, note := range r.notes(r.src.Fields) {
				if err := r.header(note); err != nil {
					return no, err
				}
				t = r.hold(r.pending)
			}
		}
	}
	return t, nil
}

// hold joins pieces: the decided ones are dropped where pieces is r.pending, so
// that deeper looks only ask the rest.
func (r *run) hold(pieces []piece) truth {
	all := yes
	left := r.pending[:0]
	for _, p := range pieces {
		t := r.eval(p)
		if t == no {
			return no
		}
		if t == maybe {
			if r.depth > byUID {
				left = append(left, p)
			}
			all = maybe
		}
	}
	if r.depth > byUID {
		r.pending = left
	}
	return all
}

// eval gives the value of a piece, as far as it is known.
func (r *run) eval(p piece) truth {
	st := r.stack[:0]
	for i := p.from; i < p.to; i++ {
		k := &r.plan.keys[i]
		switch k.Op {
		case And:
			t := yes
			for _, x := range st[len(st)-int(k.N):] {
				t = min(t, x)
			}
			st = append(st[:len(st)-int(k.N)], t)
		case Or:
			t := max(st[len(st)-1], st[len(st)-2])
			st = append(st[:len(st)-2], t)
		case Not:
			st[len(st)-1] = yes - st[len(st)-1]
		default:
			st = append(st, r.leaf(k, i))
		}
	}
	r.stack = st
	return st[len(st)-1]
}

// leaf gives the value of a key that joins nothing.
func (r *run) leaf(k *Key, i int) truth {
	if k.Op == Digest { // whatever else was looked at
		if r.sum == nil {
			return maybe
		}
		return is(k.Text == string(r.sum))
	}
	if k.level() > r.depth {
		// A text that was found stays found; that it is not there is known in the end.
		if r.match.found[i] {
			return yes
		}
		if r.ruledOut(i) {
			return no
		}
		return maybe
	}
	switch k.Op {
	case UIDs:
		n := sort.Search(len(k.Set), func(n int) bool { return k.Set[n].Stop >= r.uid })
		return is(n < len(k.Set) && k.Set[n].Start <= r.uid)
	case Flag:
		return is(r.row.Flags&k.Flags != 0)
	case Word:
		return is(r.row.Keywords.Has(k.Text))
	case Larger, Smaller:
		if r.size < 0 {
			return maybe // until the message is opened
		}
		return is(k.Op == Larger && r.size > k.N || k.Op == Smaller && r.size < k.N)
	case Before:
		return is(r.row.Internal < k.N)
	case Since:
		return is(r.row.Internal >= k.N)
	case SavedBefore:
		return is(r.row.Saved < k.N)
	case SavedSince:
		return is(r.row.Saved >= k.N)
	case ModSeq:
		return is(r.row.ModSeq >= store.ModSeq(k.N))
	case SentBefore:
		return is(r.day > 0 && r.day < k.N)
	case SentOn:
		return is(r.day == k.N)
	case SentSince:
		return is(r.day >= k.N)
	case Header, Body, Text:
		return is(r.match.found[i])
	}
	return yes
}

func is(b bool) truth {
	if b {
		return yes
	}
	return no
}

// comparisons is for how many bytes texts are looked for in fields, 64 for each beside them,
// before it is asked whether the search shall go on.
const comparisons = 1 << 20
