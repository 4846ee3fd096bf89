package session

import (
	"context"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// UIDBATCHES: RFC 10022. A client that must not or cannot go by sequence numbers learns
// ranges of UIDs that hold so many messages each.

// minBatch is the smallest number of messages that a client may ask for in a batch.
const minBatch = 500

// uidBatches runs UIDBATCHES size [first:last]. Without first and last all batches are told.
func (s *session) uidBatches(_ context.Context, c call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	size, err := s.lex.NZNumber()
	if err != nil {
		return "", err
	}
	first, last := uint32(1), uint32(1<<32-1)
	if !s.lex.AtEnd() {
		if first, last, err = s.batchRange(); err != nil {
			return "", err
		}
	}
	if err := s.end(); err != nil {
		return "", err
	}
	switch {
	case last < first:
		return "", reply{"BAD", "CLIENTBUG", "The first batch comes before the last"}
	case size < minBatch:
		return "", no("TOOFEW", "A batch has at least %d messages", minBatch)
	}
	s.enc.Raw("* UIDBATCHES (TAG ").String(c.tag).Raw(")")
	between := " "
	for _, b := range batches(s.sel.view.UIDs.Len(), int64(size), first, last) {
		// A range goes down to the next one, so that what lies between is in no doubt.
		low := imap.UID(1)
		if b.from > 0 {
			low = s.sel.view.UIDs.At(b.from-1) + 1
		}
		s.enc.Raw(between).Number(uint64(s.sel.view.UIDs.At(b.to - 1))).Raw(":").Number(uint64(low))
		between = ","
	}
	s.enc.CRLF()
	return "", nil
}

// batchRange reads " 10:20".
func (s *session) batchRange() (first, last uint32, err error) {
	if err := s.lex.SP(); err != nil {
		return 0, 0, err
	}
	text, err := s.lex.Atom()
	if err != nil {
		return 0, 0, err
	}
	from, to, ok := strings.Cut(text, ":")
	first, errFirst := nzNumber(from)
	last, errLast := nzNumber(to)
	if !ok || errFirst != nil || errLast != nil {
		return 0, 0, bad("UIDBATCHES takes a range of batches like 10:20, not %s", shown(text))
	}
	return first, last, nil
}

// batches parts n messages into batches of size, the newest first, and gives those from
// first to last. The oldest may be smaller.
func batches(n int, size int64, first, last uint32) []indexes {
	var out []indexes
	for k := int64(first - 1); k < int64(last) && k*size < int64(n); k++ {
		to := int64(n) - k*size
		out = append(out, indexes{int(max(0, to-size)), int(to)})
	}
	return out
}
