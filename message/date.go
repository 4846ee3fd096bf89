package message

import (
	"strconv"
	"strings"
	"time"
)

// ParseDate reads the value of a Date field (RFC 5322 section 3.3, and the obsolete forms
// of section 4.3: comments, names of zones, years of two digits). The time is in the
// zone that was written. ok is false when there is no such day or time.
func ParseDate(value []byte) (t time.Time, ok bool) {
	p := dateParser{lexer: lexer{b: value}}
	day, ok := p.date()
	if !ok {
		return time.Time{}, false
	}
	clock := p.clock()
	zone := p.zone()
	if p.bad {
		return time.Time{}, false
	}
	return at(day, clock, zone), true
}

// ParseSentDate is ParseDate for sorting, which forgives more (RFC 5256 section 2.2): a zone
// that is none is UTC, and a time that is none is midnight UTC. ok is false when there is
// no such day.
func ParseSentDate(value []byte) (t time.Time, ok bool) {
	p := dateParser{lexer: lexer{b: value}}
	day, ok := p.date()
	if !ok {
		return time.Time{}, false
	}
	clock := p.clock()
	if p.bad {
		return at(day, 0, 0), true
	}
	zone := p.zone()
	if p.bad {
		zone = 0
	}
	return at(day, clock, zone), true
}

// at is a time of a day, in a zone that many seconds east of UTC.
func at(day time.Time, clock time.Duration, zone int) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), 0, 0, int(clock/time.Second), 0, time.FixedZone("", zone))
}

// date reads the day. It is not ok when there is none.
func (p *dateParser) date() (day time.Time, ok bool) {
	if p.skip(); p.letter() { // the day of the week
		p.word()
		p.sign(',')
	}
	n := p.number(1, 2)
	p.sign('-') // written by some: 24-Nov-2026
	month := p.month()
	p.sign('-')
	digits := p.i
	year := p.number(2, 4)
	switch n := p.i - digits; {
	case p.bad:
	case n == 2 && year < 50:
		year += 2000
	case n < 4:
		year += 1900
	}
	day = time.Date(year, time.Month(month), n, 0, 0, 0, 0, time.UTC)
	return day, !p.bad && month != 0 && day.Day() == n
}

// clock reads the time of the day.
func (p *dateParser) clock() time.Duration {
	hour := p.number(1, 2)
	if !p.sign(':') {
		p.bad = true
	}
	minute := p.number(1, 2)
	second := 0
	if p.sign(':') {
		second = p.number(1, 2)
	}
	p.bad = p.bad || hour > 23 || minute > 59 || second > 60
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(min(second, 59))*time.Second
}

type dateParser struct {
	lexer
	bad bool
}

func (p *dateParser) letter() bool {
	c := p.peek() | 0x20
	return 'a' <= c && c <= 'z'
}

func (p *dateParser) word() string {
	start := p.i
	for !p.end() && p.letter() {
		p.i++
	}
	w := p.b[start:p.i]
	p.skip()
	return strings.ToLower(string(w))
}

// sign passes c if it is next.
func (p *dateParser) sign(c byte) bool {
	p.skip()
	if p.end() || p.peek() != c {
		return false
	}
	p.i++
	p.skip()
	return true
}

// number reads least to most digits and leaves the lexer right behind them.
func (p *dateParser) number(least, most int) int {
	p.skip()
	start := p.i
	for !p.end() && '0' <= p.peek() && p.peek() <= '9' {
		p.i++
	}
	if n := p.i - start; n < least || n > most {
		p.bad = true
		return 0
	}
	v, _ := strconv.Atoi(string(p.b[start:p.i]))
	return v
}

func (p *dateParser) month() int {
	p.skip()
	name := p.word()
	if len(name) < 3 {
		return 0
	}
	i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", name[:3])
	if i < 0 || i%3 != 0 {
		return 0
	}
	return i/3 + 1
}

// zone gives seconds east of UTC. A zone that is missing or has a name that
// nobody knows is UTC (RFC 5322 section 4.3).
func (p *dateParser) zone() int {
	p.skip()
	sign := 1
	switch p.peek() {
	case '-':
		sign = -1
		fallthrough
	case '+':
		p.i++
		n := p.number(3, 4)
		if n%100 > 59 || n/100 > 23 {
			p.bad = true
		}
		return sign * (n/100*3600 + n%100*60)
	}
	hours := map[string]int{"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7}
	return hours[p.word()] * 3600
}
