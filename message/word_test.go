package message

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeText(t *testing.T) {
	for in, want := range map[string]string{
		// RFC 2047 section 8
		"=?ISO-8859-1?Q?a?=":                                "a",
		"=?ISO-8859-1?Q?a?= b":                              "a b",
		"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=":             "ab",
		"=?ISO-8859-1?Q?a?=  \r\n    =?ISO-8859-1?Q?b?=":    "ab",
		"=?ISO-8859-1?Q?a_b?=":                              "a b",
		"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=":            "a b",
		"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>":     "Keith Moore <moore@cs.utk.edu>",
		"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=": "If you can read this yo",
		// The fixture's
		"=?iso-8859-1?Q?Gr=FC=DFe?= =?UTF-8?B?4oKs?=\n =?UTF-8?Q?x?=": "Grüße€x",
		// A character cut between two words, a language, no blanks around, broken ones
		"=?UTF-8?Q?=E2=82?= =?utf-8?Q?=AC?=": "€",
		"=?utf-8*de?Q?=C3=BC?=":              "ü",
		"a=?utf-8?q?b?=c":                    "abc",
		"=?utf-8?Q?open":                     "=?utf-8?Q?open",
		"=?utf-8?X?a?=":                      "=?utf-8?X?a?=",
		"=?x-unheard-of?Q?a?=":               "=?x-unheard-of?Q?a?=",
		"=?utf-8?Q?a=ZZ?=":                   "a=ZZ",
		"=??Q?a?= =?=?":                      "=??Q?a?= =?=?",
		"plain  text":                        "plain  text",
	} {
		if got := DecodeText([]byte(in)); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func FuzzDecodeText(f *testing.F) {
	f.Add("=?iso-8859-1?Q?Gr=FC=DFe?= =?UTF-8?B?4oKs?=\n =?UTF-8?Q?x?=")
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeText([]byte(s))
		if len(got) > 4*len(s)+16 {
			t.Fatalf("%d bytes became %d", len(s), len(got))
		}
		if !strings.Contains(s, "=?") && got != unfold([]byte(s)) {
			t.Fatalf("%q without encoded words became %q", s, got)
		}
		if utf8.ValidString(s) && !strings.Contains(s, "?") && !utf8.ValidString(got) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func TestCharset(t *testing.T) {
	for _, name := range []string{"utf-8", "UTF8", "us-ascii", "ISO-8859-15", "latin1", "windows-1251", "koi8-u", "gb2312", "GB18030",
		"big5", "euc-kr", "ISO-2022-JP", "utf-16le", "ibm437", "cp932", "macintosh", "\"utf-8\""} {
		if _, ok := Charset(name); !ok {
			t.Errorf("%s is unknown", name)
		}
	}
	for _, name := range []string{"", "x", "iso-2022-kr"} {
		if e, ok := Charset(name); ok {
			t.Errorf("%s is %v", name, e)
		}
	}
}
