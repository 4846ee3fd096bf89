package courier

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"roost/maildir/uidlist"
)

func TestParseUIDs(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"as Courier writes it", "1 795465324 52\n1 a.M1_0.mail,S=947\n3 a.M3_2.mail,S=753\n", "V795465324 next 52 1=a.M1_0.mail,S=947 3=a.M3_2.mail,S=753"},
		{"no message", "1 795465324 1\n", "V795465324 next 1"},
		{"all expunged", "1 5 53\n", "V5 next 53"},
		{"torn record: the message is new, above all", "1 5 53\n1 a\n2 b", "V5 next 53 1=a 2=b"},
		{"last UID not below the next", "1 5 2\n7 a\n", "V5 next 8 7=a"},
		{"high UIDs", "1 4294967295 4294967290\n4294967289 a\n", "V4294967295 next 4294967290 4294967289=a"},
		{"two claim one UID", "1 5 9\n1 a\n2 b\n2 c\n", "V5 next 9 1=a bad 2"},
		{"garbage between", "1 5 9\n1 a\n\nxx\n8 b\n", "V5 next 9 1=a 8=b bad 2"},
		{"empty", "", ""},
		{"torn in the first line", "1 7954", ""},
		{"without UIDNEXT", "1 795465324\n1 a\n", ""},
		{"UIDNEXT 0", "1 795465324 0\n1 a\n", ""},
		{"UIDVALIDITY 0", "1 0 3\n1 a\n", ""},
		{"Dovecot's version", "3 V5 N3\n1 :a\n", ""},
		{"another version", "2 5 3\n1 a\n", ""},
	} {
		u, err := ParseUIDs([]byte(c.in), uidlist.DefaultLimits)
		got := ""
		if err == nil {
			got = fmt.Sprintf("V%d next %d", u.Validity, u.Next)
			for _, r := range u.Records {
				got += fmt.Sprintf(" %d=%s", r.UID, r.Base)
			}
			if u.Bad > 0 {
				got += fmt.Sprintf(" bad %d", u.Bad)
			}
		} else if !errors.Is(err, ErrUIDs) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		in             string
		validity, next uint32
	}{
		{"1 795465324 52\n1 a.M1_0", 795465324, 52},
		{"1 795465324 52", 0, 0}, // torn, or cut off: it may go on
		{"1 795465324 52 \n", 0, 0},
		{"", 0, 0},
		{"1 4294967295 4294967295\n", 4294967295, 4294967295},
	} {
		v, n, err := ParseHeader([]byte(c.in))
		if v != c.validity || n != c.next || (err != nil) != (v == 0) {
			t.Errorf("%q: %d, %d, %v", c.in, v, n, err)
		}
	}
}

func TestParseKeywordList(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     KeywordList
	}{
		{"as Courier writes it", "$MDNSent\nWork\nkw\n\na.M1_0.mail,S=644:2 1\na.M2_1.mail:0\n",
			KeywordList{Keywords: []string{"$MDNSent", "Work", "kw"}, Messages: []Tagged{{"a.M1_0.mail,S=644", []int{2, 1}}, {"a.M2_1.mail", []int{0}}}}},
		{"none", "\n", KeywordList{}},
		{"empty", "", KeywordList{}},
		{"names only", "Work\n", KeywordList{Keywords: []string{"Work"}}},
		{"a message without keywords", "Work\n\na:\n", KeywordList{Keywords: []string{"Work"}, Messages: []Tagged{{Base: "a"}}}},
		{"an index without a name", "Work\n\na:0 1 -1 x\n", KeywordList{Keywords: []string{"Work"}, Messages: []Tagged{{"a", []int{0}}}, Bad: 3}},
		{"no colon, no base", "Work\n\na 0\n:0\n\n", KeywordList{Keywords: []string{"Work"}, Bad: 3}},
		{"torn", "Work\n\na:0\nb:", KeywordList{Keywords: []string{"Work"}, Messages: []Tagged{{"a", []int{0}}, {Base: "b"}}}},
		{"too long, too many", strings.Repeat("x", 70) + "\na\nb\nc\nd\ne\nf\ng\n", KeywordList{Keywords: []string{"a", "b", "c", "d", "e"}, Bad: 3}},
	} {
		if got := ParseKeywordList([]byte(c.in), Limits{LineBytes: 60, Lines: 6}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

func TestParseKeywords(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		bad  int
	}{
		{"$Forwarded\nWork\ntodo\n", []string{"$Forwarded", "Work", "todo"}, 0},
		{"", []string{}, 0},
		{"late-keyword", []string{"late-keyword"}, 0},
		{"a\n\nb\n", []string{"a", "b"}, 1},
	} {
		if got, bad := ParseKeywords([]byte(c.in), SmallLimits); !reflect.DeepEqual(got, c.want) || bad != c.bad {
			t.Errorf("%q: %q, bad %d", c.in, got, bad)
		}
	}
}

func TestStateOf(t *testing.T) {
	// The newest of each message comes last.
	names := []string{".5984885.b,S=1", ".5984886.b,S=1", ".05984886.b,S=1", "b,S=1"}
	var newest State
	for _, name := range []string{names[1], names[3], names[0], names[2]} {
		s, ok := StateOf(name)
		if !ok || s.Base != "b,S=1" || s.Name != name {
			t.Errorf("%s: %+v, %v", name, s, ok)
		}
		if s.Newer(newest) {
			newest = s
		}
	}
	if newest.Name != "b,S=1" {
		t.Errorf("newest is %q", newest.Name)
	}
	a, _ := StateOf(names[0])
	b, _ := StateOf(names[1])
	if a.Newer(b) || !b.Newer(a) {
		t.Error("the larger number is the newer")
	}
	for _, name := range []string{"", ListName, ".", "..", ".x", ".12", ".12.", ".x.b", ".-1.b", "b:2,S"} {
		if s, ok := StateOf(name); ok {
			t.Errorf("%q is taken for %+v", name, s)
		}
	}
}

// decoder is modified UTF-7 of one character.
func decoder(level string) (string, bool) {
	if !strings.Contains(level, "&") {
		return level, true
	}
	for coded, text := range map[string]string{"&AOk-": "é", "&-": "&", "&AC8-": "/"} {
		if before, after, ok := strings.Cut(level, coded); ok && !strings.Contains(after, "&") {
			return before + text + after, true
		}
	}
	return "", false
}

func TestParseSubscribed(t *testing.T) {
	const in = "INBOX\nINBOX.Archive.2024\nINBOX.Projects.é\nINBOX.Old.&AOk-\nINBOX.R&D\nINBOX.R&-D\ninbox.Gone\n" +
		"#shared.x.y\n\nOther\nINBOX.\nINBOX..a\n.x\nINBOX.\xff\nINBOX.last"
	want := Subscribed{
		Names:  [][]string{{}, {"Archive", "2024"}, {"Projects", "é"}, {"Old", "é"}, {"R&D"}, {"R&D"}, {"Gone"}, {"last"}},
		Shared: []string{"#shared.x.y"},
		Bad:    5,
	}
	if got := ParseSubscribed([]byte(in), decoder, SmallLimits); !reflect.DeepEqual(got, want) {
		t.Errorf(" got %+v\nwant %+v", got, want)
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"Projects.&AOk-", []string{"Projects", "é"}}, // a file of courierimaphieracl
		{"R&-D", []string{"R&D"}},
		{"a&AC8-b", []string{"a/b"}},
		{"&é-", []string{"&é-"}},
		{"", nil}, {"a..b", nil}, {"a.", nil},
	} {
		got, ok := Levels(c.in, decoder)
		if !ok {
			got = nil
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestParseACL(t *testing.T) {
	const in = "owner aceilrstwx\nadministrators aceilrstwx\nuser=bob@example.org lr\nanyone l\n-user=eve x\nuser=two words rl\ngroup=staff \n" +
		"owner\nsomebody lr\nuser= lr\nowner lrq\n\n"
	want := []Grant{
		{ID: "owner", Rights: "aceilrstwx"}, {ID: "administrators", Rights: "aceilrstwx"}, {ID: "user=bob@example.org", Rights: "lr"},
		{ID: "anyone", Rights: "l"}, {Negative: true, ID: "user=eve", Rights: "x"}, {ID: "user=two words", Rights: "lr"}, {ID: "group=staff"},
	}
	got, bad := ParseACL([]byte(in), SmallLimits)
	if !reflect.DeepEqual(got, want) || bad != 5 {
		t.Errorf(" got %+v, bad %d\nwant %+v", got, bad, want)
	}
	if Plain(got) || !Plain(got[:2]) || !Plain(nil) || Plain([]Grant{{Negative: true, ID: "owner", Rights: allRights}}) {
		t.Error("what holds without an ACL is not told from what does not")
	}
}
