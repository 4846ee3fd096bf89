package search

import (
	"cmp"
	"errors"
	"math/bits"
	"slices"
	"strings"

	"roost/message"
	"roost/store"
)

// level is how deep a message must be looked at to decide a key.
type level uint8

const (
	byUID level = iota
	byRow
	byHeader
	byContent
)

// level of a key that joins others is that of the deepest of them.
func (k *Key) level() level {
	switch k.Op {
	case Flag, Word, Larger, Smaller, Before, Since, SavedBefore, SavedSince, ModSeq:
		return byRow
	case SentBefore, SentOn, SentSince, Header:
		return byHeader
	case Body, Text, Digest:
		return byContent
	}
	return byUID
}

// errQuery is returned for keys that are no postfix form.
var errQuery = errors.New("search: operands are missing or too many")

// A Plan is a query made ready. Safe for concurrent use once made.
type Plan struct {
	keys   []Key
	folded [][]byte // of each key that holds text
	pieces []piece  // must all hold; the cheap ones first

	fields  map[string][]int // the Header keys of each field, whose name is in small letters
	listed  []fieldKeys      // the same, where they are few
	dates   bool             // the Date field is asked for
	digests bool             // digests are asked for
	modSeq  bool             // MODSEQs are asked for, and so answered
	measure bool             // rows' dates or sizes are asked for
	content []int            // the Body and Text keys
	texts   []int            // the Text keys

	mask, want store.Flags // of the flags of mask a message must have those of want and no others
	flagsOnly  bool        // and nothing else but the UID decides, and is asked for
	textsOnly  bool        // and of what else is in a row nothing decides alone

	scored   bool
	fuzzies  []fuzzy // whose scores are wanted
	scoredAt level   // how deep they must be looked for
}

// fieldKeys are the Header keys of one field.
type fieldKeys struct {
	name string
	keys []int
}

// maxListed is how many fields are compared with a name one by one.
const maxListed = 4

// piece is a part of the query that stands for itself: keys[from:to].
type piece struct {
	from, to int
	level    level
}

// NewPlan makes a query ready. The keys added last and joined by nothing must all
// hold.
func NewPlan(q Query) (*Plan, error) {
	p := &Plan{keys: q.keys, folded: make([][]byte, len(q.keys)), fields: map[string][]int{}}
	p.scored, p.fuzzies = q.Scored, q.fuzzies
	for _, g := range p.fuzzies {
		p.scoredAt = max(p.scoredAt, p.keys[g.stems[0]].level())
	}
	var open []piece // the values that would be on the stack
	for i := range p.keys {
		k := &p.keys[i]
		n := k.operands()
		if n > len(open) {
			return nil, errQuery
		}
		joined := piece{i, i + 1, k.level()}
		operands := open[len(open)-n:]
		for _, o := range operands {
			joined.level = max(joined.level, o.level)
		}
		if n > 0 {
			joined.from = operands[0].from
		}
		if k.Op == And && i == len(p.keys)-1 {
			break // its operands are pieces
		}
		open = append(open[:len(open)-n], joined)
		p.note(i)
	}
	p.pieces = open
	slices.SortStableFunc(p.pieces, func(a, b piece) int { return cmp.Compare(a.level, b.level) })
	p.noteFlags()
	if len(p.fields) <= maxListed {
		for name, keys := range p.fields {
			p.listed = append(p.listed, fieldKeys{name, keys})
		}
	}
	return p, nil
}

// noteFlags finds what the pieces ask of flags: the store is asked for the messages that have
// them, before anything else is known of any.
func (p *Plan) noteFlags() {
	p.flagsOnly, p.textsOnly = !p.modSeq, p.deepest() >= byHeader
	for _, piece := range p.pieces {
		k := &p.keys[piece.from]
		want := k.Flags
		negated := piece.to == piece.from+2 && p.keys[piece.from+1].Op == Not
		if negated {
			want = 0
		}
		switch {
		case piece.level == byUID:
		case k.Op != Flag, !negated && piece.to != piece.from+1, // of others rows tell
			bits.OnesCount8(uint8(k.Flags)) != 1 && !negated,
			p.want&p.mask&k.Flags != want&p.mask: // FLAGGED UNFLAGGED
			p.flagsOnly = false
			p.textsOnly = p.textsOnly && piece.level > byRow
		default:
			p.mask |= k.Flags
			p.want |= want
		}
	}
	p.flagsOnly = p.flagsOnly && p.mask != 0
}

// note prepares the text of key i.
func (p *Plan) note(i int) {
	switch k := &p.keys[i]; k.Op {
	case Header:
		name := strings.ToLower(k.Field)
		p.fields[name] = append(p.fields[name], i)
		p.folded[i] = message.AppendFold(nil, []byte(k.Text))
	case Body, Text:
		p.content = append(p.content, i)
		if k.Op == Text {
			p.texts = append(p.texts, i)
		}
		p.folded[i] = message.AppendFold(nil, []byte(k.Text))
	case SentBefore, SentOn, SentSince:
		p.dates = true
	case ModSeq:
		p.modSeq = true
	case Larger, Smaller, Before, Since, SavedBefore, SavedSince:
		p.measure = true
	case Digest:
		p.digests = true
	}
}

// cheapest is the level of the cheapest key.
func (p *Plan) cheapest() level {
	if len(p.pieces) == 0 {
		return byUID
	}
	return p.pieces[0].level
}

// named gives the Header keys that ask for a field of this name.
func (p *Plan) named(f message.Field) []int {
	for i := range p.listed { // to go through a map costs more than to compare
		if f.Is(p.listed[i].name) {
			return p.listed[i].keys
		}
	}
	if len(p.fields) > maxListed {
		return p.fields[strings.ToLower(string(f.Name))]
	}
	return nil
}

// deepest is the level of the deepest key.
func (p *Plan) deepest() level {
	if len(p.pieces) == 0 {
		return byUID
	}
	return p.pieces[len(p.pieces)-1].level
}
