package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What is said of wrong files stands in testdata/errors.txtar: all at once, each
// with line, column and what to do.
func TestErrors(t *testing.T) {
	const golden = "testdata/errors.txtar"
	arch, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(arch.Files); i += 2 {
		in, want := arch.Files[i], &arch.Files[i+1]
		_, err := Parse(in.Name, string(in.Data))
		var p Problems
		if !errors.As(err, &p) {
			t.Errorf("%s: error is %v, want Problems", in.Name, err)
			continue
		}
		got := p.Error() + "\n"
		if *update {
			want.Data = []byte(got)
		} else if got != string(want.Data) {
			t.Errorf("%s:\ngot\n%swant\n%s", in.Name, got, want.Data)
		}
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(arch), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The table of keys and the struct say the same.
func TestTableAndStruct(t *testing.T) {
	var walk func(typ reflect.Type, path string) []string
	walk = func(typ reflect.Type, path string) (names []string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.IsExported() {
				continue
			}
			name := join(path, keyOf(f))
			switch {
			case f.Type.Kind() == reflect.Struct:
				names = append(names, walk(f.Type, name)...)
			case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
				names = append(names, walk(f.Type.Elem(), name)...)
			default:
				k, ok := lookup(name)
				if !ok {
					t.Errorf("field %s has no row", name)
				} else if reflect.TypeOf(k.value) != f.Type {
					t.Errorf("%s: the default is %T, the field %v", name, k.value, f.Type)
				}
				names = append(names, name)
			}
		}
		return names
	}
	fields := walk(reflect.TypeFor[Config](), "")
	for _, k := range keys {
		if !slices.Contains(fields, k.name) {
			t.Errorf("row %s has no field", k.name)
		}
		if !slices.ContainsFunc(sections, func(s struct {
			name  string
			array bool
			about string
		}) bool {
			return s.name == sectionOf(k.name)
		}) {
			t.Errorf("row %s is in no section", k.name)
		}
		if !strings.HasSuffix(k.about, ".") {
			t.Errorf("row %s: %q is no sentence", k.name, k.about)
		}
	}
}

// plain is a Config without the place it came from.
func plain(c *Config) Config {
	d := *c
	d.src = nil
	return d
}

// The reference file says nothing new, neither as it stands nor with every value
// taken out of its comment.
func TestReferenceIsTheDefault(t *testing.T) {
	var b bytes.Buffer
	Reference(&b)
	c, err := Parse("reference", b.String())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(plain(c), *Default()) {
		t.Errorf("the reference changes something:\n%+v\n%+v", c, Default())
	}
	var open strings.Builder
	for line := range strings.SplitSeq(b.String(), "\n") {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		fmt.Fprintln(&open, strings.TrimPrefix(line, "#"))
	}
	c, err = Parse("reference", open.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, open.String())
	}
	want := Default()
	want.TLS.Certificate, want.IMAP.Filter, want.Client, want.Auth.Source, want.Auth.Listen = c.TLS.Certificate, c.IMAP.Filter, c.Client, c.Auth.Source, c.Auth.Listen // the samples
	want.Event = c.Event
	if !reflect.DeepEqual(plain(c), *want) {
		t.Errorf("the open reference changes something:\n%+v\n%+v", c, want)
	}
}

// What Show prints means the same.
func TestShowRoundTrip(t *testing.T) {
	c, err := Parse("in", `
hostname = "mx.example.org"
[[listen]]
address = "127.0.0.1:143"
plaintext = true
[auth]
remember = "off"
[mail]
location = 'maildir:~/"Mail"'
[[mail.folder]]
name = "Gesendet"
use = '\Sent'
[limits]
connections = 0
message = "10 MiB"
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Auth.Remember != Off || c.Limits.Message != 10*mib || c.Limits.Connections != 20000 ||
		len(c.Mail.Folder) != 1 || len(c.Listen) != 1 || c.Listen[0].Implicit() {
		t.Errorf("parsed wrongly: %+v", c)
	}
	var b bytes.Buffer
	c.Show(&b)
	again, err := Parse("shown", b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if !reflect.DeepEqual(plain(c), plain(again)) {
		t.Errorf("got %+v\nwant %+v", again, c)
	}
	if !strings.Contains(b.String(), "silence = \"30m\" # default\n") || strings.Contains(b.String(), "remember = \"off\" # default") {
		t.Errorf("defaults are not marked:\n%s", b.String())
	}
}

func TestSecretsAreMasked(t *testing.T) {
	k := key{name: "x", value: "", secret: true}
	if got := k.show("hunter2"); strings.Contains(got, "hunter2") {
		t.Errorf("shows %s", got)
	}
}

// An empty file listens for IMAPS and nothing else.
func TestEmptyFile(t *testing.T) {
	c, err := Parse("empty", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen) != 1 || !reflect.DeepEqual(c.Listen[0], Listen{Address: ":993", ProxyNetworks: []string{}}) || !c.Listen[0].Implicit() {
		t.Errorf("listens on %+v", c.Listen)
	}
	if c.Limits.LoginTime != 30*time.Second || c.Limits.Message != 64<<20 || c.IMAP.IdleKeepalive != 2*time.Minute {
		t.Errorf("limits are %+v", c.Limits)
	}
}

func TestChanges(t *testing.T) {
	old, err := Parse("old", "hostname='a'\n[auth]\nhashers = 2\n[log]\nlevel='warn'")
	if err != nil {
		t.Fatal(err)
	}
	new, err := Parse("new", "hostname='a'\n[[listen]]\naddress=':1993'\n[auth]\nhashers = 3\n[[mail.folder]]\nname='x'")
	if err != nil {
		t.Fatal(err)
	}
	live, restart := Changes(old, new)
	if want := []string{"mail.folder", "log.level"}; !slices.Equal(live, want) {
		t.Errorf("live %q, want %q", live, want)
	}
	if want := []string{"listen", "auth.hashers"}; !slices.Equal(restart, want) {
		t.Errorf("restart %q, want %q", restart, want)
	}
	now := Merge(old, new)
	if now.Listen[0].Address != ":993" || now.Auth.Hashers != 2 || now.Log.Level != "info" || now.Mail.Folder[0].Name != "x" {
		t.Errorf("in force: %+v", now)
	}
	if new.Listen[0].Address != ":1993" {
		t.Error("Merge changed its argument")
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"cret", "cert", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"abc", "ca", 3}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// Every key that TOML finds in a document has a place, and the key stands there.
func FuzzLocate(f *testing.F) {
	arch, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range arch.Files {
		f.Add(string(file.Data))
	}
	f.Add("a.b.\"c d\" = [[1, 2], {x = '''\n''', y.z = \"\\\"\"}] # c\n[[t]]\n[t.u]\nv = \"\"\"a\"\"\"\"\n[[t]]\n[[t.w]]\nx=1")
	f.Fuzz(func(t *testing.T, doc string) {
		places := locate(doc)
		lines := strings.Split(doc, "\n")
		for path, p := range places {
			if p.key.Line < 1 || p.key.Line > len(lines) || p.key.Col < 1 || p.key.Col > len([]rune(lines[p.key.Line-1]))+1 {
				t.Fatalf("%q is at %v, outside of the document", path, p.key)
			}
		}
		var tree map[string]any
		if _, err := toml.Decode(doc, &tree); err != nil || strings.Contains(doc, `\`) {
			return
		}
		var walk func(value any, path string)
		walk = func(value any, path string) {
			if path != "" {
				if _, ok := places[path]; !ok {
					t.Fatalf("%q has no place in %q", path, doc)
				}
			}
			switch v := value.(type) {
			case map[string]any:
				for name, sub := range v {
					walk(sub, join(path, name))
				}
			case []map[string]any:
				for i, sub := range v {
					walk(sub, fmt.Sprintf("%s[%d]", path, i))
				}
			case []any:
				for i, sub := range v {
					walk(sub, fmt.Sprintf("%s[%d]", path, i))
				}
			}
		}
		walk(tree, "")
	})
}

// Any text gives a configuration or problems, each inside of the file.
func FuzzParse(f *testing.F) {
	a, err := txtar.ParseFile("testdata/errors.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range a.Files {
		f.Add(string(file.Data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("f", text)
		var problems Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatal(err)
		}
		lines := 1 + strings.Count(text, "\n")
		for _, p := range problems {
			if p.Pos.Line > lines || p.Text == "" {
				t.Errorf("%v, of %d lines", p, lines)
			}
		}
	})
}
