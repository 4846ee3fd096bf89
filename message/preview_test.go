package message

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPreviewOf(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"Hello,\r\n\r\nhow are  you?\r\n", "Hello, how are you?"},
		{"text\n-- \nAnn\nhead of things\n", "text"},
		{"text\n--\nAnn\n", "text"},
		{"-- \nAnn\n", ""},
		{"> what you said\n> and more\n\nmy answer\n", "my answer"},
		{"On Monday, Ann <a@b> wrote:\n> what you said\n\nmy answer\n", "my answer"},
		{"On Monday, Ann wrote:\n\n> what you said\n\nmy answer\n", "my answer"},
		{"yes\nAm Montag schrieb Ann:\n>> older\n> old\nno", "yes no"},
		{"as I said\n> quoted\nend", "as I said end"},
		{"the list:\n\nitem\n", "the list: item"},
		{"On Monday, Ann wrote:\n> only this", "only this"},
		{"hi\n-----Original Message-----\nFrom: x\n", "hi"},
		{"-----Original Message-----\nit is all there is\n", "-----Original Message----- it is all there is"},
		{"=====\nTitle\n*****\n- - -\ntext", "Title text"},
		{"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\ntext\n-----BEGIN PGP SIGNATURE-----\nxxx\n", "text"},
		{"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n", ""},
		{"a\u200b\u00ad\u034fb \u202eright to left\ufeff", "ab right to left"},
		{"family \U0001F468\u200d\U0001F469", "family \U0001F468\u200d\U0001F469"},
		{"nul\x00 bell\a del\x7f end", "nul bell del end"},
		{"bad \xff\xfe utf-8", "bad utf-8"},
		{strings.Repeat("ab ", 100), strings.TrimSpace(strings.Repeat("ab ", 67)[:200])},
		{strings.Repeat("\u00e4", 300), strings.Repeat("\u00e4", 200)},
	} {
		if got := PreviewOf(c.text); got != c.want {
			t.Errorf("PreviewOf(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func TestHTMLPreview(t *testing.T) {
	for _, c := range []struct{ html, want string }{
		{"<html><head><title>no</title><style>p > b { color: red }</style></head><body><p>Hello <b>you</b>,</p><p>bye</p></body></html>", "Hello you, bye"},
		{"a&amp;b&nbsp;&lt;c&gt; &#228;&#x2014;", "a&b <c> \u00e4\u2014"},
		{"one<br>two<br/>three", "one two three"},
		{"<div>mine</div><div>On Monday Ann wrote:<br></div><blockquote><div>yours<blockquote>older</blockquote></div></blockquote>", "mine"},
		{"<!-- no --><!DOCTYPE html><script>if (a<b) x()</script>text<!-- never closed", "text"},
		{"<a title='x > y' href=\"z>\">link</a>", "link"},
		{"1 < 2 and 3 <4", "1 < 2 and 3 <4"},
		{"<p\nclass=x>text", "text"},
		{"<td>a</td><td>b</td>", "a b"},
		{"text <a href=\"never closed>rest", "text"},
		{"<style>all of it", ""},
		{"<STYLE>x</Style>text", "text"},
		{"<div>-- </div><div>Ann</div>", ""},
		{"<", ""}, {"<>", "<>"}, {"</", ""}, {"a</", "a"},
	} {
		if got := PreviewOf(htmlText(c.html)); got != c.want {
			t.Errorf("%q: %q, want %q", c.html, got, c.want)
		}
	}
}

// preview scans and previews a message.
func preview(t testing.TB, m string) (s string, read int64) {
	t.Helper()
	m = strings.ReplaceAll(m, "\n", "\r\n")
	sc := NewScanner(Limits{})
	io.WriteString(sc, m)
	parts, err := DecodeParts(AppendParts(nil, sc.Finish()))
	if err != nil {
		t.Fatal(err)
	}
	s, err = Preview(parts, func(w io.Writer, rg Range) error {
		for off := rg.Off; off < rg.End(); off += 1000 {
			piece := m[off:min(off+1000, rg.End())]
			read += int64(len(piece))
			if _, err := io.WriteString(w, piece); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, read
}

func TestPreviewParts(t *testing.T) {
	part := func(head, body string) string { return "--b\n" + head + "\n\n" + body + "\n" }
	mixed := func(sub string, parts ...string) string {
		return "Content-Type: multipart/" + sub + "; boundary=b\n\n" + strings.Join(parts, "") + "--b--\n"
	}
	for _, c := range []struct{ name, mail, want string }{
		{"plain", "Subject: x\n\nthe text\n", "the text"},
		{"no body", "Subject: x\n\n", ""},
		{"base64 and a charset", "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n8NLJ18XU\n", "Привет"},
		{"plain before HTML", mixed("alternative", part("Content-Type: text/html", "<b>html</b>"), part("Content-Type: text/plain", "plain")), "plain"},
		{"HTML where the plain text is empty", mixed("alternative", part("Content-Type: text/plain", " \n"), part("Content-Type: text/html", "<b>html</b>")), "html"},
		{"an attachment is none", mixed("mixed", part("Content-Type: text/plain\nContent-Disposition: attachment; filename=x", "attached"), part("Content-Type: text/html", "body")), "body"},
		{"an attachment alone", mixed("mixed", part("Content-Disposition: ATTACHMENT", "attached")), ""},
		{"a forwarded message comes after the text", mixed("mixed", part("Content-Type: message/rfc822", "Subject: y\n\ninner"), part("Content-Type: text/html", "outer")), "outer"},
		{"a forwarded message alone", mixed("mixed", part("Content-Type: message/rfc822", "Subject: y\n\ninner")), "inner"},
		{"an image", "Content-Type: image/png\n\nxxxx\n", ""},
		{"encrypted", mixed("encrypted", part("Content-Type: application/pgp-encrypted", "Version: 1"), part("Content-Type: text/plain", "noise")), ""},
		{"a calendar", "Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n", ""},
	} {
		if got, _ := preview(t, c.mail); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Of a big message no more is read than the preview needs.
func TestPreviewReadsLittle(t *testing.T) {
	s, read := preview(t, "Subject: x\n\n"+strings.Repeat("some words\n", 1<<20))
	if utf8.RuneCountInString(s) != PreviewRunes || read > 2*previewText {
		t.Errorf("%d characters of %d bytes", utf8.RuneCountInString(s), read)
	}
	for _, head := range []string{"Content-Type: text/html; charset=koi8-r\nContent-Transfer-Encoding: base64", "Content-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: quoted-printable"} {
		if _, read := preview(t, head+"\n\n"+strings.Repeat("c29tZSB3b3Jkcwpz\n", 1<<18)); read > 3*previewHTML {
			t.Errorf("%q: %d bytes", head, read)
		}
	}
	many := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n \n", 1000)
	if s, read := preview(t, many); s != "" || read > 1000 {
		t.Errorf("%q, %d bytes", s, read)
	}
}

func TestPreviewFails(t *testing.T) {
	broken := errors.New("broken")
	parts := []Part{{Type: "text", Subtype: "plain"}}
	if _, err := Preview(parts, func(io.Writer, Range) error { return broken }); err != broken {
		t.Error(err)
	}
}

func FuzzPreview(f *testing.F) {
	f.Add("Content-Type: text/html\n\n<p>x<blockquote>y</blockquote>")
	f.Add("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n> x\n--b--")
	f.Fuzz(func(t *testing.T, m string) {
		s, _ := preview(t, m)
		for _, out := range []string{s, PreviewOf(m), PreviewOf(htmlText(m))} {
			if !utf8.ValidString(out) || utf8.RuneCountInString(out) > PreviewRunes || strings.TrimSpace(out) != out {
				t.Fatalf("%q gives %q", m, out)
			}
			if i := strings.IndexFunc(out, unicode.IsControl); i >= 0 {
				t.Fatalf("%q gives %q", m, out)
			}
		}
	})
}
