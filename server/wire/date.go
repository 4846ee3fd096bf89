package wire

import (
	"strings"
	"time"
)

// dateTimeLayout is date-time of RFC 9051 section 9, without its quotes.
const dateTimeLayout = "_2-Jan-2006 15:04:05 -0700"

// AppendDateTime appends a quoted date-time, as INTERNALDATE has it. Years that
// four digits cannot hold become the nearest that they can.
func AppendDateTime(b []byte, t time.Time) []byte {
	switch y := t.Year(); {
	case y < 1:
		t = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	case y > 9999:
		t = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	b = append(b, '"')
	b = t.AppendFormat(b, dateTimeLayout)
	return append(b, '"')
}

// DateTime reads a quoted date-time. A day of one digit may stand with or without
// the space before it, or with a zero.
func (l *Lexer) DateTime() (time.Time, error) {
	at := l.off
	s, err := l.quotedOnly("a quoted date and time")
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimLeft(s, " "))
	if err != nil {
		return time.Time{}, &SyntaxError{Offset: at, Want: `a date like "17-Jul-1996 02:44:25 -0700"`, Got: shown(s)}
	}
	return t, nil
}

// Date reads a date of SEARCH, quoted or not: midnight UTC of that day.
func (l *Lexer) Date() (time.Time, error) {
	at := l.off
	s, err := l.AString()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006", strings.TrimLeft(s, " "))
	if err != nil {
		return time.Time{}, &SyntaxError{Offset: at, Want: "a date like 17-Jul-1996", Got: shown(s)}
	}
	return t, nil
}

func (l *Lexer) quotedOnly(what string) (string, error) {
	if c, err := l.Peek(); err != nil || c != '"' {
		return "", l.Unexpected(what)
	}
	return l.quoted()
}
