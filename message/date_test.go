package message

import (
	"testing"
	"time"
)

func TestParseDate(t *testing.T) {
	for in, want := range map[string]string{
		// RFC 5322 appendix A
		"Fri, 21 Nov 1997 09:55:06 -0600": "1997-11-21T09:55:06-06:00",
		"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)": "1969-02-13T23:32:00-03:30",
		"21 Nov 97 09:55:06 GMT":                          "1997-11-21T09:55:06Z",
		"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600": "1997-11-21T09:55:06-06:00",
		// The fixture's
		"24 Nov 26 01:02 EST":                       "2026-11-24T01:02:00-05:00",
		"Tue, 24 Nov 2026 01:02:03 +0000 (comment)": "2026-11-24T01:02:03Z",
		"Tue,24 Nov 2026 1:2:3 -0000":               "2026-11-24T01:02:03Z",
		"Tue, 24 Nov 2026\n 01:02:03\n +0100":       "2026-11-24T01:02:03+01:00",
		"garbage":                                   "",
		"32 Foo 2026 99:99:99 +9999":                "",
		"2026-11-24T01:02:03Z":                      "",
		// Others
		"Tue, 24-Nov-2026 01:02:03 +0000": "2026-11-24T01:02:03Z",
		"24 November 2026 01:02":          "2026-11-24T01:02:00Z",
		"24 Nov 126 01:02:60 XYZ":         "2026-11-24T01:02:59Z",
		"30 Feb 2026 01:02:03 +0000":      "",
		"24 Nov 2026 24:00:00 +0000":      "",
		"24 Nov 2026 1:60 +0000":          "",
		"24 Nov 2026 01:02:03 +0099":      "",
		"24 Nov 2026":                     "",
		"":                                "",
		"Tue,":                            "",
	} {
		got, ok := ParseDate([]byte(in))
		if text := got.Format(time.RFC3339); ok != (want != "") || ok && text != want {
			t.Errorf("%q is %s %v, want %q", in, text, ok, want)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	f.Add([]byte("Thu, 13 Feb 1969 23:32 -0330 (x)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := ParseDate(b)
		if !ok {
			return
		}
		again, ok := ParseDate([]byte(d.Format("Mon, _2 Jan 2006 15:04:05 -0700")))
		if d.Year() >= 1000 && (!ok || !again.Equal(d)) {
			t.Fatalf("%q is %v, written and read again %v %v", b, d, again, ok)
		}
	})
}
