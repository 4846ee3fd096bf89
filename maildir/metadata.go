package maildir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"roost/maildir/fsys"
	"roost/store"
)

// roost-metadata, in the control directory of a mailbox, keeps its annotations (RFC 5464)
// and special uses: what has no place in Dovecot's files. roost-server-metadata, beside
// the subscriptions, keeps those of the account.
//
//	roost-metadata 1                       first line: format 1
//	# from the phone                       a comment, or an empty line
//	/private/comment TAB 50%25 of it       entry, blanks, value LF
//	/private/specialuse TAB \Sent
//
// %XX stands for a byte: for "%", for what is no printable character, and for blanks at
// both ends of a value or within an entry; an empty value is nothing. Bytes from 0x80
// may stand as they are. The file is replaced whole, under a lock file that holds the new
// content. When it is missing there are no annotations. A file with a line that is none
// of these is damaged: it is neither used nor written, but for the special uses in it.
const (
	metadataFile       = "roost-metadata"
	serverMetadataFile = "roost-server-metadata"
	metadataHeader     = "roost-metadata 1"
	metadataLimit      = 4 << 20 // above what MaxAnnotationBytes can need
)

// metadata is the content of a file.
type metadata struct{ lines []metadataLine }

type metadataLine struct {
	raw string // as in the file, without LF
	store.Annotation
}

// A damagedError says which line of a file cannot be read.
type damagedError struct {
	line int
	what string
}

func (e *damagedError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.what) }
func (e *damagedError) Unwrap() error { return store.ErrDamaged }

// parseMetadata reads a file. With a *damagedError comes what could be read.
func parseMetadata(b []byte) (m metadata, err error) {
	n := 0
	damaged := func(what string) {
		if err == nil {
			err = &damagedError{n, what}
		}
	}
	seen := map[string]bool{}
	for line := range bytes.Lines(b) {
		n++
		raw := strings.TrimRight(string(line), "\r\n")
		if n == 1 {
			if strings.TrimRight(raw, " \t") != metadataHeader {
				damaged("it is not \"" + metadataHeader + "\"")
			}
			continue
		}
		l, problem := parseMetadataLine(raw)
		if key := strings.ToLower(l.Entry); problem == "" && key != "" {
			if seen[key] {
				problem = l.Entry + " is there twice"
			}
			seen[key] = true
		}
		if problem != "" {
			damaged(problem)
			continue
		}
		m.lines = append(m.lines, l)
	}
	return m, err
}

// parseMetadataLine reads one line, or says what is wrong with it.
func parseMetadataLine(raw string) (l metadataLine, problem string) {
	l.raw = raw
	text := strings.TrimRight(raw, " \t") // an editor may have left them, or taken them away
	if text == "" || text[0] == '#' {
		return l, ""
	}
	entry, value := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		entry, value = text[:i], strings.TrimLeft(text[i:], " \t")
	}
	name, ok := percentDecoded(entry)
	v, vok := percentDecoded(value)
	switch {
	case !ok || !store.ValidEntry(name):
		return l, "it does not begin with the name of an entry, such as /private/comment"
	case !vok:
		return l, "the value has a control character, or a % without two hexadecimal digits behind it: a percent sign is %25"
	}
	l.Entry, l.Value = name, []byte(v)
	return l, ""
}

// percentDecoded takes %XX away; false for another %, and for control characters.
func percentDecoded(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c = byte(high<<4 | low)
			i += 2
		} else if c < ' ' && c != '\t' || c == 0x7f {
			return "", false
		}
		out.WriteByte(c)
	}
	return out.String(), true
}

func unhex(c byte) int { return strings.IndexByte("0123456789abcdef", c|0x20) }

// percentEncoded writes s so that it shows in an editor; blanks everywhere or at the ends.
func percentEncoded(s string, blanks bool) string {
	var out strings.Builder
	inner := strings.Trim(s, " ")
	from := strings.Index(s, inner)
	to := from + len(inner)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == '%' || r == utf8.RuneError && n == 1 || r == ' ' && (blanks || i < from || i >= to) || r != ' ' && !unicode.IsPrint(r) {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&out, "%%%02X", c)
			}
		} else {
			out.WriteString(s[i : i+n])
		}
		i += n
	}
	return out.String()
}

// get gives the value of an entry, nil where there is none.
func (m metadata) get(entry string) []byte {
	if i := m.find(entry); i >= 0 {
		return m.lines[i].Value
	}
	return nil
}

func (m metadata) find(entry string) int {
	for i, l := range m.lines {
		if l.Entry != "" && strings.EqualFold(l.Entry, entry) {
			return i
		}
	}
	return -1
}

// set gives an entry a value, nil for none, in the line where it is or in a new one, and
// reports whether it had another.
func (m *metadata) set(entry string, value []byte) (changed bool) {
	i := m.find(entry)
	switch {
	case i < 0 && value == nil, i >= 0 && value != nil && bytes.Equal(m.lines[i].Value, value):
		return false
	case value == nil:
		m.lines = slices.Delete(m.lines, i, i+1)
		return true
	case i < 0:
		i = len(m.lines)
		m.lines = append(m.lines, metadataLine{Annotation: store.Annotation{Entry: entry}})
	}
	l := &m.lines[i]
	l.Value = value
	l.raw = percentEncoded(l.Entry, true) + "\t" + percentEncoded(string(value), false)
	return true
}

// annotations are the entries, as store.Account.Annotations has them.
func (m metadata) annotations() []store.Annotation {
	var out []store.Annotation
	for _, l := range m.lines {
		if l.Entry != "" {
			out = append(out, l.Annotation)
		}
	}
	slices.SortFunc(out, func(a, b store.Annotation) int {
		return strings.Compare(strings.ToLower(a.Entry), strings.ToLower(b.Entry))
	})
	return out
}

// full reports whether there is more than may be kept.
func (m metadata) full() bool {
	n, size := 0, 0
	for _, l := range m.lines {
		if l.Entry == "" {
			size += len(l.raw)
			continue
		}
		n++
		size += len(l.Entry) + len(l.Value)
	}
	return n > store.MaxAnnotations || size > store.MaxAnnotationBytes
}

func (m metadata) encode() []byte {
	out := []byte(metadataHeader + "\n")
	for _, l := range m.lines {
		out = append(append(out, l.raw...), '\n')
	}
	return out
}

// readMetadata reads the file name of d: empty where it is missing. Its error wraps
// store.ErrDamaged for a file that is none, and then comes with what could be read.
func readMetadata(d fsys.Dir, name string) (m metadata, err error) {
	b, err := fsys.ReadFile(d, name, metadataLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case errors.Is(err, syscall.EFBIG):
		return m, fmt.Errorf("%s/%s: more than %d bytes: %w", d.Path(), name, metadataLimit, store.ErrDamaged)
	case errors.Is(err, fsys.ErrNotRegular):
		return m, fmt.Errorf("%s/%s: %w: %w", d.Path(), name, err, store.ErrDamaged)
	case err != nil:
		return m, err
	}
	if m, err = parseMetadata(b); err != nil {
		err = fmt.Errorf("%s/%s: %w", d.Path(), name, err)
	}
	return m, err
}

// editMetadata changes the file name of d under its lock; durable. change reports
// whether it changed something.
func (t *tree) editMetadata(ctx context.Context, d fsys.Dir, name string, change func(*metadata) (bool, error)) error {
	return t.editFile(ctx, d, name, func() ([]byte, bool, error) {
		m, err := readMetadata(d, name)
		if err != nil {
			return nil, false, err
		}
		if changed, err := change(&m); err != nil || !changed {
			return nil, false, err
		}
		if len(m.lines) > 0 {
			return m.encode(), true, nil
		}
		if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		return nil, false, d.Sync()
	})
}
