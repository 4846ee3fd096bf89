package session

import (
	"strconv"
	"strings"

	"roost/server/search"
	"roost/server/wire"
)

// PARTIAL, a result option of SEARCH and SORT and a modifier of UID FETCH: RFC 9394.

// resultRange is a range of results, and how the client wrote it.
type resultRange struct {
	search.Range
	text string
}

// resultRange reads " 1:500" or " -1:-100".
func (s *session) resultRange() (r resultRange, err error) {
	if err := s.lex.SP(); err != nil {
		return r, err
	}
	if r.text, err = s.lex.Atom(); err != nil {
		return r, err
	}
	first, last, ok := strings.Cut(r.text, ":")
	if strings.HasPrefix(first, "-") && strings.HasPrefix(last, "-") {
		first, last, r.FromEnd = first[1:], last[1:], true
	}
	a, errA := nzNumber(first)
	b, errB := nzNumber(last)
	if !ok || errA != nil || errB != nil {
		return r, bad("PARTIAL takes a range like 1:500 or -1:-500, not %s", shown(r.text))
	}
	r.First, r.Last = min(a, b), max(a, b)
	return r, nil
}

// nzNumber reads a number above 0 of 32 bits, of digits alone.
func nzNumber(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || s[0] < '0' || '9' < s[0] {
		return 0, strconv.ErrSyntax
	}
	return uint32(n), nil
}

// write writes the result option: the range as it was asked, and what is in it.
func (r resultRange) write(enc *wire.Encoder, nums []uint32) {
	enc.Raw(" PARTIAL (").Raw(r.text).SP()
	if len(nums) == 0 {
		enc.Raw("NIL")
	} else {
		enc.Nums(nums)
	}
	enc.Raw(")")
}
