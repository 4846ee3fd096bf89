package maildir

import (
	"slices"
	"strings"
	"testing"
	"time"

	"roost/store"
)

func letters(s string) (set letterSet) {
	for _, c := range s {
		set |= 1 << (c - 'a')
	}
	return set
}

func TestFlagsOf(t *testing.T) {
	for _, c := range []struct {
		name    string
		sys     store.Flags
		letters string
	}{
		{"1.a.host", 0, ""},
		{"1.a.host:2,", 0, ""},
		{"1.a.host:2,DFRSTab", store.FlagDraft | store.FlagFlagged | store.FlagAnswered | store.FlagSeen | store.FlagDeleted, "ab"},
		{"1.a.host:2,SFRTD", store.FlagDraft | store.FlagFlagged | store.FlagAnswered | store.FlagSeen | store.FlagDeleted, ""},
		{"1.a.host:2,SSzz", store.FlagSeen, "z"},
		{"1.a.host:2,PSX9", store.FlagSeen, ""},
		{"1.a.host:2,S,FRab", store.FlagSeen, ""}, // behind the second comma nothing is ours
		{"1.a.host:1,S", 0, ""},
		{"1.a.host:2", 0, ""},
		{"1.a.host:x:2,S", store.FlagSeen, ""}, // the last colon counts
		{"1.a.host:2,S:1,x", 0, ""},
		{":2,S", store.FlagSeen, ""},
		{"", 0, ""},
	} {
		if sys, set := flagsOf(c.name); sys != c.sys || set != letters(c.letters) {
			t.Errorf("flagsOf(%q) = %v, %b", c.name, sys, set)
		}
	}
}

func TestWithFlags(t *testing.T) {
	seen, answered := store.FlagSeen, store.FlagAnswered
	for _, c := range []struct {
		name    string
		sys     store.Flags
		letters string
		want    string
	}{
		{"1.a.host", 0, "", "1.a.host:2,"},
		{"1.a.host", seen, "", "1.a.host:2,S"},
		{"1.a.host:2,PSX", seen | answered, "a", "1.a.host:2,PRSXa"}, // as Dovecot
		{"1.a.host:2,S,ext=1", seen | answered, "a", "1.a.host:2,RSa,ext=1"},
		{"1.a.host:1,foo", seen, "", "1.a.host:2,S"},
		{"1.a.host:2", seen, "", "1.a.host:2,S"},
		{"1.a.host:2,SF", seen | store.FlagFlagged, "", "1.a.host:2,SF"}, // nothing to change
		{"1.a.host:2,SF", seen, "", "1.a.host:2,S"},
		{"1.a.host:2,abc", 0, "az", "1.a.host:2,az"},
		{"1.a.host:x:2,S", seen | answered, "", "1.a.host:x:2,RS"},
		{"1.a.host:2,,", seen, "", "1.a.host:2,S,"},
		{"1.a.host:2,S", 0, "", "1.a.host:2,"},
	} {
		if got := withFlags(c.name, c.sys, letters(c.letters)); got != c.want {
			t.Errorf("withFlags(%q, %v, %q) = %q, want %q", c.name, c.sys, c.letters, got, c.want)
		}
	}
}

func TestSizeHints(t *testing.T) {
	for _, c := range []struct {
		name string
		s, w int64
	}{
		{"1.a,S=674,W=691:2,S", 674, 691},
		{"1.a,W=691,S=674", 674, 691},
		{"1.a,S=674,x=9,W=691", 674, 691},
		{"1.a", -1, -1},
		{"1.a,S=,W=-1", -1, -1},
		{"1.a,S=12x,W=+3", -1, -1},
		{"1.a,S=99999999999999999999", -1, -1},
		{"1.a:2,S,S=5", -1, -1},
		{"1.aS=5", -1, -1},
	} {
		if s, w := sizeHints(c.name); s != c.s || w != c.w {
			t.Errorf("sizeHints(%q) = %d, %d", c.name, s, w)
		}
	}
}

func TestDeliverySeconds(t *testing.T) {
	now := time.Unix(1795464818, 0)
	for name, want := range map[string]int64{
		"1795464818.M1P2.host": 1795464818, "1795464819.x": 1795464819, "1995464819.x": 0,
		"17.x": 0, "msg": 0, "": 0, "1795464818": 0, "99999999999999999999999.x": 0,
	} {
		if got, ok := deliverySeconds(name, now); got != want || ok != (want != 0) {
			t.Errorf("deliverySeconds(%q) = %d, %v", name, got, ok)
		}
	}
}

// The names that Dovecot sorted are in the test of the fixtures; these are the corners.
func TestCompareNew(t *testing.T) {
	sorted := []string{
		"", "no number", ":2,",
		"9.M999999P1.host",
		"10.M5P1.host", "10.M40P1.host",
		"10.Vfe00Ia10617M767865.host", "10.Vfe00Ia10616M773834.host", // microseconds, not bytes
		"11.A.M5", "11.Z", "11.M1M5", "11.A1M2", // in the delivery identifier only
		"99999999999999999999.x",
	}
	shuffled := slices.Clone(sorted)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, compareNew)
	slices.SortFunc(sorted[:3], strings.Compare)
	if !slices.Equal(shuffled, sorted) {
		t.Errorf("sorted to %q", shuffled)
	}
}

func TestNamer(t *testing.T) {
	n := newNamer("a/b:c", 42)
	now := time.UnixMicro(1795464818_000007)
	first := n.next(now)
	if want := `1795464818.M7P42Q1.a\057b\072c`; first != want {
		t.Errorf("first name %q, want %q", first, want)
	}
	last := first
	for range 1000 {
		now = now.Add(-time.Millisecond) // a clock that goes back
		name := n.next(now)
		if compareNew(last, name) >= 0 || !isMessageName(name) || baseOf(name) != name {
			t.Fatalf("%q after %q", name, last)
		}
		last = name
	}
	if s, w := sizeHints(withSizes(last, 3, 4)); s != 3 || w != 4 {
		t.Errorf("sizes %d, %d", s, w)
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"1.M2P3.host,S=4,W=5:2,DFRSTabXP,ext:2,S", ":2,", "a:1,b:2", "17.x:2,zS,,", "\xff:2,\xff"} {
		f.Add(s, uint8(3), uint32(5))
	}
	f.Fuzz(func(t *testing.T, name string, sys uint8, set uint32) {
		wantSys, want := store.Flags(sys&31), letterSet(set&(1<<26-1))
		next := withFlags(name, wantSys, want)
		if gotSys, got := flagsOf(next); gotSys != wantSys || got != want {
			t.Fatalf("withFlags(%q, %v, %b) = %q, which reads %v, %b", name, wantSys, want, next, gotSys, got)
		}
		if baseOf(next) != baseOf(name) {
			t.Fatalf("base of %q changed: %q", name, next)
		}
		if again := withFlags(next, wantSys, want); again != next {
			t.Fatalf("%q, then %q", next, again)
		}
		// Foreign letters and what follows the second comma live through a change and back.
		_, letters, more, _ := splitInfo(name)
		_, lettersNext, moreNext, _ := splitInfo(next)
		if foreign(letters) != foreign(lettersNext) || more != moreNext {
			t.Fatalf("%q became %q", name, next)
		}
		sizeHints(name)
		deliverySeconds(name, time.Unix(1795464818, 0))
	})
}

func foreign(info string) string {
	var out []byte
	for _, c := range []byte(info) {
		if !isKnownLetter(c) {
			out = append(out, c)
		}
	}
	return string(out)
}

func FuzzCompareNew(f *testing.F) {
	f.Add("1.M2.h", "1.VM3.h", "1.x")
	f.Add("1", "01", "1.M")
	f.Add("1.AM9", "1.K", "1.ZM1")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if compareNew(a, b) != -compareNew(b, a) || (compareNew(a, b) == 0) != (a == b) {
			t.Fatalf("%q against %q: %d, %d", a, b, compareNew(a, b), compareNew(b, a))
		}
		list := []string{a, b, c}
		slices.SortFunc(list, compareNew)
		for i := range 2 {
			if compareNew(list[i], list[i+1]) > 0 || compareNew(list[0], list[2]) > 0 {
				t.Fatalf("no order: %q", list)
			}
		}
	})
}
