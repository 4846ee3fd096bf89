package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"roost/server/wire"
	"roost/store"
)

// reply is a tagged answer. As an error it is what a command ends with when it is
// not OK.
type reply struct {
	kind string // OK, NO, BAD
	code string // response code with its arguments, without brackets
	text string
}

func (r reply) Error() string { return r.kind + " [" + r.code + "] " + r.text }

func no(code, format string, args ...any) error {
	return reply{"NO", code, fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) error {
	return reply{kind: "BAD", text: fmt.Sprintf(format, args...)}
}

// tagged writes the answer that ends a command. RFC 9051 section 7.1.
func (s *session) tagged(tag string, r reply) {
	s.enc.Raw(tag).SP().Raw(r.kind).SP()
	if r.code != "" {
		s.enc.Raw("[").Raw(r.code).Raw("] ")
	}
	s.enc.Raw(r.text).CRLF()
}

// okCode makes the text of an OK that carries a response code.
func okCode(code, text string) string { return "[" + code + "] " + text }

// codes pairs the seam's errors with response codes and words for people.
// RFC 5530 section 3, RFC 9051 section 7.1.
var codes = []struct {
	err        error
	code, text string
}{
	{store.ErrNotFound, "NONEXISTENT", "No such mailbox"},
	{store.ErrExists, "ALREADYEXISTS", "Mailbox already exists"},
	{store.ErrNoPermission, "NOPERM", "Permission denied"},
	{store.ErrReadOnly, "NOPERM", "Mailbox is read-only"},
	{store.ErrOverQuota, "OVERQUOTA", "No room left"},
	{store.ErrTooBig, "TOOBIG", "Message is too big"},
	{store.ErrGone, "EXPUNGEISSUED", "Some of the messages were expunged"},
	{store.ErrReplaced, "NONEXISTENT", "Selected mailbox was deleted"},
	{store.ErrUnsupported, "CANNOT", "Message is encrypted or compressed in a way that is not supported"},
	{store.ErrCannot, "CANNOT", "Mailbox name is not possible here"},
	{store.ErrNoSelect, "NONEXISTENT", "Name holds other mailboxes but no messages"},
	{store.ErrHasChildren, "HASCHILDREN", "Mailbox has children"},
	{store.ErrInUse, "INUSE", "Mailbox is in use; try again"},
	{store.ErrLimit, "LIMIT", "A limit was reached"},
	{store.ErrUnavailable, "UNAVAILABLE", "Temporarily unavailable; try again later"},
	{store.ErrDamaged, "CORRUPTION", "Message is damaged"},
	{store.ErrUnreadable, "SERVERBUG", "A message cannot be read"},
}

// status maps the error of a command to its answer. What it does not know is
// logged whole with an id that the client is shown; no path goes out.
func (s *session) status(err error) reply {
	var r reply
	var syntax *wire.SyntaxError
	var limit *wire.LimitError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &syntax):
		return reply{"BAD", "", "Syntax: " + syntax.Error()}
	case errors.As(err, &limit):
		return reply{"BAD", "LIMIT", "Too long: " + limit.Error()}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return reply{"NO", "UNAVAILABLE", "Interrupted"}
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			if c.err == store.ErrUnavailable {
				s.log.Warn("command failed", "event", "command_failed", "err", err)
			}
			text := c.text
			var x *store.Explained
			if errors.As(err, &x) {
				text = x.Text
			}
			return reply{"NO", c.code, text}
		}
	}
	id := rand.Text()[:8]
	s.log.Error("command failed", "event", "command_failed", "id", id, "err", err)
	return reply{"NO", "SERVERBUG", "Internal error; the administrator finds it in the log as " + id}
}

// toTarget is for commands that put messages into a mailbox: where it does not
// exist the client is told to create it. RFC 9051 section 7.1.
func toTarget(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrNoSelect) {
		return no("TRYCREATE", "No such mailbox; create it first")
	}
	return err
}

// shown makes a word of the client fit for a line of text.
func shown(word string) string {
	if len(word) > 40 {
		word = word[:40] + "..."
	}
	return strconv.QuoteToASCII(word)
}
