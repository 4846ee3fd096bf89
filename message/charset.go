package message

import (
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
)

// Charset gives the encoding of a charset by the names that IANA and the web
// know, and false for an unknown one. US-ASCII and ISO-8859-1 are read as
// windows-1252, which is what programs that say so mean by other bytes.
func Charset(name string) (encoding.Encoding, bool) {
	name = strings.Trim(name, " \t'\"")
	if e, err := htmlindex.Get(name); err == nil {
		if e == encoding.Replacement {
			return nil, false
		}
		return e, true
	}
	if e, err := ianaindex.MIME.Encoding(name); err == nil && e != nil {
		return e, true
	}
	if e, err := ianaindex.IANA.Encoding(name); err == nil && e != nil {
		return e, true
	}
	switch strings.ToLower(name) {
	case "utf8mb4", "unicode-1-1-utf-8":
		return unicode.UTF8, true
	case "cp932":
		return Charset("shift_jis")
	}
	return nil, false
}

// asIs tells whether text in this charset is searched as it stands: UTF-8, and
// what does not say what it is, which is mostly UTF-8 too.
func asIs(name string) bool {
	switch strings.ToLower(name) {
	case "", "us-ascii", "ascii", "utf-8", "utf8":
		return true
	}
	return false
}
