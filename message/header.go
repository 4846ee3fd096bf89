package message

import (
	"bytes"
	"iter"
	"strings"
	"unicode/utf8"
)

// A Field is one field of a header, as it was written.
type Field struct {
	Name  []byte // without the blanks before the colon; nil for a line that is no field
	Value []byte // behind the colon, folded as it was, without the last line end
	Raw   []byte // all of it, with its line ends
}

// Fields yields the fields of a header up to the blank line that ends it. Lines
// may end in LF or CRLF. A line without a colon is yielded too, without a name,
// for a client that asks for the header shall see all of it.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(header) > 0 {
			end, first := fieldEnd(header)
			raw := header[:end]
			if blankLine(raw) {
				return
			}
			header = header[end:]
			f := Field{Raw: raw}
			if name, colon := fieldName(raw[:first]); name != nil {
				f.Name, f.Value = name, raw[colon+1:]
				for n := len(f.Value); n > 0 && (f.Value[n-1] == '\n' || f.Value[n-1] == '\r'); n-- {
					f.Value = f.Value[:n-1]
				}
			}
			if !yield(f) {
				return
			}
		}
	}
}

// fieldEnd gives the ends of the field that header begins with, and of its first line.
func fieldEnd(header []byte) (end, first int) {
	for {
		n := bytes.IndexByte(header[end:], '\n') + 1
		if n == 0 {
			end = len(header)
		} else {
			end += n
		}
		if first == 0 {
			first = end
		}
		if end == len(header) || header[end] != ' ' && header[end] != '\t' {
			return end, first
		}
	}
}

// fieldName gives the name that the first line of a field has, nil for none, and where its
// colon stands.
func fieldName(line []byte) (name []byte, colon int) {
	colon = bytes.IndexByte(line, ':')
	if colon < 0 || line[0] == ' ' || line[0] == '\t' {
		return nil, colon
	}
	name = line[:colon]
	for n := len(name); n > 0 && (name[n-1] == ' ' || name[n-1] == '\t'); n-- {
		name = name[:n-1]
	}
	return name, colon
}

func blankLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// Is tells whether the field has this name; names have no case.
func (f Field) Is(name string) bool {
	return len(f.Name) == len(name) && strings.EqualFold(string(f.Name), name)
}

// Text is the value unfolded: each run of white space that holds a line break, or
// a bare CR, is one space (RFC 5322 section 2.2.3); none is left at the ends. NUL, which no
// answer may carry, is U+FFFD.
func (f Field) Text() string { return unfold(f.Value) }

func unfold(v []byte) string {
	v = bytes.Trim(v, " \t\r\n")
	if bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 && bytes.IndexByte(v, 0) < 0 {
		return string(v)
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); {
		switch c := v[i]; c {
		case ' ', '\t', '\r', '\n':
			end, broken := i, false
			for end < len(v) && strings.IndexByte(" \t\r\n", v[end]) >= 0 {
				broken = broken || v[end] == '\r' || v[end] == '\n'
				end++
			}
			if broken {
				out = append(out, ' ')
			} else {
				out = append(out, v[i:end]...)
			}
			i = end
		case 0:
			out = utf8.AppendRune(out, utf8.RuneError)
			i++
		default:
			out = append(out, c)
			i++
		}
	}
	return string(out)
}

// FieldNames are names of header fields that are looked for. The zero value holds none.
// Immutable.
type FieldNames struct {
	few   []string            // in small letters
	many  map[string]struct{} // instead of few
	first uint64              // bit c&63 for each c that one of them begins with, small or not
}

// maxFew is how many names are as well looked through one by one.
const maxFew = 24

// NewFieldNames makes a set of names, whose case does not matter.
func NewFieldNames(names ...string) FieldNames {
	var n FieldNames
	if len(names) > maxFew {
		n.many = make(map[string]struct{}, len(names))
	}
	for _, name := range names {
		name = string(appendLower(nil, []byte(name)))
		if name == "" {
			n.first = ^uint64(0)
		} else if c := name[0]; 'a' <= c && c <= 'z' {
			n.first |= 1<<(c&63) | 1<<((c-'a'+'A')&63)
		} else {
			n.first |= 1 << (c & 63)
		}
		if n.many != nil {
			n.many[name] = struct{}{}
		} else {
			n.few = append(n.few, name)
		}
	}
	return n
}

// Has tells whether a field of this name is looked for.
func (n FieldNames) Has(name []byte) bool {
	if n.many != nil {
		var small [64]byte
		_, ok := n.many[string(appendLower(small[:0], name))]
		return ok
	}
	for _, few := range n.few {
		if len(few) == len(name) && equalLower(name, few) {
			return true
		}
	}
	return false
}

// begin tells whether the first line of a field has one of the names. Most lines are told by
// their first letter.
func (n FieldNames) begin(line []byte) bool {
	if n.first&(1<<(line[0]&63)) == 0 {
		return false
	}
	name, _ := fieldName(line)
	return name != nil && n.Has(name)
}

// equalLower tells whether name is lower, which is as long and in small letters.
func equalLower(name []byte, lower string) bool {
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func appendLower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// AppendFields appends the fields of header whose names are among names, or with
// not those whose names are not, as HEADER.FIELDS and HEADER.FIELDS.NOT want them
// (RFC 9051 section 6.4.5.1): in the order of the header, as they were written. The
// blank line is always there behind chosen fields, and behind the others where
// the header has one. The header must have CRLF line ends.
func AppendFields(dst, header []byte, names FieldNames, not bool) []byte {
	for len(header) > 0 {
		end, first := fieldEnd(header)
		raw := header[:end]
		if blankLine(raw) {
			break
		}
		header = header[end:]
		if names.begin(raw[:first]) == not {
			continue
		}
		dst = append(dst, raw...)
		if !not && raw[end-1] != '\n' {
			dst = append(dst, "\r\n"...)
		}
	}
	if !not || len(header) > 0 {
		dst = append(dst, "\r\n"...)
	}
	return dst
}
