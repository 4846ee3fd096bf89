package session

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/server/wire"
	"roost/store"
)

// append adds messages to a mailbox, all or none. RFC 9051 section 6.3.12,
// RFC 3502, RFC 3516 section 4.4, RFC 6855 section 4. What can be refused is
// refused before the client is asked for a message.
func (s *session) append(ctx context.Context, c call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	to, err := s.mailbox(ctx)
	if err != nil {
		return "", err
	}
	var batch store.Batch
	defer func() {
		if batch != nil { // it is not held
			batch.Close()
		}
	}()
	count, bytes := 0, int64(0)
	for ; ; count++ {
		if s.lex.AtEnd() && count > 0 {
			break
		}
		if err := s.lex.SP(); err != nil {
			return "", err
		}
		if s.lex.AtEnd() && count > 0 {
			break
		}
		if n := s.saveLimit(); n > 0 && count >= n {
			return "", no(limitCode(n, 0), "At most %d messages can be appended at once", n)
		}
		meta, err := s.appendMeta()
		if err != nil {
			return "", err
		}
		lit, utf8, err := s.appendLiteral()
		if err != nil {
			return "", err
		}
		if lit.Size == 0 && count > 0 {
			return "", no("", "A message of no bytes cancels the command") // RFC 3502 section 6.3.11
		}
		bytes += lit.Size
		if !s.holds(to, count+1, bytes) {
			if err := s.settle(ctx); err != nil {
				return "", err
			}
		}
		if batch == nil {
			if batch, err = s.acct.Batch(ctx, to.name); err != nil {
				return "", toTarget(err)
			}
		}
		if err := s.take(ctx, batch, meta, lit, utf8); err != nil {
			return "", toTarget(err)
		}
	}
	if err := s.end(); err != nil {
		return "", err
	}
	put := heldAppend{c, to, batch}
	batch = nil
	return "", s.hold(ctx, put, count, bytes)
}

// commit shows the messages of a batch, and gives the code that tells where they are; "" where
// there were none.
func (s *session) commit(ctx context.Context, batch store.Batch, to spelled) (string, error) {
	progress := s.waiting()
	added, err := batch.Commit(ctx)
	progress.stop()
	if err != nil {
		return "", toTarget(err)
	}
	s.addedOwn(to.name, added)
	s.writeOldName(to)
	return appendedCode(added), nil
}

// take adds a message, whose end is behind the literal.
func (s *session) take(ctx context.Context, batch store.Batch, meta store.Meta, lit *wire.Literal, utf8 bool) error {
	if err := batch.Admit(lit.Size); err != nil {
		return err
	}
	// The first FETCH then finds its answers ready.
	passing, notes := newDeriver(s.opt.Limits.MIME)
	meta.Notes = notes
	if err := batch.Add(ctx, meta, io.TeeReader(lit, passing)); err != nil {
		return err
	}
	if lit.Left() > 0 {
		return no("SERVERBUG", "Message was not read to its end")
	}
	if utf8 {
		return s.lex.Expect(')')
	}
	return nil
}

// appendMeta reads flags and date, both optional.
func (s *session) appendMeta() (store.Meta, error) {
	var meta store.Meta
	if c, err := s.lex.Peek(); err != nil {
		return meta, err
	} else if c == '(' {
		flags, err := s.lex.FlagList()
		if err != nil {
			return meta, err
		}
		if meta.Flags, err = keptFlags(flags); err != nil {
			return meta, err
		}
		if err := s.lex.SP(); err != nil {
			return meta, err
		}
	}
	if c, err := s.lex.Peek(); err != nil {
		return meta, err
	} else if c == '"' {
		if meta.Time, err = s.lex.DateTime(); err != nil {
			return meta, err
		}
		return meta, s.lex.SP()
	}
	return meta, nil
}

// appendLiteral reads the announcement of a message: a literal, or UTF8 (~{n}, which
// needs UTF8=ACCEPT (RFC 6855 section 4) and has a parenthesis behind it. Messages that
// are too big are refused here.
func (s *session) appendLiteral() (lit *wire.Literal, utf8 bool, err error) {
	if lit, utf8, err = s.announced(); err == nil && lit.Size > s.appendLimit() {
		err = no("TOOBIG", "Message is larger than %d bytes", s.appendLimit())
	}
	return lit, utf8, err
}

func (s *session) announced() (lit *wire.Literal, utf8 bool, err error) {
	c, err := s.lex.Peek()
	if err != nil {
		return nil, false, err
	}
	if c != 'U' && c != 'u' {
		if c != '{' && c != '~' {
			return nil, false, s.lex.Unexpected("flags, a date or a literal")
		}
		lit, err = s.lex.Literal()
		return lit, false, err
	}
	word, err := s.lex.Keyword()
	if err != nil {
		return nil, false, err
	}
	if word != "UTF8" {
		return nil, false, bad("Expected a literal, got %s", shown(word))
	}
	if !s.utf8 {
		return nil, false, bad("UTF8 needs ENABLE UTF8=ACCEPT first")
	}
	if err := s.lex.SP(); err != nil {
		return nil, false, err
	}
	if err := s.lex.Expect('('); err != nil {
		return nil, false, err
	}
	if lit, err = s.lex.Literal(); err == nil && !lit.Binary {
		err = bad("UTF8 needs a literal of the form ~{n}")
	}
	return lit, true, err
}

// maxKeyword is how long a keyword may be, in bytes. FLAGS tells of all that a mailbox has to
// whoever opens it.
const maxKeyword = 255

// keptFlags checks the flags of a client, and gives each once. \Recent, which copying programs
// send along, is dropped: nobody can set it. Another unknown name with a backslash is BAD.
func keptFlags(flags []imap.Flag) ([]imap.Flag, error) {
	seen := map[string]bool{`\recent`: true}
	flags = slices.DeleteFunc(flags, func(f imap.Flag) bool {
		name := strings.ToLower(string(f))
		again := seen[name]
		seen[name] = true
		return again
	})
	if _, _, unknown := store.SplitFlags(flags); unknown != "" {
		return nil, bad("There is no system flag %s", shown(string(unknown)))
	}
	for _, f := range flags {
		if len(f) > maxKeyword {
			return nil, no("LIMIT", "Keyword %s is longer than %d bytes", shown(string(f)), maxKeyword)
		}
	}
	return flags, nil
}
