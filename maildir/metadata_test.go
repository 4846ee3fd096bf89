package maildir

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"roost/store"
)

func TestMetadataFile(t *testing.T) {
	const head = metadataHeader + "\n"
	for _, c := range []struct{ name, file, want string }{ // want: entry=value, one a line
		{"empty", "", ""},
		{"only a header", head, ""},
		{"tab", head + "/private/comment\tours\n", "/private/comment=ours"},
		{"blanks of a person", head + "/private/comment   ours, all \n", "/private/comment=ours, all"},
		{"CRLF of an editor", metadataHeader + "\r\n/private/comment\tours\r\n", "/private/comment=ours"},
		{"no end of the last line", head + "/private/comment\tours", "/private/comment=ours"},
		{"no value", head + "/private/comment\n", "/private/comment="},
		{"comments", head + "# mine\n\n/shared/x\ty # z\n", "/shared/x=y # z"},
		{"escapes", head + "/shared/a%20b\t%20a%0D%0A%00%25%ff \n", "/shared/a b= a\r\n\x00%\xff"},
		{"UTF-8", head + "/shared/x\tä\tö\n", "/shared/x=ä\tö"},
		{"Latin-1", head + "/shared/x\t\xe4\n", "/shared/x=\xe4"},
		{"a special use as it was always written", head + "/private/specialuse\t\\Sent \\Junk\n", "/private/specialuse=\\Sent \\Junk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := parseMetadata([]byte(c.file))
			if err != nil {
				t.Fatal(err)
			}
			if got := printed(m); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What is damaged is told with its line, and what is whole beside it is still read.
func TestMetadataDamaged(t *testing.T) {
	const good = "/private/specialuse\t\\Sent\n"
	for _, c := range []struct {
		name, file string
		line       int
	}{
		{"no header", good, 1},
		{"a later format", "roost-metadata 2\n" + good, 1},
		{"zeros after a power cut", strings.Repeat("\x00", 4096), 1},
		{"zeros at the end", metadataHeader + "\n" + good + strings.Repeat("\x00", 100), 3},
		{"no entry", metadataHeader + "\n" + good + "comment\tx\n", 3},
		{"a lone %", metadataHeader + "\n/private/comment\t50% of it\n" + good, 2},
		{"a % at the end", metadataHeader + "\n" + good + "\n/private/comment\t50%2\n", 4},
		{"twice", metadataHeader + "\n" + good + "/Private/SpecialUse\tx\n", 3},
		{"control", metadataHeader + "\n" + good + "/private/comment\ta\x01b\n", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := parseMetadata([]byte(c.file))
			var damaged *damagedError
			if !errors.As(err, &damaged) || !errors.Is(err, store.ErrDamaged) || damaged.line != c.line {
				t.Fatalf("error is %v, want line %d", err, c.line)
			}
			if got := string(m.get(store.SpecialUseEntry)); got != "" && got != `\Sent` {
				t.Fatalf("special use %q", got)
			}
		})
	}
}

// The lines of a person stay where they are, and as they are.
func TestMetadataKeepsLines(t *testing.T) {
	m, err := parseMetadata([]byte(metadataHeader + "\n# work\n/private/Comment    mine\n\n/shared/vendor/x/y\t1 \n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []struct {
		entry   string
		value   []byte
		changed bool
	}{
		{"/shared/vendor/x/y", []byte("1"), false},
		{"/private/comment", []byte(" a\r\nb "), true},
		{"/private/new one", []byte{}, true},
		{"/private/none", nil, false},
	} {
		if got := m.set(set.entry, set.value); got != set.changed {
			t.Errorf("set %s: changed is %v", set.entry, got)
		}
	}
	want := metadataHeader + "\n# work\n/private/Comment\t%20a%0D%0Ab%20\n\n/shared/vendor/x/y\t1 \n/private/new%20one\t\n"
	if got := string(m.encode()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func printed(m metadata) string {
	var out []string
	for _, a := range m.annotations() {
		out = append(out, a.Entry+"="+string(a.Value))
	}
	return strings.Join(out, "\n")
}

// What is written is read again, whatever the value; and what was read and is written is
// the same once more.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(metadataHeader+"\n/private/specialuse\t\\Sent\nfoo\n/x\ta\x01tb\n"), []byte("a\r\n %\xff"))
	f.Add([]byte(metadataHeader+"\r\n# x\n\n/shared/a%20b  %00 \n"), []byte(" "))
	f.Fuzz(func(t *testing.T, b, value []byte) {
		m, err := parseMetadata(b)
		parseUses(m.get(store.SpecialUseEntry))
		again, aerr := parseMetadata(m.encode())
		if aerr != nil {
			t.Fatalf("%q was read (%v), written and not read: %v", b, err, aerr)
		}
		if printed(m) != printed(again) || !bytes.Equal(m.encode(), again.encode()) {
			t.Fatalf("%q, then %q", m.encode(), again.encode())
		}
		m.set("/private/x y", slices.Concat([]byte{}, value))
		again, aerr = parseMetadata(m.encode())
		if aerr != nil || !bytes.Equal(again.get("/PRIVATE/x y"), value) {
			t.Fatalf("%q is read as %q: %v", value, again.get("/private/x y"), aerr)
		}
	})
}
