package message

import (
	"bytes"
	"testing"
)

func TestFieldsAreAsWritten(t *testing.T) {
	const head = "From: a\r\nX-Long: one\r\n two\r\n\tthree\r\nno colon\r\nSubject : s\r\n\r\nnot: a field\r\n"
	var got []string
	for f := range Fields([]byte(head)) {
		got = append(got, string(f.Name)+"|"+f.Text())
	}
	want := []string{"From|a", "X-Long|one two three", "|", "Subject|s"}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("field %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestAppendFields(t *testing.T) {
	const head = "From: a\r\nTo: b\r\n c\r\njunk\r\nfrom: d\r\n\r\n"
	for _, c := range []struct {
		header string
		names  []string
		not    bool
		want   string
	}{
		{head, []string{"FROM"}, false, "From: a\r\nfrom: d\r\n\r\n"},
		{head, []string{"to", "x"}, false, "To: b\r\n c\r\n\r\n"},
		{head, []string{"From"}, true, "To: b\r\n c\r\njunk\r\n\r\n"},
		{head, []string{""}, false, "\r\n"},
		{"", []string{"From"}, false, "\r\n"},
		{"", []string{"From"}, true, ""},
		{"From: a", []string{"From"}, false, "From: a\r\n\r\n"},
		{"From: a", []string{"To"}, true, "From: a"},
	} {
		if got := string(AppendFields(nil, []byte(c.header), NewFieldNames(c.names...), c.not)); got != c.want {
			t.Errorf("%q %v: %q, want %q", c.names, c.not, got, c.want)
		}
	}
}

func TestUnfold(t *testing.T) {
	for in, want := range map[string]string{
		" a  b ":         "a  b",
		"a\r\n b":        "a b",
		"a \r\n\t \n b":  "a b",
		"a\rb":           "a b",
		"a\x00b":         "a\ufffdb",
		"a\tb":           "a\tb",
		"\r\n folded\n ": "folded",
	} {
		if got := unfold([]byte(in)); got != want {
			t.Errorf("%q unfolds to %q, want %q", in, got, want)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte("From: a\r\n b\r\nx\n: y\n\nbody"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rest := b
		for field := range Fields(b) {
			if len(field.Raw) == 0 || !bytes.HasPrefix(rest, field.Raw) {
				t.Fatalf("%q is not what follows", field.Raw)
			}
			rest = rest[len(field.Raw):]
			if bytes.ContainsAny([]byte(field.Text()), "\r\n\x00") {
				t.Fatalf("text %q", field.Text())
			}
		}
		if len(rest) > 0 && !blankLine(rest[:bytes.IndexByte(rest, '\n')+1]) {
			t.Fatalf("%q is left", rest)
		}
	})
}
