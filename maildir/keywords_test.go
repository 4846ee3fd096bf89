package maildir

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseLetters(t *testing.T) {
	in := "0 $Forwarded\r\n2 Work\n2 Second\n3 work\n26 TooFar\nbad\n\n4 has space\n5 \n25 Last"
	tab := parseLetters([]byte(in))
	for i, want := range map[int]string{0: "$Forwarded", 1: "unknown-1", 2: "Work", 3: "unknown-3", 4: "unknown-4", 25: "Last"} {
		if got := tab.name(i); got != want {
			t.Errorf("letter %d is %q, want %q", i, got, want)
		}
	}
	if got := tab.all(); !slices.Equal(got, []string{"$Forwarded", "Work", "unknown-4", "Last"}) {
		t.Errorf("all: %q", got)
	}
	for keyword, want := range map[string]int{"WORK": 2, "$forwarded": 0, "nix": -1, "unknown-1": 1, "unknown-01": -1, "unknown-2": -1, "Unknown-4": 4, "unknown-26": -1} {
		if got := tab.find(keyword); got != want {
			t.Errorf("find(%q) = %d, want %d", keyword, got, want)
		}
	}
	want := "0 $Forwarded\n2 Work\n4 has space\n25 Last\n2 Second\n3 work\n26 TooFar\nbad\n5 \n"
	if got := string(tab.encode()); got != want {
		t.Errorf("encoded:\n%swant:\n%s", got, want)
	}
}

func TestAddLetter(t *testing.T) {
	var tab letterTable
	used := letterSet(1 << 1) // a file has the letter b, whose line was lost
	if i, fresh := tab.add("One", used); i != 0 || !fresh {
		t.Errorf("One: %d, %v", i, fresh)
	}
	if i, fresh := tab.add("one", used); i != 0 || fresh {
		t.Errorf("one: %d, %v", i, fresh)
	}
	if i, _ := tab.add("Two", used); i != 2 {
		t.Errorf("Two took the letter of a lost keyword: %d", i)
	}
	for i := range 23 {
		if _, fresh := tab.add("k"+strings.Repeat("x", i), used); !fresh {
			t.Fatal("not added")
		}
	}
	if i, fresh := tab.add("more", used); i != -1 || fresh {
		t.Errorf("a 27th letter: %d", i)
	}
	if got := tab.namesOf(1<<0 | 1<<1 | 1<<2); !slices.Equal(got, []string{"One", "unknown-1", "Two"}) {
		t.Errorf("namesOf: %q", got)
	}
}

func TestParseExtra(t *testing.T) {
	in := extraHeader +
		"$Junk Later :1.M2.host,S=67\n" +
		"gone :2.x\n" +
		"with :colon :3 with space\n" +
		" :2.x\n" +
		"nonsense\n" +
		"bad{atom :4.x\n" +
		"Newer :1.M2.host,S=67\n" +
		"torn :5.x"
	x, torn := parseExtra([]byte(in))
	if !torn {
		t.Error("the torn end was not seen")
	}
	want := "Newer :1.M2.host,S=67\nwith :colon :3 with space\n"
	if got := string(x.encode()); got != extraHeader+want {
		t.Errorf("encoded %q", got)
	}
	if x.lines != 5 {
		t.Errorf("%d lines counted", x.lines)
	}
	if _, torn = parseExtra([]byte("something else\n")); !torn {
		t.Error("a file without our head would be appended to")
	}
}

func FuzzLetters(f *testing.F) {
	f.Add([]byte("0 a\n1 b\n0 c\nx\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab := parseLetters(b)
		once := tab.encode()
		again := parseLetters(once)
		if twice := again.encode(); string(once) != string(twice) {
			t.Fatalf("%q, then %q", once, twice)
		}
		for i := range maxLetters {
			if name := tab.name(i); !isKeyword(name) {
				t.Fatalf("letter %d is %q", i, name)
			}
		}
	})
}

func FuzzExtraKeywords(f *testing.F) {
	f.Add([]byte(extraHeader + "a b :1.x\n :1.x\nc :2.x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, _ := parseExtra(b)
		again, torn := parseExtra(x.encode())
		if torn || !maps.EqualFunc(x.byBase, again.byBase, slices.Equal) {
			t.Fatalf("%q parsed back as %v, %v", x.encode(), again, torn)
		}
	})
}
