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

// AppendUnixTime is AppendDateTime of a moment in UTC, without the detour: each row of a
// list of messages has one.
func AppendUnixTime(b []byte, sec int64) []byte {
	const day = 24 * 60 * 60
	days := sec / day
	if sec%day < 0 {
		days--
	}
	if days < -719_162 || days > 2_932_896 { // years 1 to 9999
		return AppendDateTime(b, time.Unix(sec, 0).UTC())
	}
	clock := int(sec - days*day)
	year, month, d := civil(days)
	b = append(b, '"', ' ')
	if d >= 10 {
		b[len(b)-1] = byte('0' + d/10)
	}
	b = append(b, byte('0'+d%10), '-')
	b = append(b, "JanFebMarAprMayJunJulAugSepOctNovDec"[3*month-3:3*month]...)
	b = append(b, '-', byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), ' ')
	b = append(b, byte('0'+clock/36000), byte('0'+clock/3600%10), ':', byte('0'+clock/600%6), byte('0'+clock/60%10), ':')
	return append(b, byte('0'+clock%60/10), byte('0'+clock%10), ' ', '+', '0', '0', '0', '0', '"')
}

// civil is the date of a day counted from 1970-01-01, in the year 1 or later: the calendar repeats after 146,097
// days, and years that begin in March have their leap day last.
func civil(days int64) (year, month, day int) {
	const cycle = 146_097
	z := int(days) + 719_468 // from 0000-03-01
	era := z / cycle
	z -= era * cycle
	y := (z - z/1460 + z/36_524 - z/146_096) / 365
	z -= 365*y + y/4 - y/100
	m := (5*z + 2) / 153
	year, month, day = y+400*era, m+3, z-(153*m+2)/5+1
	if month > 12 {
		year, month = year+1, month-12
	}
	return year, month, day
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
