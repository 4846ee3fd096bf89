package wire

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/emersion/go-imap/v2"
)

// span is one range of a set; 0 stands for "*". first <= last, but for "n:*",
// which is {n, 0}, and "*", which is {0, 0}.
type span struct{ first, last uint32 }

// SeqSet reads a set of message sequence numbers (RFC 9051 section 9,
// sequence-set): sorted, without overlap, ranges turned the right way, "*" as 0
// and last. It is never empty. For "$", the saved result, see NumSet.
func (l *Lexer) SeqSet() (imap.SeqSet, error) {
	spans, err := l.spans()
	if err != nil {
		return nil, err
	}
	set := make(imap.SeqSet, len(spans))
	for i, s := range spans {
		set[i] = imap.SeqRange{Start: s.first, Stop: s.last}
	}
	return set, nil
}

// UIDSet reads a set of UIDs like SeqSet, or "$" as imap.SearchRes (RFC 5182).
func (l *Lexer) UIDSet() (imap.UIDSet, error) {
	if l.Accept('$') {
		return imap.SearchRes(), nil
	}
	spans, err := l.spans()
	if err != nil {
		return nil, err
	}
	set := make(imap.UIDSet, len(spans))
	for i, s := range spans {
		set[i] = imap.UIDRange{Start: imap.UID(s.first), Stop: imap.UID(s.last)}
	}
	return set, nil
}

// NumSet reads the set of a command: of UIDs with uid, else of sequence numbers.
// "$" is imap.SearchRes in both cases.
func (l *Lexer) NumSet(uid bool) (imap.NumSet, error) {
	if c, err := l.Peek(); err != nil {
		return nil, err
	} else if uid || c == '$' {
		return nilless(l.UIDSet())
	}
	return nilless(l.SeqSet())
}

// nilless keeps a nil set from becoming an interface that is not nil.
func nilless[S imap.NumSet](set S, err error) (imap.NumSet, error) {
	if err != nil {
		return nil, err
	}
	return set, nil
}

func (l *Lexer) spans() ([]span, error) {
	var spans []span
	for {
		first, err := l.setNumber()
		if err != nil {
			return nil, err
		}
		last := first
		if l.Accept(':') {
			if last, err = l.setNumber(); err != nil {
				return nil, err
			}
		}
		if first == 0 || first > last && last != 0 { // "*:5", "9:3"
			first, last = last, first
		}
		spans = append(spans, span{first, last})
		if !l.Accept(',') {
			return joined(spans), nil
		}
	}
}

func (l *Lexer) setNumber() (uint32, error) {
	if l.Accept('*') {
		return 0, nil
	}
	at := l.off
	n, err := l.number("a message number or '*'", 1<<32-1)
	if err == nil && n == 0 {
		err = &SyntaxError{Offset: at, Want: "a message number above 0", Got: "0"}
	}
	return uint32(n), err
}

// joined sorts the spans and joins those that touch. What begins above the n of
// "n:*" adds no message to it, wherever the mailbox ends, and is dropped.
func joined(spans []span) []span {
	top := func(n uint32) uint64 {
		if n == 0 {
			return 1 << 32
		}
		return uint64(n)
	}
	order := func(a, b span) int {
		return cmp.Or(cmp.Compare(top(a.first), top(b.first)), cmp.Compare(top(a.last), top(b.last)))
	}
	if !slices.IsSortedFunc(spans, order) {
		slices.SortFunc(spans, order)
	}
	out := spans[:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		switch {
		case last.last == 0:
		case s.last != 0 && uint64(s.first) <= uint64(last.last)+1:
			last.last = max(last.last, s.last)
		default:
			out = append(out, s)
		}
	}
	return out
}

// AppendSet appends the shortest sequence-set of numbers, in their order: "1:3,7".
// Ascending numbers give the shortest; others keep their order, as COPYUID needs.
func AppendSet[N ~uint32](b []byte, nums []N) []byte {
	for i := 0; i < len(nums); {
		j := i
		for j+1 < len(nums) && nums[j+1] == nums[j]+1 {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(nums[i]), 10)
		if j > i {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(nums[j]), 10)
		}
		i = j + 1
	}
	return b
}
