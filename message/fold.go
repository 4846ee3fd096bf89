package message

import (
	"encoding/binary"
	"io"
	"slices"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// AppendFold appends text as it is compared: by i;unicode-casemap (RFC 5051),
// which takes each character to title case and then apart into what it is composed
// of. Marks are not sorted, since almost all text has one a letter. Bytes that are
// no UTF-8 stay as they are. Each character is folded for itself, so a part of a text
// folds to a part of what the text folds to.
func AppendFold(dst, text []byte) []byte {
	for len(text) > 0 {
		if text[0] < utf8.RuneSelf {
			dst = slices.Grow(dst, len(text))
			n := appendUpper(dst, text)
			dst, text = dst[:len(dst)+n], text[n:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, text[0])
		} else {
			dst = appendFolded(dst, r)
		}
		text = text[size:]
	}
	return dst
}

// appendUpper writes the ASCII that text begins with behind dst, which has room for it, as
// capitals, and gives its length. Eight bytes are taken at once: almost all that is
// searched passes here.
func appendUpper(dst, text []byte) int {
	const ones = 0x0101010101010101
	b := dst[len(dst):cap(dst)]
	n := 0
	for ; n+8 <= len(text); n += 8 {
		w := binary.LittleEndian.Uint64(text[n:])
		if w&(0x80*ones) != 0 {
			break
		}
		// The high bit of a byte of the first sum says "a or above", of the second "above z".
		small := (w + (0x80-'a')*ones) &^ (w + (0x80-'z'-1)*ones) & (0x80 * ones)
		binary.LittleEndian.PutUint64(b[n:], w-small>>2)
	}
	for ; n < len(text) && text[n] < utf8.RuneSelf; n++ {
		c := text[n]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		b[n] = c
	}
	return n
}

// foldPage has what 256 neighbouring characters fold to: out[ends[i]:ends[i+1]]. The tables
// that appendApart asks take 100 times as long.
type foldPage struct {
	ends [257]uint16
	out  []byte
}

// foldPages are the pages that were asked for, up to plane 1: all of them take 1 MB.
var foldPages [0x20000 >> 8]atomic.Pointer[foldPage]

// appendFolded appends what one character folds to.
func appendFolded(dst []byte, r rune) []byte {
	if int(r>>8) >= len(foldPages) {
		return appendApart(dst, unicode.ToTitle(r))
	}
	page := foldPages[r>>8].Load()
	if page == nil {
		page = &foldPage{}
		for i := range rune(256) {
			page.out = appendApart(page.out, unicode.ToTitle(r&^0xff|i))
			page.ends[i+1] = uint16(len(page.out))
		}
		foldPages[r>>8].Store(page) // another that did the same did it alike
	}
	i := r & 0xff
	return append(dst, page.out[page.ends[i]:page.ends[i+1]]...)
}

// appendApart appends what a character is composed of. Hangul, which no table holds,
// is composed by arithmetic (The Unicode Standard, section 3.12).
func appendApart(dst []byte, r rune) []byte {
	if s := r - 0xAC00; s >= 0 && s < 11172 {
		dst = utf8.AppendRune(dst, 0x1100+s/588)
		dst = utf8.AppendRune(dst, 0x1161+s%588/28)
		if s%28 > 0 {
			dst = utf8.AppendRune(dst, 0x11A7+s%28)
		}
		return dst
	}
	var b [utf8.UTFMax]byte
	title := b[:utf8.EncodeRune(b[:], r)]
	if apart := norm.NFKD.Properties(title).Decomposition(); apart != nil {
		// Once more to title case, beyond the RFC: a ligature comes apart into small letters.
		for _, r := range string(apart) {
			dst = utf8.AppendRune(dst, unicode.ToTitle(r))
		}
		return dst
	}
	return append(dst, title...)
}

// A Folder is a writer that passes text on folded, in pieces of its own size. What comes
// out does not depend on how the text was cut into writes. The zero value with a W is ready;
// End ends one text and makes it ready for the next.
type Folder struct {
	W io.Writer

	cut []byte // the beginning of a character whose rest is to come
	buf []byte
}

// foldAtOnce is how much text is folded before it is passed on, in bytes.
const foldAtOnce = 16 << 10

// Write takes the next bytes. Errors are those of W, and how much was taken is not told then.
func (f *Folder) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		f.buf = f.buf[:0]
		for len(f.cut) > 0 && len(p) > 0 {
			if !utf8.FullRune(f.cut) {
				f.cut, p = append(f.cut, p[0]), p[1:]
			}
			f.whole()
		}
		part := p[:min(len(p), foldAtOnce)]
		p = p[len(part):]
		end := len(part) - unfinished(part)
		f.buf = AppendFold(f.buf, part[:end])
		f.cut = append(f.cut, part[end:]...)
		if len(f.buf) > 0 {
			if _, err := f.W.Write(f.buf); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// whole folds what is no beginning any more in cut.
func (f *Folder) whole() {
	for len(f.cut) > 0 && utf8.FullRune(f.cut) {
		_, size := utf8.DecodeRune(f.cut)
		f.buf = AppendFold(f.buf, f.cut[:size])
		f.cut = append(f.cut[:0], f.cut[size:]...)
	}
}

// unfinished is how many bytes at the end of p begin a character.
func unfinished(p []byte) int {
	for back := 1; back <= min(utf8.UTFMax-1, len(p)); back++ {
		if utf8.RuneStart(p[len(p)-back]) {
			if !utf8.FullRune(p[len(p)-back:]) {
				return back
			}
			break
		}
	}
	return 0
}

// End passes on what is left of a text.
func (f *Folder) End() error {
	if len(f.cut) == 0 {
		return nil
	}
	f.buf = AppendFold(f.buf[:0], f.cut)
	f.cut = f.cut[:0]
	_, err := f.W.Write(f.buf)
	return err
}

// Reset drops what is left of a text.
func (f *Folder) Reset() { f.cut = f.cut[:0] }
