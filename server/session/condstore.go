package session

import (
	"strconv"

	"github.com/emersion/go-imap/v2"

	"roost/server/wire"
	"roost/store"
)

// CONDSTORE: RFC 7162 section 3.1. MODSEQs come with the rows of the store; here is what
// the commands that know of them have in common.

// condstoreOn is what each CONDSTORE enabling command does (RFC 7162 section 3.1): from
// now on FETCH responses carry MODSEQs, and the client of a selected mailbox is told how
// far what it knows goes.
func (s *session) condstoreOn() {
	if s.condstore {
		return
	}
	s.condstore = true
	if s.sel != nil && !s.sel.noModSeq {
		s.writeHighest(s.sel.cursor())
	}
}

// writeHighest writes the cursor that a client may come back with.
func (s *session) writeHighest(m store.ModSeq) {
	s.enc.Raw("* OK [").Raw(highest(m)).Raw("] Highest\r\n")
}

func highest(m store.ModSeq) string { return "HIGHESTMODSEQ " + strconv.FormatUint(uint64(m), 10) }

// needsModSeq is for what asks for MODSEQs: it turns CONDSTORE on, but is refused in a
// mailbox that has none (RFC 7162 section 3.1.2.2).
func (s *session) needsModSeq(what string) error {
	if s.sel.noModSeq {
		return bad("%s: this mailbox has no MODSEQs", what)
	}
	s.condstoreOn()
	return nil
}

// appendModSeq writes the FETCH item, and notes how far ahead of the view it is.
func (s *session) appendModSeq(b []byte, m store.ModSeq) []byte {
	s.sel.shown = max(s.sel.shown, m)
	b = append(b, "MODSEQ ("...)
	b = strconv.AppendUint(b, uint64(m), 10)
	return append(b, ')')
}

// guarded gives an answer the cursor below it, where MODSEQs were told that lie above
// an EXPUNGE which was not, or a change of flags that NOTIFY keeps back: a client that is
// cut off now would else come back with theirs, and never hear of it (RFC 7162 section 3.2).
func (s *session) guarded(r reply) reply {
	sel := s.sel
	if sel == nil {
		return r
	}
	ahead := sel.shown > sel.cursor()
	sel.shown = 0
	if !ahead {
		return r
	}
	return s.withCursor(r)
}

// withCursor tells the cursor by the answer itself, or in front of it where that has another
// code.
func (s *session) withCursor(r reply) reply {
	if r.kind == "OK" && r.code == "" {
		r.code = highest(s.sel.cursor())
	} else {
		s.writeHighest(s.sel.cursor())
	}
	return r
}

// fetchModifiers are what may stand behind the items of FETCH (RFC 4466 section 2.4).
type fetchModifiers struct {
	changedSince bool
	since        store.ModSeq
	vanished     bool
	partial      resultRange // of the messages of the set, before CHANGEDSINCE is looked at
}

// fetchModifiers reads "(CHANGEDSINCE 12345 VANISHED)", or nothing, to the end of the
// command. RFC 7162 section 3.1.4.1, RFC 7162 section 3.2.6. CHANGEDSINCE 0 is what iOS sends.
// Behind a PREVIEW that stands in no list "(LAZY)" may come first: RFC 8970 section 6.
func (s *session) fetchModifiers(c call, items []fetchItem) (m fetchModifiers, err error) {
	if s.lex.AtEnd() {
		return m, s.end()
	}
	if err := s.lex.SP(); err != nil {
		return m, err
	}
	alone := &items[0]
	one := func() error {
		name, err := s.lex.Keyword()
		switch {
		case err != nil:
			return err
		case name == "LAZY" && alone.kind == fetchPreview && !alone.listed && m == (fetchModifiers{}):
			alone.lazy = true
			return nil
		case name == "CHANGEDSINCE" && !m.changedSince:
			m.changedSince = true
			m.since, err = modSeqArgument(s.lex)
			return err
		case name == "VANISHED" && !m.vanished:
			m.vanished = true
			return nil
		case name == "PARTIAL" && m.partial.text == "":
			m.partial, err = s.resultRange()
			return err
		}
		return bad("Unknown or repeated modifier %s", shown(name))
	}
	err = s.lex.List(one)
	if err == nil && alone.lazy && !alone.listed {
		if m != (fetchModifiers{}) {
			return m, bad("LAZY is a modifier of PREVIEW")
		}
		if s.lex.AtEnd() {
			return m, s.end()
		}
		alone.listed = true
		if err = s.lex.SP(); err == nil {
			err = s.lex.List(one)
		}
	}
	if err == nil {
		err = s.end()
	}
	switch {
	case err != nil:
		return m, err
	case m == (fetchModifiers{}):
		return m, bad("The list of modifiers is empty")
	case m.partial.text != "" && !c.uid:
		return m, bad("PARTIAL is a modifier of UID FETCH") // RFC 9394 section 3.3
	case m.vanished && !c.uid:
		return m, bad("VANISHED is a modifier of UID FETCH")
	case m.vanished && !m.changedSince:
		return m, bad("VANISHED needs CHANGEDSINCE")
	case m.vanished && !s.qresync:
		return m, bad("VANISHED needs ENABLE QRESYNC first")
	}
	return m, nil
}

func modSeqArgument(lex *wire.Lexer) (store.ModSeq, error) {
	if err := lex.SP(); err != nil {
		return 0, err
	}
	n, err := lex.Number64()
	return store.ModSeq(n), err
}

// storeModifiers reads "(UNCHANGEDSINCE 12345) " where it stands before the item of
// STORE. RFC 7162 section 3.1.3.
func (s *session) storeModifiers(op *store.FlagOp) error {
	if c, err := s.lex.Peek(); err != nil || c != '(' {
		return err
	}
	err := s.lex.List(func() error {
		name, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		if name != "UNCHANGEDSINCE" || op.HasUnchangedSince {
			return bad("Unknown or repeated modifier %s", shown(name))
		}
		op.HasUnchangedSince = true
		op.UnchangedSince, err = modSeqArgument(s.lex)
		return err
	})
	if err == nil && !op.HasUnchangedSince {
		err = bad("The list of modifiers is empty")
	}
	if err != nil {
		return err
	}
	return s.lex.SP()
}

// modifiedCode is the response code that names the messages which UNCHANGEDSINCE
// refused. RFC 7162 section 3.1.3.
func (s *session) modifiedCode(c call, uids []imap.UID) string {
	code := []byte("MODIFIED ")
	if c.uid {
		return string(wire.AppendSet(code, uids))
	}
	var seqs []uint32
	for _, uid := range uids {
		if n := s.sel.seq(uid); n > 0 {
			seqs = append(seqs, n)
		}
	}
	return string(wire.AppendSet(code, seqs))
}
