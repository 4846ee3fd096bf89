package message

import (
	"bytes"
	"encoding/base64"
	"mime/quotedprintable"
	"strings"
	"testing"
)

// decode decodes b written in pieces of step bytes.
func decode(e Encoding, b []byte, step int) string {
	var out bytes.Buffer
	d := NewDecoder(e, &out)
	for ; len(b) > 0; b = b[min(step, len(b)):] {
		d.Write(b[:min(step, len(b))])
	}
	d.Close()
	return out.String()
}

func TestDecoders(t *testing.T) {
	trailing := decode(Base64, []byte("trailing"), 1) // behind the padding it is decoded too
	for _, c := range []struct {
		e        Encoding
		in, want string
	}{
		{Base64, "aGVsbG8=", "hello"},
		// The damaged bodies of the fixture
		{Base64, "aGVsbG8", "hello"},
		{Base64, "aGVsbG8=====", "hello"},
		{Base64, "aGVs*bG8=", "hello"},
		{Base64, "aGVsbG8=\r\ntrailing", "hello" + trailing},
		{Base64, "====", ""},
		{Base64, "aGVs\r\n\r\nbG8=", "hello"},
		{Base64, "aGVsbG8=aGVsbG8=", "hellohello"},
		{Base64, "a", ""},
		{QuotedPrintable, "Gr=C3=BC=\r\n=C3=9Fe = end=3D\r\ntrailing  \r\nsoft=  \r\nx", "Grüße = end=\r\ntrailing\r\nsoftx"},
		{QuotedPrintable, "=ZZ =4 =\r\n=\r\n\r\n=c3=bc", "=ZZ =4 \r\nü"},
		{QuotedPrintable, "a=", "a"},
		{QuotedPrintable, "a=4", "a=4"},
		{QuotedPrintable, "a= b", "a= b"},
		{QuotedPrintable, "a \t", "a"},
		{QuotedPrintable, "a\rb\r\n", "a\rb\r\n"},
		{QuotedPrintable, "==41", "=A"},
		{Identity, "a=41 \r\n", "a=41 \r\n"},
		{EncodingUnknown, "begin 644", "begin 644"},
	} {
		for _, step := range []int{1, 2, 5, 1000} {
			if got := decode(c.e, []byte(c.in), step); got != c.want {
				t.Errorf("%q in pieces of %d is %q, want %q", c.in, step, got, c.want)
			}
		}
	}
}

func FuzzDecoders(f *testing.F) {
	f.Add([]byte("Gr=C3=BC=\r\n x \t=\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		step = max(1, min(step, 100))
		for _, e := range []Encoding{Base64, QuotedPrintable} {
			whole := decode(e, b, len(b)+1)
			if len(whole) > len(b) {
				t.Fatalf("%d bytes decode to %d", len(b), len(whole))
			}
			if got := decode(e, b, step); got != whole {
				t.Fatalf("in pieces of %d it is %q, whole %q", step, got, whole)
			}
		}
		if got := decode(Base64, []byte(base64.StdEncoding.EncodeToString(b)), step); got != string(b) {
			t.Fatalf("base64: %q became %q", b, got)
		}
		var qp bytes.Buffer
		w := quotedprintable.NewWriter(&qp)
		w.Binary = true
		w.Write(b)
		w.Close()
		if got := decode(QuotedPrintable, qp.Bytes(), step); got != string(b) {
			t.Fatalf("quoted-printable: %q became %q by %q", b, got, qp.Bytes())
		}
	})
}

func TestEncodingNames(t *testing.T) {
	for in, want := range map[string]Encoding{
		"": Identity, "8BIT": Identity, "Binary": Identity, "BASE64": Base64,
		"quoted-printable": QuotedPrintable, "x-uuencode": EncodingUnknown, "7-bit": EncodingUnknown,
	} {
		if got := parseEncoding(in); got != want {
			t.Errorf("%s is %d, want %d", in, got, want)
		}
	}
}

func TestTextIsUTF8(t *testing.T) {
	for _, c := range []struct{ header, body, want string }{
		{"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable", "Gr=FC=DFe", "Grüße"},
		{"Content-Type: text/plain; charset=\"Shift_JIS\"\nContent-Transfer-Encoding: base64", "k/qWew==", "日本"},
		{"Content-Type: text/plain; charset=koi8-r", "\xd2", "р"},
		{"Content-Type: text/plain; charset=iso-2022-jp", "\x1b$BF|\x1b(B", "日"},
		{"Content-Type: text/plain; charset=x-unheard-of", "\xd2", "\xd2"},
		{"Content-Type: text/plain", "ü\xff", "ü\xff"},
		{"Content-Type: text/html; charset=windows-1252", "\x80 <b>", "€ <b>"},
	} {
		parts := scan([]byte(c.header+"\n\n"+c.body), Limits{})
		var out strings.Builder
		w := NewTextWriter(&parts[0], &out)
		for _, b := range []byte(c.body) {
			w.Write([]byte{b})
		}
		if err := w.Close(); err != nil || out.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", c.header, out.String(), err, c.want)
		}
	}
}
