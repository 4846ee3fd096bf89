package message

import (
	"bytes"
	"encoding/base64"
	"strings"
)

// DecodeText reads the value of a field as a person does: unfolded, with its
// encoded words decoded to UTF-8 (RFC 2047). White space between two encoded words is
// not shown (section 6.2). A word that is broken, or in a charset that nobody knows,
// stays as it is.
func DecodeText(value []byte) string {
	s := unfold(value)
	if !strings.Contains(s, "=?") {
		return s
	}
	var out, raw []byte // raw: bytes of the charset of the words before, not yet converted
	var charset string
	flush := func() {
		if len(raw) > 0 {
			out = append(out, toUTF8(charset, raw)...)
			raw = raw[:0]
		}
	}
	for len(s) > 0 {
		start := strings.Index(s, "=?")
		if start < 0 {
			break
		}
		cs, text, rest, ok := encodedWord(s[start:])
		if !ok {
			flush()
			out = append(out, s[:start+2]...)
			s = s[start+2:]
			continue
		}
		if between := s[:start]; len(raw) == 0 || strings.Trim(between, " \t") != "" {
			flush()
			out = append(out, between...)
		}
		// A character may be cut between two words of one charset, though it must not.
		if !strings.EqualFold(cs, charset) {
			flush()
			charset = cs
		}
		raw = append(raw, text...)
		if len(text) == 0 {
			flush()
		}
		s = rest
	}
	flush()
	return string(append(out, s...))
}

// encodedWord takes the encoded word that s begins with.
func encodedWord(s string) (charset string, text []byte, rest string, ok bool) {
	charset, after, ok := strings.Cut(s[2:min(len(s), 2+80)], "?")
	if !ok || charset == "" || strings.ContainsAny(charset, " \t") || len(after) < 2 || after[1] != '?' {
		return "", nil, "", false
	}
	body := s[2+len(charset)+3:]
	end := strings.Index(body[:min(len(body), maxWord)], "?=")
	if end < 0 {
		return "", nil, "", false
	}
	charset, _, _ = strings.Cut(charset, "*") // the language of RFC 2231 section 5
	if !asIs(charset) {
		if _, known := Charset(charset); !known {
			return "", nil, "", false
		}
	}
	switch after[0] {
	case 'B', 'b':
		text, ok = decodeB(body[:end])
	case 'Q', 'q':
		text, ok = decodeQ(body[:end])
	default:
		ok = false
	}
	return charset, text, body[end+2:], ok
}

// maxWord bounds how far the end of an encoded word is looked for. RFC 2047 section 2
// allows 75 bytes; some programs write whole subjects as one word.
const maxWord = 4096

func decodeB(s string) ([]byte, bool) {
	var b bytes.Buffer
	d := base64Decoder{w: &b}
	d.Write([]byte(s))
	d.Close()
	return b.Bytes(), b.Len() > 0 || base64.StdEncoding.DecodedLen(len(s)) == 0
}

func decodeQ(s string) ([]byte, bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0:
			out = append(out, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out, true
}

// toUTF8 converts as much as can be converted.
func toUTF8(charset string, b []byte) []byte {
	if asIs(charset) {
		return b
	}
	e, ok := Charset(charset)
	if !ok {
		return b
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil {
		return b
	}
	return out
}
