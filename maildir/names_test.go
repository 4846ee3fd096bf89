package maildir

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"roost/store"
)

func TestMUTF7(t *testing.T) {
	for text, disk := range map[string]string{
		"": "", "INBOX": "INBOX", "R&D": "R&-D", "&": "&-", "&&": "&-&-",
		"Ümläut": "&ANw-ml&AOQ-ut", "日本語": "&ZeVnLIqe-", "Emoji 😀": "Emoji &2D3eAA-", "é": "&AOk-",
		"台北": "&U,BTFw-", "a\tb": "a&AAk-b", "\x7f": "&AH8-", "-é-": "-&AOk--",
	} {
		if got := encodeMUTF7(text, ""); got != disk {
			t.Errorf("encode %q = %q, want %q", text, got, disk)
		}
		if got, ok := decodeMUTF7(disk, ""); !ok || got != text {
			t.Errorf("decode %q = %q, %v", disk, got, ok)
		}
	}
	for _, bad := range []string{"&", "a&", "&AGE-", "&AGEAYg-", "&bad-mutf7", "&AOk", "&AOk=-", "&AO-", "é", "\xff", "&2D0-", "&AOk-&AOk-", "&AAkB-", "&A/-"} {
		if got, ok := decodeMUTF7(bad, ""); ok {
			t.Errorf("decode %q = %q", bad, got)
		}
	}
	if got := encodeMUTF7("é.x", "/.~:"); got != "&AOkALg-x" {
		t.Errorf("Courier's dot: %q", got)
	}
}

func TestSpelling(t *testing.T) {
	pp, fs := store.LayoutMaildirPP, store.LayoutFS
	back, courier := store.EscapeBackslash, store.EscapeCourier
	for _, c := range []struct {
		s    spelling
		name string
		want string // directories joined by '/'; "" is ErrCannot
	}{
		{spelling{layout: pp, sep: '/'}, "Archive/2024", ".Archive.2024"},
		{spelling{layout: pp, sep: '.'}, "Archive.2024", ".Archive.2024"},
		{spelling{layout: pp, sep: '/'}, "v1.0", ""},
		{spelling{layout: pp, sep: '.'}, "a/b", ""},
		{spelling{layout: pp, sep: '/'}, "a//b", ""},
		{spelling{layout: pp, sep: '/'}, "/a", ""},
		{spelling{layout: pp, sep: '/'}, "", ""},
		{spelling{layout: pp, sep: '/'}, "a\x00b", ""},
		{spelling{layout: pp, sep: '/'}, "a\xff", ""},
		{spelling{layout: pp, sep: '/'}, "*%\\\" x", ".*%\\\" x"},
		{spelling{layout: pp, sep: '/'}, "cur/tmp", ".cur.tmp"},
		{spelling{layout: pp, sep: '/'}, strings.Repeat("x", 255), ""},
		{spelling{layout: pp, sep: '/'}, strings.Repeat("x", 254), "." + strings.Repeat("x", 254)},
		{spelling{layout: pp, sep: '/'}, strings.Repeat("a/", 64) + "a", ""},
		{spelling{layout: pp, sep: '/', utf8: true}, "Ümläut/R&D", ".Ümläut.R&D"},

		{spelling{layout: pp, sep: '/', escape: back}, "a.b/c.d", `.a\2eb.c\2ed`},
		{spelling{layout: pp, sep: '/', escape: back}, "~t/~u", `.\7et.\7eu`},
		{spelling{layout: pp, sep: '/', escape: back}, `back\slash`, `.back\5cslash`},
		{spelling{layout: pp, sep: '/', escape: back}, ".", `.\2e`},
		{spelling{layout: pp, sep: '/', escape: back}, "Äpfel.de", `.&AMQ-pfel\2ede`},
		{spelling{layout: pp, sep: '.', escape: back}, "path/to.x", `.path\2fto.x`},
		{spelling{layout: pp, sep: '.', escape: back, prefixed: true}, "INBOX", `.\49NBOX`},
		{spelling{layout: pp, sep: '.', prefixed: true}, "inbox", ""},

		{spelling{layout: pp, sep: '/', escape: courier}, "a.b/c:~", ".a&AC4-b.c&ADoAfg-"},
		{spelling{layout: pp, sep: '.', escape: courier}, "a/b", ".a&AC8-b"},

		{spelling{layout: fs, sep: '/'}, "v1.0 notes/sub.box", "v1.0 notes/sub.box"},
		{spelling{layout: fs, sep: '/'}, ".hidden", ".hidden"},
		{spelling{layout: fs, sep: '/'}, "..", ""},
		{spelling{layout: fs, sep: '/'}, "a/../b", ""},
		{spelling{layout: fs, sep: '/'}, ".", ""},
		{spelling{layout: fs, sep: '/'}, "a/cur", ""},
		{spelling{layout: fs, sep: '/'}, "tmp", ""},
		{spelling{layout: fs, sep: '/', mailDir: "mail"}, "a/mail", ""},
		{spelling{layout: fs, sep: '/', escape: back}, "a/cur", ""},
		{spelling{layout: fs, sep: '/', escape: back}, "../..x", `\2e./..x`}, // as Dovecot has it
		{spelling{layout: fs, sep: '.'}, "a/b.c", ""},
		{spelling{layout: fs, sep: '.', escape: back}, "a/b.c", `a\2fb/c`},
	} {
		levels, err := c.s.split(c.name)
		var comps []string
		if err == nil {
			comps, err = c.s.components(levels)
		}
		if got := strings.Join(comps, "/"); got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, store.ErrCannot) {
			t.Errorf("%+v: %q is spelled %q, want %q: %v", c.s, c.name, got, c.want, err)
		}
	}
}

func TestFromDirectory(t *testing.T) {
	plain := spelling{layout: store.LayoutMaildirPP, sep: '/'}
	back, courier := plain, plain
	back.escape, courier.escape = store.EscapeBackslash, store.EscapeCourier
	for _, c := range []struct {
		s         spelling
		dir       string
		want      string // levels joined by '|'; "" is no mailbox
		canonical bool
	}{
		{plain, ".A.B", "A|B", true},
		{plain, ".&ANw-nder", "Ünder", true},
		{plain, "..DOVECOT-TRASHED", "", false},
		{plain, ".", "", false},
		{plain, "..", "", false},
		{plain, "cur", "", false},
		{plain, ".a..b", "", false},
		{plain, ".trailing.", "", false},
		{plain, ".nfs00000000deadbeef", "", false},
		{plain, ".nfs", "nfs", true},
		// Made by others: shown as they stand, or as Latin-1.
		{plain, ".&", "&", false},
		{plain, ".&AGEAYg-", "&AGEAYg-", false},
		{plain, ".ok.Ünder", "ok|Ünder", false},
		{plain, ".latin1-\xe9", "latin1-é", false},
		{back, `.\7et.a\2eb`, "~t|a.b", true},
		{back, `.a.\7et`, "a|~t", true},
		{back, `.a.~t`, "a|~t", false},
		{back, `.a\2Eb`, "a.b", false},
		{back, `.a\b`, `a\b`, false},
		{back, `.a\00b`, "", false},
		{courier, ".a&AC4-b", "a.b", true},
		{courier, ".a:b", "a:b", false},
	} {
		levels, canonical, _ := c.s.fromDirectory(c.dir)
		if got := strings.Join(levels, "|"); got != c.want || canonical != c.canonical {
			t.Errorf("%q reads %q, %v; want %q, %v", c.dir, got, canonical, c.want, c.canonical)
		}
	}
}

func FuzzSpelling(f *testing.F) {
	for _, s := range []string{"a/b.c", "Ümläut~", `.\2e`, "&AGE-", ".latin1-\xe9", "INBOX", "..", "cur"} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(0xff))
	}
	f.Fuzz(func(t *testing.T, name string, how uint8) {
		s := spelling{layout: store.LayoutMaildirPP, sep: '/', utf8: how&1 != 0, prefixed: how&2 != 0}
		if how&4 != 0 {
			s.layout, s.mailDir = store.LayoutFS, "mail"
		}
		if how&8 != 0 {
			s.sep = '.'
		}
		s.escape = []store.Escape{store.EscapeNone, store.EscapeBackslash, store.EscapeCourier, store.EscapeNone}[how>>4&3]
		levels, err := s.split(name)
		if err == nil {
			comps, err := s.components(levels)
			if err == nil {
				checkComponents(t, s, levels, comps)
			}
		}
		// A directory of any name is read without harm, and a canonical one back to itself.
		if levels, canonical, ok := s.fromDirectory(name); ok && canonical && s.layout == store.LayoutMaildirPP {
			if comps, err := s.components(levels); err != nil || comps[0] != name {
				t.Fatalf("%q reads %q, spelled %q: %v", name, levels, comps, err)
			}
		}
	})
}

func checkComponents(t *testing.T, s spelling, levels, comps []string) {
	for _, c := range comps {
		if c == "" || c == "." || c == ".." || strings.ContainsAny(c, "/\x00") || len(c) > maxComponent {
			t.Fatalf("%q is spelled %q", levels, comps)
		}
	}
	var got []string
	if s.layout == store.LayoutFS {
		for i, c := range comps {
			if s.reserved(c) || c == trashName {
				t.Fatalf("%q is spelled %q", levels, comps)
			}
			level, canonical := s.decode(c, i)
			if !canonical {
				t.Fatalf("%q is not canonical", c)
			}
			got = append(got, level)
		}
	} else {
		got, _, _ = s.fromDirectory(comps[0])
		if strings.HasPrefix(comps[0], ".nfs") {
			return // taken for a removed file of NFS
		}
	}
	if !slices.Equal(got, levels) {
		t.Fatalf("%q, spelled %q, reads %q", levels, comps, got)
	}
}

// What is plain reads as if it had been looked at for what must be decoded.
func TestPlainLevelsReadAlike(t *testing.T) {
	const letters = "aZ09.~&-\\/: %{}*\x7f\x01ü"
	r := rand.New(rand.NewPCG(7, 7))
	plain := 0
	for range 50_000 {
		s := spelling{
			layout:   []store.Layout{store.LayoutMaildirPP, store.LayoutFS}[r.IntN(2)],
			escape:   []store.Escape{store.EscapeNone, store.EscapeBackslash, store.EscapeCourier}[r.IntN(3)],
			utf8:     r.IntN(2) == 0,
			sep:      "/."[r.IntN(2)],
			prefixed: r.IntN(2) == 0,
		}
		disk := []string{"cur", "new", "INBOX", "inbox", "..", "."}[r.IntN(6)]
		if r.IntN(8) > 0 {
			b := make([]byte, 1+r.IntN(4))
			for i := range b {
				b[i] = letters[r.IntN(len(letters))]
			}
			disk = string(b)
		}
		if s.plain(disk) {
			plain++
		}
		i := r.IntN(2)
		level, canonical := s.decode(disk, i)
		if wantLevel, want := s.decodeAny(disk, i); level != wantLevel || canonical != want {
			t.Fatalf("%q by %+v reads %q, %v, and looked at %q, %v", disk, s, level, canonical, wantLevel, want)
		}
	}
	if plain < 1000 {
		t.Errorf("only %d were plain", plain)
	}
}
