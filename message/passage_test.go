package message

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// What is kept of searched text is kept under TextVersion. When this test fails because text
// comes out otherwise than it did, raise textVersion, and put the new sum here.
func TestTextVersion(t *testing.T) {
	var b strings.Builder
	b.WriteString("From: =?utf-8?q?J=C3=BCrgen?= =?iso-8859-1?b?R3L832U=?= <j@example.org>\r\nSubject: folded\r\n  \tin =?koi8-r?Q?=F0=D2=C9=D7=C5=D4?= and =?no-such?q?x?=\r\nX-NUL: a\x00b\xff\r\nno field\r\n")
	b.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n")
	for _, charset := range []string{"", "us-ascii", "utf-8", "iso-8859-1", "windows-1251", "koi8-r", "shift_jis", "iso-2022-jp", "gb18030", "euc-kr", "utf-7", "utf-16", "no-such"} {
		for _, encoding := range []string{"8bit", "base64", "quoted-printable", "x-uuencode"} {
			for _, kind := range []string{"text/plain", "text/html", "image/png", "message/rfc822", "message/delivery-status"} {
				fmt.Fprintf(&b, "--b\r\nContent-Type: %s; charset=%q\r\nContent-Transfer-Encoding: %s\r\n\r\nSubject: inner\r\n\r\n<p>Gr=C3=BC=DFe &uuml; \xcf\xf0\xe8 \x1b$B%%F\x1b(B +AOQ- R3L832U= \xe2\x82\r\n", kind, charset, encoding)
			}
		}
	}
	raw := []byte(b.String())
	s := NewScanner(Limits{})
	s.Write(raw)
	sum := sha256.New()
	f := Folder{W: sum}
	for p := range Passages(s.Finish()) {
		fmt.Fprintf(sum, "|%v %v|", p.Header, p.Inside)
		part := raw[p.Range().Off:p.Range().End()]
		if !p.Header {
			w := NewTextWriter(p.Part, &f)
			w.Write(part)
			w.Close()
			f.End()
			continue
		}
		for field := range Fields(part) {
			WriteField(&f, field)
			f.End()
		}
	}
	const want = "689567e65bf9bb89"
	if got := fmt.Sprintf("%x", sum.Sum(nil)[:8]); got != want && unicode.Version == "15.0.0" && norm.Version == "15.0.0" {
		t.Errorf("searched text is %s, was %s: see above", got, want)
	}
}

// What is within limits is found alike under all limits that cover them.
func TestWithin(t *testing.T) {
	var deep strings.Builder
	for i := range 12 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\nX: %s\r\n\r\n--b%d\r\n", i, strings.Repeat("x", 40), i)
	}
	many := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\ntext\r\n", 12)
	small := Limits{Depth: 10, Parts: 10, Header: 400, Headers: 1000}
	for _, raw := range []string{deep.String(), many, "X: " + strings.Repeat("long ", 200) + "\r\nContent-Type: image/png\r\n\r\n", "Subject: x\r\n\r\ny", deep.String()[:300], many[:90]} {
		var lists [2][]byte
		var within bool
		for i, l := range []Limits{small, {}} {
			s := NewScanner(l)
			s.Write([]byte(raw))
			parts := s.Finish()
			lists[i] = AppendParts(nil, parts)
			if i == 0 {
				within = Within(parts, small)
			}
		}
		if same := bytes.Equal(lists[0], lists[1]); within && !same {
			t.Errorf("%.60q... is within the limits, and is found otherwise with others", raw)
		}
		if len(raw) < 200 && !within {
			t.Errorf("%q is not within the limits", raw)
		}
	}
	if !(Limits{}).Covers(Common) || (Limits{Depth: 5}).Covers(Common) {
		t.Error("the default limits must cover Common, and others not")
	}
}
