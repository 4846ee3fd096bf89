package message

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A Param is one parameter of Content-Type or Content-Disposition.
type Param struct{ Name, Value string }

// tspecials end a token (RFC 2045 section 5.1). Bytes above 127 are read as part of it.
const tspecials = `()<>@,;:\"/[]?=`

// params reads the parameters up to the end of the field. One that is broken (no
// name, no value, a quote that nothing closes) is left out.
func (l *lexer) params() []Param {
	var list []Param
	for {
		l.skip()
		if l.end() {
			break
		}
		if l.peek() == ';' {
			l.i++
			continue
		}
		name := l.run(tspecials)
		l.skip()
		if name == "" || l.peek() != '=' {
			l.past(";")
			continue
		}
		l.i++
		l.skip()
		var value string
		ok := true
		if l.peek() == '"' {
			value, ok = l.quoted()
		} else {
			value = l.run(`;("`)
		}
		if ok {
			list = append(list, Param{name, value})
		}
		l.past(";")
	}
	return joinParams(list)
}

// joinParams puts the pieces of continued parameters together, as servers must
// do for BODYSTRUCTURE; charset and language stay encoded, marked by the asterisk
// at the end of the name (RFC 2231 sections 3, 4.1 and 9). Pieces that are not numbered
// from 0 without a gap stay as they were written.
func joinParams(list []Param) []Param {
	pieces := map[string][]piece{}
	for i, p := range list {
		if base, n, extended, ok := splitPiece(p.Name); ok {
			key := strings.ToLower(base)
			pieces[key] = append(pieces[key], piece{at: i, n: n, extended: extended, base: base})
		}
	}
	if len(pieces) == 0 {
		return list
	}
	drop := make([]bool, len(list))
	for _, ps := range pieces {
		first := ps[0].at // where the parameter was first mentioned it stays
		slices.SortFunc(ps, func(a, b piece) int { return cmp.Compare(a.n, b.n) })
		extended, whole := false, true
		for i, p := range ps {
			whole = whole && p.n == i
			extended = extended || p.extended
		}
		if !whole {
			continue
		}
		var value strings.Builder
		for _, p := range ps {
			v := list[p.at].Value
			if extended && !p.extended {
				v = strings.ReplaceAll(v, "%", "%25")
			}
			value.WriteString(v)
			drop[p.at] = true
		}
		name := ps[0].base
		if extended {
			name += "*"
		}
		list[first] = Param{name, value.String()}
		drop[first] = false
	}
	out := list[:0]
	for i, p := range list {
		if !drop[i] {
			out = append(out, p)
		}
	}
	return out
}

type piece struct {
	at, n    int
	extended bool
	base     string
}

// splitPiece takes "name*3" and "name*3*" apart.
func splitPiece(name string) (base string, n int, extended, ok bool) {
	name, extended = strings.CutSuffix(name, "*")
	base, digits, found := strings.Cut(name, "*")
	if !found || base == "" || digits == "" || len(digits) > 4 || len(digits) > 1 && digits[0] == '0' {
		return "", 0, false, false
	}
	n, err := strconv.Atoi(digits)
	return base, n, extended, err == nil && n >= 0 && digits[0] != '+'
}
