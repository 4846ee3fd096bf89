package search

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// appendFold appends text as it is compared: by i;unicode-casemap (RFC 5051),
// which takes each character to title case and then apart into what it is composed
// of. Marks are not sorted, since almost all text has one a letter. Bytes that are
// no UTF-8 stay as they are.
func appendFold(dst, text []byte) []byte {
	for len(text) > 0 {
		c := text[0]
		if c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			dst = append(dst, c)
			text = text[1:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, c)
			text = text[1:]
			continue
		}
		dst = appendApart(dst, unicode.ToTitle(r))
		text = text[size:]
	}
	return dst
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
