package uidlist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// short writes a list in one line: what a test wants of it.
func short(l *List) string {
	var b strings.Builder
	fmt.Fprintf(&b, "V%d next %d", l.Header.Validity, l.Next())
	for _, r := range l.Records {
		fmt.Fprintf(&b, " %d", r.UID)
		if r.Keys != "" {
			fmt.Fprintf(&b, "(%s)", r.Keys)
		}
		fmt.Fprintf(&b, "=%s", strings.TrimSuffix(strings.TrimPrefix(r.Base, "17003"), ".mail.example.org"))
	}
	if l.Bad > 0 {
		fmt.Fprintf(&b, " bad %d", l.Bad)
	}
	if l.Torn {
		b.WriteString(" torn")
	}
	return b.String()
}

// The trees that were damaged by hand: every UID that a file still proves is kept.
func TestFixtures(t *testing.T) {
	b, err := os.ReadFile("testdata/uidlists.json")
	if err != nil {
		t.Fatal(err)
	}
	var files map[string]string
	if err := json.Unmarshal(b, &files); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"ul empty":             "V0 next 1 torn; unsupported version \"\"",
		"ul v1 uid over next":  "V1000000002 next 9 2=00001.f1 4=00002.f2 6=00003.f3 8=00004.f4",
		"ul v1":                "V1000000001 next 9 2=00001.f1 4=00002.f2 6=00003.f3 8=00004.f4",
		"ul v2":                "V0 next 1; unsupported version \"2\"",
		"ul v9":                "V0 next 1; unsupported version \"9\"",
		"ul v3 CRLF":           "V1000000015 next 20 2=00001.f1 4=00002.f2",
		"ul v3 V0":             "V0 next 20 2=00001.f1; no UIDVALIDITY in the header",
		"ul v3 bad G":          "V1000000017 next 20 2=00001.f1",
		"ul v3 dup file":       "V1000000012 next 20 4=00002.f2 6=00001.f1",
		"ul v3 dup uid":        "V1000000013 next 20 6=00003.f3 bad 2",
		"ul v3 empty line":     "V1000000010 next 9 2=00001.f1 4=00002.f2 bad 1",
		"ul v3 ext":            "V1000000006 next 9 2(Xunknown S123 W130 Gmy-guid O7 Pmy-uidl)=00001.f1 4=00002.f2 6=00003.f3 8=00004.f4",
		"ul v3 garbage":        "V1000000009 next 9 2=00001.f1 4=00002.f2 6=00003.f3 bad 1",
		"ul v3 leading zeros":  "V1000000021 next 20 2=00001.f1 4=00002.f2",
		"ul v3 low N":          "V1000000005 next 41 10=00001.f1 20=00002.f2 30=00003.f3 40=00004.f4",
		"ul v3 min":            "V1000000004 next 9 2=00001.f1 4=00002.f2 6=00003.f3 8=00004.f4",
		"ul v3 missing":        "V1000000008 next 20 2=00001.f1 3=00060.gone 4=00002.f2",
		"ul v3 no LF":          "V1000000014 next 20 2=00001.f1 4=00002.f2 torn",
		"ul v3 no colon":       "V1000000020 next 20 4=00002.f2 bad 1",
		"ul v3 slash":          "V1000000016 next 20 2=00001.f1 bad 1",
		"ul v3 uid 4294967294": "V1000000019 next 4294967291 2=00001.f1 4294967290=00002.f2",
		"ul v3 uid max":        "V1000000018 next 5 2=00001.f1 bad 1",
		"ul v3 unordered":      "V1000000011 next 20 4=00002.f2 6=00003.f3 8=00001.f1",
		"ul v3 with flags":     "V1000000007 next 9 2=00001.f1 4=00002.f2 6=00003.f3 8=00004.f4",
	}
	sound := 0
	for name, text := range files {
		l, err := Parse([]byte(text), DefaultLimits)
		got := short(l)
		if err != nil {
			got += "; " + err.Error()
		}
		if w, ok := want[name]; !ok {
			// Written by Dovecot, and left alone: comes back byte by byte, but for N.
			if err != nil || l.Bad > 0 || l.Torn {
				t.Errorf("%s: %s", name, got)
			}
			_, body, _ := strings.Cut(text, "\n")
			_, printed, _ := strings.Cut(string(l.Append(nil)), "\n")
			if printed != body {
				t.Errorf("%s: printed\n%s\nwant\n%s", name, printed, body)
			}
			sound++
		} else if got != w {
			t.Errorf("%s:\n got %s\nwant %s", name, got, w)
		}
		delete(want, name)
	}
	if len(want) > 0 || sound < 20 {
		t.Errorf("missing fixtures %v; %d sound ones", want, sound)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"n is old", "3 V5 N1 G\n1 :a\n2 :b\n", "V5 next 3 1=a 2=b"},
		{"n is ahead", "3 V5 N1005\n1 :a\n", "V5 next 1005 1=a"},
		{"blanks and commas in a name", "3 V5 N1\n1 :a b, c=d\n", "V5 next 2 1=a b, c=d"},
		{"blank before the info", "3 V5 N1\n1 :a :2,S\n", "V5 next 2 1=a "},
		{"same line twice", "3 V5 N1\n1 :a\n1 S7 :a\n2 :b\n", "V5 next 3 1(S7)=a 2=b"},
		{"name twice, unordered", "3 V5 N1\n3 :a\n1 :a\n", "V5 next 4 3=a"},
		{"two claim one UID", "3 V5 N1\n1 :a\n2 :b\n2 :c\n", "V5 next 3 1=a bad 2"},
		{"empty name", "3 V5 N1\n1 :\n2 ::2,S\n", "V5 next 3 bad 2"},
		{"uid 0 and signs", "3 V5 N1\n0 :a\n-1 :b\n+2 :c\n", "V5 next 1 bad 3"},
		{"nul", "3 V5 N1\n1 :a\n\x00\x00\x00\n3 :c\x00\n", "V5 next 4 1=a bad 2"},
		{"torn in the uid", "3 V5 N1\n1 :a\n2", "V5 next 3 1=a bad 1 torn"},
		{"torn number far off", "3 V5 N1\n1 :a\n4000000000", "V5 next 2 1=a bad 1 torn"},
		{"glued: its number may be 5, 25 or 225", "3 V5 N1\n3 :a,S=1\n4 :b,S=19,W=225 :c\n", "V5 next 226 3=a,S=1 bad 1"},
		{"glued with keys", "3 V5 N1\n4 :b,W=25 W7 Gx :c\n6 :d\n", "V5 next 26 6=d bad 1"},
		{"v1", "1 5 3\n1 a\n2 b b:2,S\n", "V5 next 3 1=a 2=b b"},
		{"v1 without next", "1 5\n7 a\n", "V5 next 8 7=a"},
		{"header keys in another order", "3 R77 N4 Xx V5\n", "V5 next 4"},
		{"too long", "3 V5 N1\n1 :" + strings.Repeat("x", 9000) + "\n2 :b\n", "V5 next 3 2=b bad 1"},
	} {
		l, err := Parse([]byte(c.in), DefaultLimits)
		if got := short(l); err != nil || got != c.want {
			t.Errorf("%s:\n got %s, %v\nwant %s", c.name, got, err, c.want)
		}
	}
}

func TestUnknownKeysAreKept(t *testing.T) {
	in := "3 V5 N1 G0123456789abcdef0123456789abcdef P%08Xv%08Xu Xa:b\n1 B1 Zzz W9 :a\n2 :b\n"
	l, err := Parse([]byte(in), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	l.Header.ModSeq = 123
	want := "3 V5 N3 G0123456789abcdef0123456789abcdef R123 P%08Xv%08Xu Xa:b\n1 B1 Zzz W9 :a\n2 :b\n"
	if got := string(l.Append(nil)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	if w, ok := l.Records[0].Key('W'); w != "9" || !ok {
		t.Errorf("key W: %q, %v", w, ok)
	}
	if _, ok := l.Records[0].Key('S'); ok {
		t.Error("key S was made up")
	}
}

func TestRecordsAreLimited(t *testing.T) {
	l, err := Parse([]byte("3 V5 N1\n1 :a\n2 :b\n3 :c\n"), Limits{LineBytes: 100, Records: 2})
	if err == nil || len(l.Records) != 2 {
		t.Errorf("%v, %v", short(l), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("3 V5 N1 Gx R7 Zz\n1 :a\n3 S5 :b:2,S\n2 :c\n")
	f.Add("1 5 3\n1 a\n2 b\n")
	f.Add("3 V5 N1\n3 :a,S=1\n4 :b,S=19,W=225 :c")
	f.Add("3 V5 N1\n1 :a\n1 :b\n\n2")
	f.Fuzz(func(t *testing.T, in string) {
		l, err := Parse([]byte(in), DefaultLimits)
		if errors.Is(err, ErrVersion) {
			return
		}
		if !slices.IsSortedFunc(l.Records, func(a, b Record) int { return int(int64(a.UID) - int64(b.UID)) }) {
			t.Fatal("not in order")
		}
		printed := l.Append(nil)
		again, aerr := Parse(printed, DefaultLimits)
		if !errors.Is(aerr, err) || !reflect.DeepEqual(again.Records, l.Records) && len(l.Records)+len(again.Records) > 0 || again.Next() != l.Next() || again.Bad != 0 || again.Torn {
			t.Fatalf("%q\nprinted as %q\ngives %v, %v\n want %v, %v", in, printed, short(again), aerr, short(l), err)
		}
		if third := again.Append(nil); !bytes.Equal(third, printed) {
			t.Fatalf("printed %q, then %q", printed, third)
		}
	})
}

// Damage costs no more than sound lines do: bytes are looked at a bounded number of
// times.
func TestCostIsLinear(t *testing.T) {
	for name, line := range map[string]string{
		"glued":  "4 :" + strings.Repeat("9", 4000) + " :c\n",
		"keys":   "4 :b " + strings.Repeat("W ", 2000) + ":c\n",
		"colons": "4 " + strings.Repeat(" :", 2000) + "\n",
	} {
		allocs := func(n int) float64 {
			in := []byte("3 V5 N1\n" + strings.Repeat(line, n))
			return testing.AllocsPerRun(1, func() { Parse(in, DefaultLimits) })
		}
		if a, b := allocs(100), allocs(200); b > 2*a+20 {
			t.Errorf("%s: %v allocations, then %v for twice as much", name, a, b)
		}
	}
}

// A power cut may leave a part of the first line: its numbers are not those that were written.
func TestTornHeaderIsNotBelieved(t *testing.T) {
	whole := "3 V1795500001 N7 G00112233445566778899aabbccddeeff"
	for n := range len(whole) + 1 {
		l, err := Parse([]byte(whole[:n]), Limits{})
		if err == nil || l.Header.Validity != 0 {
			t.Errorf("%q: UIDVALIDITY %d, %v", whole[:n], l.Header.Validity, err)
		}
	}
	if l, err := Parse([]byte(whole+"\n"), Limits{}); err != nil || l.Header.Validity != 1795500001 {
		t.Errorf("%v, %v", l.Header, err)
	}
}
