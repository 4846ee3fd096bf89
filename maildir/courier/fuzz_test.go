package courier

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"roost/maildir/uidlist"
)

// What was parsed, printed as Courier prints it, reads the same; and no UID names two
// messages, nor one from UIDNEXT on.
func FuzzUIDs(f *testing.F) {
	f.Add([]byte("1 795465324 52\n1 a.M1_0.mail,S=947\n3 b\n"))
	f.Add([]byte("1 5 1\n2 a\n2 b\n1 c\n7"))
	f.Add([]byte("3 V5 N1\n1 :a\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		u, err := ParseUIDs(in, uidlist.DefaultLimits)
		if errors.Is(err, ErrUIDs) {
			return
		}
		if u.Validity == 0 || u.Next == 0 {
			t.Fatalf("%q gives %+v", in, u)
		}
		var out bytes.Buffer
		fmt.Fprintf(&out, "1 %d %d\n", u.Validity, u.Next)
		bases := map[string]bool{}
		last := uint32(0)
		for _, r := range u.Records {
			if r.UID <= last || r.UID >= u.Next || bases[r.Base] {
				t.Fatalf("%q gives UID %d, base %q after UID %d, UIDNEXT %d", in, r.UID, r.Base, last, u.Next)
			}
			last, bases[r.Base] = r.UID, true
			fmt.Fprintf(&out, "%d %s\n", r.UID, r.Base)
		}
		again, err := ParseUIDs(out.Bytes(), uidlist.DefaultLimits)
		if u.Bad = 0; err != nil || again.Bad != 0 || again.Next != u.Next || !slices.Equal(again.Records, u.Records) {
			t.Fatalf("%q printed as %q gives %+v, %v", in, out.Bytes(), again, err)
		}
		if v, n, err := ParseHeader(out.Bytes()[:min(out.Len(), HeaderBytes)]); err != nil || v != u.Validity || n != u.Next {
			t.Fatalf("the header of %q is %d, %d, %v", out.Bytes(), v, n, err)
		}
	})
}

func FuzzKeywordList(f *testing.F) {
	f.Add([]byte("$Junk\nWork\n\na,S=1:0 1\nb:1\n"))
	f.Add([]byte("\na:0\n\n"))
	f.Add([]byte("x\n\n:\nb:  0 \n.:0"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l := ParseKeywordList(in, DefaultLimits)
		var out bytes.Buffer
		for _, k := range l.Keywords {
			out.WriteString(k + "\n")
		}
		out.WriteString("\n")
		for _, m := range l.Messages {
			var indexes []string
			for _, i := range m.Keywords {
				if l.Keywords[i] == "" {
					t.Fatalf("%q: keyword %d is empty", in, i)
				}
				indexes = append(indexes, strconv.Itoa(i))
			}
			out.WriteString(m.Base + ":" + strings.Join(indexes, " ") + "\n")
		}
		l.Bad = 0
		if again := ParseKeywordList(out.Bytes(), DefaultLimits); !reflect.DeepEqual(again, l) {
			t.Fatalf("%q printed as %q gives\n%+v, want\n%+v", in, out.Bytes(), again, l)
		}
		k, _ := ParseKeywords(in, DefaultLimits)
		printed := strings.Join(append(k, ""), "\n")
		if again, bad := ParseKeywords([]byte(printed), DefaultLimits); bad != 0 || !slices.Equal(again, k) {
			t.Fatalf("%q printed as %q gives %q", in, printed, again)
		}
	})
}

func FuzzSubscribed(f *testing.F) {
	f.Add([]byte("INBOX\nINBOX.Projects.é\nINBOX.&AOk-\n#shared.x\n"))
	f.Add([]byte("inbox.a..b\nINBOX.\n\xff\n.\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := ParseSubscribed(in, decoder, DefaultLimits)
		for _, n := range s.Names {
			for _, level := range n {
				if level == "" || !utf8.ValidString(level) || strings.Contains(level, "\n") {
					t.Fatalf("%q gives the name %q", in, n)
				}
			}
		}
		if got := len(s.Names) + len(s.Shared) + s.Bad; got > strings.Count(string(in), "\n")+1 {
			t.Fatalf("%q gives %d names", in, got)
		}
		grants, _ := ParseACL(in, DefaultLimits)
		for _, g := range grants {
			sign := map[bool]string{true: "-"}[g.Negative]
			if again, bad := ParseACL([]byte(sign+g.ID+" "+g.Rights+"\n"), DefaultLimits); bad != 0 || len(again) != 1 || again[0] != g {
				t.Fatalf("%q gives %+v, printed and parsed %+v", in, g, again)
			}
		}
	})
}

// Work is linear in what was sent: twice as much takes about twice the memory.
func TestCostIsLinear(t *testing.T) {
	for name, line := range map[string]string{
		"digits":  "4 " + strings.Repeat("9", 4000) + "\n",
		"colons":  strings.Repeat(":", 4000) + "\n",
		"indexes": "a:" + strings.Repeat("0 ", 2000) + "\n",
		"dots":    "INBOX" + strings.Repeat(".a", 2000) + "\n",
	} {
		for what, parse := range map[string]func([]byte){
			"uids":       func(b []byte) { ParseUIDs(append([]byte("1 5 9\n"), b...), uidlist.DefaultLimits) },
			"list":       func(b []byte) { ParseKeywordList(append([]byte("k\n\n"), b...), DefaultLimits) },
			"subscribed": func(b []byte) { ParseSubscribed(b, decoder, SmallLimits) },
			"acl":        func(b []byte) { ParseACL(b, SmallLimits) },
		} {
			allocs := func(n int) float64 {
				in := []byte(strings.Repeat(line, n))
				return testing.AllocsPerRun(1, func() { parse(in) })
			}
			if a, b := allocs(100), allocs(200); b > 2*a+20 {
				t.Errorf("%s of %s: %v allocations, then %v for twice as much", what, name, a, b)
			}
		}
	}
}
