package message

import (
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a preview, and of what is looked at for one.
const (
	PreviewRunes = 200       // RFC 8970 section 3.3
	previewText  = 64 << 10  // bytes of decoded plain text
	previewHTML  = 256 << 10 // likewise of HTML, much of which may be style
	previewHead  = 16 << 10  // of the header of a part
	previewTries = 8         // parts that are opened
)

// Preview gives the beginning of what a message says, for a list of messages: at most
// PreviewRunes characters of one line, without quoted text and signature. It is "" where
// there is no text to read, or it is encrypted. read writes a range of the message to
// w, and stops with the error of w.
func Preview(parts []Part, read func(w io.Writer, rg Range) error) (string, error) {
	for tries, i := range previewParts(parts) {
		if tries == previewTries {
			break
		}
		p := &parts[i]
		if i > 0 {
			header := limited{max: previewHead}
			if err := read(&header, p.Header); err != nil && !errors.Is(err, errLimited) {
				return "", err
			}
			if info, _ := parseInfo(header.b, false); strings.EqualFold(info.Disposition.Value, "attachment") {
				continue
			}
		}
		text := limited{max: previewText}
		if p.Subtype == "html" {
			text.max = previewHTML
		}
		w := NewTextWriter(p, &text)
		err := read(w, p.Body)
		if err == nil {
			err = w.Close()
		}
		if err != nil && !errors.Is(err, errLimited) {
			return "", err
		}
		s := string(text.b)
		if p.Subtype == "html" {
			s = htmlText(s)
		}
		if s = PreviewOf(s); s != "" {
			return s, nil
		}
	}
	return "", nil
}

// previewParts gives the parts that may hold what a message says, the best first: its own
// text, plain before HTML, then that of messages inside it.
func previewParts(parts []Part) []int {
	if parts[0].Kind == Multipart && parts[0].Subtype == "encrypted" { // RFC 1847 section 2.2
		return nil
	}
	var ranked [4][]int
	inside := int64(-1) // the end of the message inside the message
	for i := range parts {
		p := &parts[i]
		rank := 0
		if p.Header.Off < inside {
			rank = 2
		} else if p.Kind == Message {
			inside = p.Body.End()
		}
		if p.Kind != Leaf || p.Type != "text" {
			continue
		}
		switch p.Subtype {
		case "html":
			rank++
			fallthrough
		case "plain":
			ranked[rank] = append(ranked[rank], i)
		}
	}
	return append(append(append(ranked[0], ranked[1]...), ranked[2]...), ranked[3]...)
}

// limited gathers max bytes.
type limited struct {
	b   []byte
	max int
}

var errLimited = errors.New("enough was read")

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.max-len(l.b))
	l.b = append(l.b, p[:n]...)
	if n < len(p) {
		return n, errLimited
	}
	return n, nil
}

// PreviewOf gives the preview of plain text.
func PreviewOf(text string) string {
	var said, quoted lineBuilder
	lines := 0
	before := "" // a line that is kept back: it may say who wrote what is quoted below
	flush := func() {
		said.add(before)
		before = ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		lines++
		if rest, ok := strings.CutPrefix(line, ">"); ok {
			if !strings.HasSuffix(before, ":") {
				flush()
			}
			before = ""
			quoted.add(strings.TrimLeft(rest, "> "))
			continue
		}
		switch {
		case line == "--", endsText(line) && (said.runes > 0 || before != ""): // RFC 3676 section 4.3
			flush()
			return said.or(&quoted)
		case line == "-----BEGIN PGP MESSAGE-----":
			return ""
		case skipsLine(line):
			continue
		}
		flush()
		before = line
		if said.runes > PreviewRunes {
			break
		}
	}
	flush()
	return said.or(&quoted)
}

// endsText tells of lines below which stands what others wrote, or what is no text.
func endsText(line string) bool {
	return line == "-----BEGIN PGP SIGNATURE-----" ||
		strings.HasPrefix(line, "-----") && strings.HasSuffix(line, "-----") && strings.Contains(line, "Original")
}

// skipsLine tells of lines that say nothing: rulers, and what PGP writes above text.
func skipsLine(line string) bool {
	return strings.Trim(line, "-=_*#~.+| ") == "" || line == "-----BEGIN PGP SIGNED MESSAGE-----" || strings.HasPrefix(line, "Hash: SHA")
}

// lineBuilder joins lines to one, of at most PreviewRunes and what tells that there is
// more.
type lineBuilder struct {
	b     strings.Builder
	runes int
}

func (l *lineBuilder) add(line string) {
	for word := range strings.FieldsFuncSeq(line, blank) {
		sep := l.runes > 0
		for _, r := range word {
			if !visible(r) {
				continue
			}
			if l.runes > PreviewRunes {
				return
			}
			if sep {
				l.b.WriteByte(' ')
				l.runes++
				sep = false
			}
			l.b.WriteRune(r)
			l.runes++
		}
	}
}

func blank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// visible is false of what mailings fill the space behind their first line with, and of
// what would turn the line round in a list.
func visible(r rune) bool {
	switch {
	case r == 0xAD, r == 0x34F, r == 0x61C, 0x200B <= r && r <= 0x200C, r == 0x200E, r == 0x200F,
		0x202A <= r && r <= 0x202E, 0x2060 <= r && r <= 0x206F, r == 0xFEFF, r == utf8.RuneError:
		return false
	}
	return true
}

// or gives the line, that of other where it is empty.
func (l *lineBuilder) or(other *lineBuilder) string {
	if l.runes == 0 {
		l = other
	}
	s := l.b.String()
	n := 0
	for i := range s {
		if n == PreviewRunes {
			return strings.TrimRight(s[:i], " ")
		}
		n++
	}
	return s
}
