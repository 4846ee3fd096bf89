package trace

import (
	"fmt"
	"strings"
)

// response is what the server is saying. One response has several lines where literals
// stand between them.
type response struct {
	line    line
	going   bool  // the line before this one announced a literal: this one goes on
	fetch   bool  // the response is a FETCH
	hide    bool  // the response is none that is known
	literal int64 // bytes of a literal before the line
	expect  int64 // bytes of it that have not come
}

// Response is of wire.Watch. Literals that come ready for the wire are found by their
// announcements.
func (m *Mask) Response(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.resp
	for len(b) > 0 {
		if n := min(r.expect, int64(len(b))); n > 0 {
			r.expect -= n
			r.literal += n
			b = b[n:]
			continue
		}
		i := 0
		for i < len(b) && b[i] != '\n' {
			i++
		}
		r.line.add(b[:i])
		if i < len(b) {
			m.responseLine()
			i++
		}
		b = b[i:]
	}
}

// ResponseLiteral is of wire.Watch.
func (m *Mask) ResponseLiteral(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.resp
	r.literal += n
	r.expect = max(r.expect-n, 0)
	if !r.going { // the announcement was not seen
		r.going, r.hide = true, true
	}
}

// responseLine ends a line.
func (m *Mask) responseLine() {
	r := &m.resp
	before, text, rest := "", r.line.text(), r.line.rest()
	if r.going && r.literal > 0 {
		before = size(r.literal)
	}
	status := false
	if !r.going {
		text, status = m.recognise(text)
		if r.hide || strings.HasSuffix(text, hidden) {
			rest = ""
		}
	} else if r.hide {
		text, rest = hidden, ""
	}
	if r.fetch {
		text = withoutStrings(text)
	}
	n, announced := r.line.announced()
	r.going = announced && !status
	r.expect, r.literal = 0, 0
	if r.going {
		r.expect = n
	}
	r.line.reset()
	m.tell(Server, before+text+rest)
}

// recognise reads the first line of a response and gives what may be seen of it. status:
// it ends with its line, whatever its text looks like.
func (m *Mask) recognise(text string) (shown string, status bool) {
	r := &m.resp
	r.fetch, r.hide = false, false
	first, after, _ := strings.Cut(text, " ")
	word, _, _ := strings.Cut(after, " ")
	switch {
	case first == "+":
		if m.asks != "" {
			return "+ " + hidden, true
		}
		return text, true
	case first == "*":
		switch word {
		case "BAD": // to what has no tag
			return "* BAD " + hidden, true
		case "OK", "NO", "BYE", "PREAUTH":
			return text, true
		}
		_, data, _ := strings.Cut(after, " ")
		r.fetch = word != "" && word[0] >= '0' && word[0] <= '9' && strings.Contains(data, " ") // not EXISTS and the like
		return text, false
	case word == "OK" || word == "NO" || word == "BAD":
		a := m.tags.answer(first)
		if a.n <= 1 {
			if m.sasl == first {
				m.sasl = ""
			}
			if m.asks == first {
				m.asks = ""
			}
		}
		switch {
		case !a.shown:
			return "? " + word + " " + hidden, true
		case !a.whole && word != "OK":
			_, said, _ := strings.Cut(after, " ")
			return first + " " + word + " " + code(said) + hidden, true
		}
		return text, true
	}
	r.hide = true
	return hidden, false
}

// code gives the response code that a text begins with, without its arguments and with a
// blank behind it; "" for none.
func code(text string) string {
	s, ok := strings.CutPrefix(text, "[")
	end := strings.IndexFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '-' })
	if !ok || end <= 0 || s[end] != ' ' && s[end] != ']' {
		return ""
	}
	return "[" + s[:end] + "] "
}

// withoutStrings puts lengths in the place of quoted strings, but for those of
// INTERNALDATE and SAVEDATE.
func withoutStrings(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		before := s[:i]
		b.WriteString(before)
		s = s[i+1:]
		end, n := 0, 0
		for ; end < len(s) && s[end] != '"'; end, n = end+1, n+1 {
			if s[end] == '\\' {
				end++
			}
		}
		if end >= len(s) {
			b.WriteString(`"` + hidden)
			return b.String()
		}
		content := s[:end]
		s = s[end+1:]
		if isDateTime(content) && (endsWithItem(before, "INTERNALDATE ") || endsWithItem(before, "SAVEDATE ")) {
			fmt.Fprintf(&b, `"%s"`, content)
			continue
		}
		fmt.Fprintf(&b, `"%s"`, size(int64(n)))
	}
}

// endsWithItem reports whether a data item stands at the end of s, and not the end of
// something longer.
func endsWithItem(s, item string) bool {
	s, ok := strings.CutSuffix(s, item)
	return ok && (s == "" || s[len(s)-1] == ' ' || s[len(s)-1] == '(')
}

// isDateTime reports whether s could be a date-time (RFC 9051 section 9): a body can
// look like an item, but hardly like both.
func isDateTime(s string) bool {
	return len(s) == len("17-Jul-1996 02:44:25 -0700") && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:+- ") == ""
}
