package wire

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// mutf7Base64 is the alphabet of RFC 3501 section 5.1.3: "," in place of "/".
var mutf7Base64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// ErrMailboxName is returned for a name that is no modified UTF-7 or no UTF-8.
var ErrMailboxName = errors.New("mailbox name is not valid")

// EncodeMailbox gives the modified UTF-7 of a UTF-8 name (RFC 3501 section 5.1.3).
func EncodeMailbox(name string) string {
	plain := func(r rune) bool { return r >= 0x20 && r <= 0x7e }
	if !strings.ContainsFunc(name, func(r rune) bool { return !plain(r) || r == '&' }) {
		return name
	}
	var out strings.Builder
	for len(name) > 0 {
		r, _ := utf8.DecodeRuneInString(name)
		if r == '&' {
			out.WriteString("&-")
			name = name[1:]
			continue
		}
		end := strings.IndexFunc(name, func(c rune) bool { return plain(c) != plain(r) || c == '&' })
		if end < 0 {
			end = len(name)
		}
		if plain(r) {
			out.WriteString(name[:end])
		} else {
			var units []byte
			for _, u := range utf16.Encode([]rune(name[:end])) {
				units = append(units, byte(u>>8), byte(u))
			}
			out.WriteByte('&')
			out.WriteString(mutf7Base64.EncodeToString(units))
			out.WriteByte('-')
		}
		name = name[end:]
	}
	return out.String()
}

// DecodeMailbox gives the UTF-8 of a name as a client of IMAP4rev1 sends it. Where
// it is already UTF-8 beyond ASCII, which some clients send, it is kept. What
// EncodeMailbox would write otherwise is accepted when it has one meaning.
func DecodeMailbox(wire string) (string, error) {
	if !utf8.ValidString(wire) || strings.Contains(wire, "\x00") {
		return "", ErrMailboxName
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(wire, "&")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		code, after, found := strings.Cut(rest, "-")
		if !found {
			return "", ErrMailboxName
		}
		if wire = after; code == "" {
			out.WriteByte('&')
			continue
		}
		units, err := mutf7Base64.DecodeString(code)
		if err != nil || len(units)%2 != 0 {
			return "", ErrMailboxName
		}
		for i := 0; i < len(units); i += 2 {
			r := rune(units[i])<<8 | rune(units[i+1])
			if utf16.IsSurrogate(r) {
				if i+3 >= len(units) {
					return "", ErrMailboxName
				}
				r = utf16.DecodeRune(r, rune(units[i+2])<<8|rune(units[i+3]))
				if r == utf8.RuneError {
					return "", ErrMailboxName
				}
				i += 2
			}
			if r == 0 {
				return "", ErrMailboxName
			}
			out.WriteRune(r)
		}
	}
}
