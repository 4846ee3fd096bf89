package maildir

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Modified UTF-7, in which folder names are written on disk (RFC 3501 section
// 5.1.3): printable ASCII stands for itself, "&-" for '&', and all else is UTF-16 in
// base64 between '&' and '-', with ',' for '/' and without padding.

var mutf7Base64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// encodeMUTF7 spells valid UTF-8; the bytes of coded, which are printable ASCII, are
// written in base64 too.
func encodeMUTF7(s, coded string) string {
	var out strings.Builder
	var run []uint16
	flush := func() {
		if len(run) == 0 {
			return
		}
		raw := make([]byte, 0, 2*len(run))
		for _, u := range run {
			raw = append(raw, byte(u>>8), byte(u))
		}
		out.WriteByte('&')
		out.WriteString(mutf7Base64.EncodeToString(raw))
		out.WriteByte('-')
		run = run[:0]
	}
	for _, r := range s {
		if r < ' ' || r > '~' || strings.IndexByte(coded, byte(r)) >= 0 {
			run = utf16.AppendRune(run, r)
			continue
		}
		flush()
		out.WriteByte(byte(r))
		if r == '&' {
			out.WriteByte('-')
		}
	}
	flush()
	return out.String()
}

// decodeMUTF7 reads what encodeMUTF7 writes with the same coded, and nothing else:
// one name has one spelling.
func decodeMUTF7(s, coded string) (string, bool) {
	var out strings.Builder
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '&')
		if i < 0 {
			out.WriteString(rest)
			break
		}
		out.WriteString(rest[:i])
		run, after, ok := strings.Cut(rest[i+1:], "-")
		if !ok {
			return "", false
		}
		rest = after
		if run == "" {
			out.WriteByte('&')
			continue
		}
		raw, err := mutf7Base64.DecodeString(run)
		if err != nil || len(raw)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		out.WriteString(string(utf16.Decode(units)))
	}
	name := out.String()
	return name, utf8.ValidString(name) && encodeMUTF7(name, coded) == s
}
