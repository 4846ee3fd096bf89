package message

import (
	"html"
	"strings"
)

// htmlText gives the text of HTML as a preview needs it: a line for each block, with ">"
// in front of what is quoted. It reads what comes, closed or not, in one pass.
func htmlText(s string) string {
	t := htmlReader{}
	for s != "" {
		open := strings.IndexByte(s, '<')
		if open < 0 {
			t.text(s)
			break
		}
		t.text(s[:open])
		s = t.tag(s[open:])
	}
	return t.out.String()
}

type htmlReader struct {
	out    strings.Builder
	quotes int  // open blockquotes
	begun  bool // something stands in the line
}

func (t *htmlReader) text(s string) {
	if s == "" {
		return
	}
	if !t.begun {
		if strings.Trim(s, " \t\r\n") == "" {
			return
		}
		if t.quotes > 0 {
			t.out.WriteString("> ")
		}
		t.begun = true
	}
	if strings.ContainsAny(s, "\r\n") {
		s = strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
	}
	t.out.WriteString(strings.ReplaceAll(html.UnescapeString(s), "\n", " "))
}

func (t *htmlReader) line() {
	if t.begun {
		t.out.WriteByte('\n')
		t.begun = false
	}
}

// tag takes what begins with "<" and gives the rest.
func (t *htmlReader) tag(s string) (rest string) {
	if len(s) < 2 {
		return ""
	}
	switch c := s[1]; {
	case strings.HasPrefix(s, "<!--"):
		_, rest, _ = strings.Cut(s[4:], "-->")
		return rest
	case c == '!', c == '?':
		_, rest, _ = strings.Cut(s, ">")
		return rest
	case c != '/' && (c|0x20 < 'a' || 'z' < c|0x20):
		t.text("<")
		return s[1:]
	}
	name, rest := tagName(s)
	switch name {
	case "style", "script", "title", "template":
		return afterEnd(rest, name)
	case "blockquote":
		t.line()
		t.quotes++
	case "/blockquote":
		t.line()
		t.quotes = max(0, t.quotes-1)
	case "td", "th":
		t.text(" ")
	case "br", "p", "div", "tr", "li", "hr", "table", "ul", "ol", "dl", "dd", "dt", "pre", "center", "section", "article",
		"header", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "body",
		"/p", "/div", "/tr", "/li", "/table", "/pre", "/h1", "/h2", "/h3", "/h4", "/h5", "/h6":
		t.line()
	}
	return rest
}

// tagName gives the name in a tag, in small letters, and what follows the tag. A ">" in a
// quoted attribute does not end it.
func tagName(s string) (name, rest string) {
	i := 1
	for i < len(s) && !strings.ContainsRune(" \t\r\n/>", rune(s[i])) || i == 1 {
		i++
	}
	name = strings.ToLower(s[1:i])
	for i < len(s) {
		switch c := s[i]; c {
		case '>':
			return name, s[i+1:]
		case '"', '\'':
			end := strings.IndexByte(s[i+1:], c)
			if end < 0 {
				return name, ""
			}
			i += end + 2
		default:
			i++
		}
	}
	return name, ""
}

// afterEnd gives what follows the end tag of name, whose content is no text.
func afterEnd(s, name string) string {
	for {
		i := strings.Index(s, "</")
		if i < 0 {
			return ""
		}
		s = s[i+2:]
		if hasPrefixFold(s, name) {
			_, rest, _ := strings.Cut(s, ">")
			return rest
		}
	}
}
