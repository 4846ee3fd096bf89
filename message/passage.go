package message

import (
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"runtime/debug"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A Passage is a stretch of a message that is searched for itself: the header of a part,
// field by field, or its decoded text. What is in no passage is found by no SEARCH: what
// stands before and behind the parts of a multipart, and leaves that are not text.
type Passage struct {
	Part   *Part
	Header bool

	// Inside tells that it belongs to the body: text does, and the header of a message
	// inside the message.
	Inside bool
}

// Range is where the passage lies in the message.
func (p Passage) Range() Range {
	if p.Header {
		return p.Part.Header
	}
	return p.Part.Body
}

// Passages yields what is searched of a message with these parts, in its order.
func Passages(parts []Part) iter.Seq[Passage] {
	return func(yield func(Passage) bool) {
		inner := int32(-1) // the part that is the message inside the part before
		for i := range parts {
			p := &parts[i]
			if !yield(Passage{Part: p, Header: true, Inside: int32(i) == inner}) {
				return
			}
			if p.Kind == Message {
				inner = p.First
			}
			if p.Kind == Leaf && (p.Type == "text" || p.Type == "message") && !yield(Passage{Part: p, Inside: true}) {
				return
			}
		}
	}
}

// WriteField writes a field as it is searched: its name, and its value decoded.
func WriteField(w io.Writer, f Field) error {
	if _, err := w.Write(f.Name); err != nil {
		return err
	}
	if _, err := io.WriteString(w, ": "); err != nil {
		return err
	}
	_, err := io.WriteString(w, DecodeText(f.Value))
	return err
}

// MaxSearchedHeader is how much of one header is searched, in bytes.
const MaxSearchedHeader = 1 << 20

// textVersion counts the ways in which this package made searched text of messages.
// TestTextVersion fails where it must be raised.
const textVersion = 1

// TextVersion tells the way in which searched text is made of messages (Passages,
// WriteField, NewTextWriter, AppendFold) from others: whatever was derived from such text
// under another number is of no use any more.
func TextVersion() uint32 {
	s := fmt.Sprintf("%d unicode %s norm %s", textVersion, unicode.Version, norm.Version)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "golang.org/x/text" { // has the charsets
				s += " " + m.Version
			}
		}
	}
	return crc32.ChecksumIEEE([]byte(s))
}

// Common are limits within which every search sees the same passages of a message, whatever
// its own limits are: as long as those cover them.
var Common = Limits{Depth: 30, Parts: 500, Header: 64 << 10, Headers: 256 << 10}

// Within tells that parts, which were found under some limits, are found alike under all
// limits that are not below these. It leaves a margin: not all that is within is told so.
func Within(parts []Part, l Limits) bool {
	l = l.orDefault()
	if len(parts) >= l.Parts {
		return false
	}
	depth := make([]int, len(parts))
	headers := int64(0)
	for i := range parts {
		p := &parts[i]
		if headers += p.Header.Len; p.Header.Len > int64(l.Header)/2 || headers > int64(l.Headers)/2 || depth[i]+1 >= l.Depth {
			return false
		}
		for c := p.First; c != 0; c = parts[c].Next {
			depth[c] = depth[i] + 1
		}
	}
	return true
}

// Covers tells that none of the limits is below those of o.
func (l Limits) Covers(o Limits) bool {
	l, o = l.orDefault(), o.orDefault()
	return l.Depth >= o.Depth && l.Parts >= o.Parts && l.Header >= o.Header && l.Headers >= o.Headers
}
