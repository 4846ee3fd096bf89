package session

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-imap/v2"

	"roost/store"
	"roost/store/storetest"
)

// follower is a client that keeps the results of one search by what it is told.
type follower struct {
	tag, command string
	results      []string // numbers, in order
	sorted       bool
}

var updateLine = regexp.MustCompile(`^\* ESEARCH \(TAG "(\w+)"\)(?: UID)? (ADDTO|REMOVEFROM) \((.*)\)$`)

// apply does as RFC 5267 sections 4.3.3 and 4.3.4 say.
func (f *follower) apply(what, pairs string) error {
	words := strings.Fields(pairs)
	for i := 0; i+1 < len(words); i += 2 {
		at, err := strconv.Atoi(words[i])
		if err != nil || at == 0 == f.sorted {
			return fmt.Errorf("place %s in %q", words[i], pairs)
		}
		nums := expand(words[i+1])
		switch {
		case what == "ADDTO" && at > 0:
			if at > len(f.results)+1 {
				return fmt.Errorf("place %d beyond %v", at, f.results)
			}
			f.results = slices.Insert(f.results, at-1, nums...)
		case what == "ADDTO":
			f.results = append(f.results, nums...)
			slices.SortFunc(f.results, func(a, b string) int { x, _ := strconv.Atoi(a); y, _ := strconv.Atoi(b); return x - y })
		case at > 0:
			if at-1+len(nums) > len(f.results) || !slices.Equal(f.results[at-1:at-1+len(nums)], nums) {
				return fmt.Errorf("%v are not at place %d of %v", nums, at, f.results)
			}
			f.results = slices.Delete(f.results, at-1, at-1+len(nums))
		default:
			for _, n := range nums {
				k := slices.Index(f.results, n)
				if k < 0 {
					return fmt.Errorf("%s is not in %v", n, f.results)
				}
				f.results = slices.Delete(f.results, k, k+1)
			}
		}
	}
	return nil
}

func expand(set string) (out []string) {
	for part := range strings.SplitSeq(set, ",") {
		first, last, ok := strings.Cut(part, ":")
		a, _ := strconv.Atoi(first)
		b := a
		if ok {
			b, _ = strconv.Atoi(last)
		}
		for ; a <= b; a++ {
			out = append(out, strconv.Itoa(a))
		}
	}
	return out
}

// speaker sends commands and gives the lines that come before the tagged answer.
type speaker struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	n    int
}

func speak(t *testing.T, b *bench) *speaker {
	conn, err := b.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &speaker{t: t, conn: conn, in: bufio.NewReader(conn)}
	s.line()
	return s
}

func (s *speaker) line() string {
	line, err := s.in.ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimRight(line, "\r\n")
}

func (s *speaker) do(command string) (tag string, untagged []string) {
	s.t.Helper()
	s.n++
	tag = fmt.Sprintf("t%d", s.n)
	fmt.Fprintf(s.conn, "%s %s\r\n", tag, command)
	for {
		line := s.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				s.t.Fatalf("%s: %s", command, rest)
			}
			return tag, untagged
		}
		untagged = append(untagged, line)
	}
}

// Whatever happens to a mailbox, who keeps results by ADDTO and REMOVEFROM has those that a
// new search gives.
func TestUpdatesAddUpToTheResults(t *testing.T) {
	for _, seed := range storetest.Seeds(t, 20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { updatesAddUp(t, rand.New(rand.NewPCG(seed, 5267))) })
	}
}

func updatesAddUp(t *testing.T, r *rand.Rand) {
	b := newBench(t, Options{})
	subject := func() string { return string(rune('a' + r.IntN(5))) }
	deliver := func() {
		if err := b.Hooks()["message"]([]string{"INBOX", `Subject: ` + subject() + `\n\nx`}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		deliver()
	}
	client, other := speak(t, b), speak(t, b)
	client.do("SELECT INBOX")
	other.do("SELECT INBOX")
	var follow []*follower
	for _, command := range []string{
		"UID SEARCH RETURN (%s) UNDELETED",
		"UID SEARCH RETURN (%s) OR FLAGGED SUBJECT a",
		"UID SORT RETURN (%s) (SUBJECT) UTF-8 ALL",
		"UID SORT RETURN (%s) (REVERSE SUBJECT ARRIVAL) UTF-8 UNFLAGGED",
	} {
		tag, lines := client.do(fmt.Sprintf(command, "UPDATE ALL"))
		f := &follower{tag: tag, command: command, sorted: strings.Contains(command, "SORT")}
		if _, all, ok := strings.Cut(lines[0], " ALL "); ok {
			f.results = expand(all)
		}
		follow = append(follow, f)
	}
	hear := func(lines []string) {
		for _, line := range lines {
			m := updateLine.FindStringSubmatch(line)
			for _, f := range follow {
				if m != nil && f.tag == m[1] {
					if err := f.apply(m[2], m[3]); err != nil {
						t.Fatalf("%s: %v", line, err)
					}
				}
			}
		}
	}
	for range 150 {
		who := client
		if r.IntN(2) == 0 {
			who = other
		}
		said := ""
		switch r.IntN(7) {
		case 0, 1:
			deliver()
		case 2, 3:
			said = fmt.Sprintf("UID STORE %d:%d %sFLAGS.SILENT (%s)", 1+r.IntN(40), 1+r.IntN(40), []string{"+", "-"}[r.IntN(2)], []string{`\Deleted`, `\Flagged`}[r.IntN(2)])
		case 4:
			said = "EXPUNGE"
		case 5:
			said = "UID COPY 1:* INBOX"
			if r.IntN(8) > 0 {
				said = "NOOP"
			}
		case 6:
			said = "SEARCH ALL" // no EXPUNGE may be told
		}
		if said != "" {
			_, lines := who.do(said)
			if who == client {
				hear(lines)
			}
		}
		if r.IntN(3) > 0 {
			continue
		}
		_, lines := client.do("NOOP")
		hear(lines)
		for _, f := range follow {
			_, lines := client.do(fmt.Sprintf(f.command, "ALL"))
			var want []string
			if _, all, ok := strings.Cut(lines[0], " ALL "); ok {
				want = expand(all)
			}
			if !slices.Equal(want, f.results) {
				t.Fatalf("%s: the updates give %v, a search %v", f.command, f.results, want)
			}
			hear(lines)
		}
	}
}

// The number of contexts is bounded; what is refused is answered all the same.
func TestTooManyContexts(t *testing.T) {
	b := newBench(t, Options{})
	c := speak(t, b)
	c.do("SELECT INBOX")
	for range maxContexts {
		if _, lines := c.do("SEARCH RETURN (UPDATE COUNT) ALL"); len(lines) != 1 {
			t.Fatalf("%q", lines)
		}
	}
	tag, lines := c.do("UID SORT RETURN (UPDATE COUNT) (DATE) UTF-8 ALL")
	want := []string{`* ESEARCH (TAG "` + tag + `") UID COUNT 0`, `* NO [NOUPDATE "` + tag + `"] Too many contexts`}
	if !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
	c.do(`CANCELUPDATE "t2"`)
	if _, lines := c.do("SEARCH RETURN (UPDATE COUNT) ALL"); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// counted counts the messages that are opened, and the rows that are read.
type counted struct {
	store.Mailbox
	opened atomic.Int32
	rows   int
}

func (c *counted) Message(ctx context.Context, uid imap.UID) (store.Message, error) {
	c.opened.Add(1)
	return c.Mailbox.Message(ctx, uid)
}

func (c *counted) Rows(ctx context.Context, uids []imap.UID, newer store.ModSeq) iter.Seq2[[]store.Row, error] {
	c.rows += len(uids)
	return c.Mailbox.Rows(ctx, uids, newer)
}

// An update costs the messages that changed, and of a sorted list as many as halving meets.
func TestUpdateReadsWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // on a slow machine the end of the script would be seen as the client's
		b := newBench(t, Options{})
		hooks := b.Hooks()
		if err := hooks["seed"]([]string{"INBOX", "1000"}); err != nil {
			t.Fatal(err)
		}
		who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}}
		acct, err := b.mem.Account(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		defer acct.Close()
		box, err := acct.Hold(t.Context(), store.Inbox, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer box.Close()
		view, _, err := box.Advance(store.View{}, true)
		if err != nil {
			t.Fatal(err)
		}
		out := &script{Reader: strings.NewReader("t1 SEARCH RETURN (UPDATE COUNT) BODY Hello\r\nt2 UID SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 ALL\r\n")}
		s := newSession(out, &Login{Who: who}, &Options{Log: quiet()})
		c := &counted{Mailbox: box}
		s.acct, s.sel = acct, &selected{name: store.Inbox, box: c, view: view}
		s.loop(t.Context())
		if len(s.sel.contexts) != 2 || c.opened.Load() == 0 {
			t.Fatalf("%d contexts, %d messages opened", len(s.sel.contexts), c.opened.Load())
		}
		c.opened.Store(0)
		c.rows = 0
		if err := hooks["seed"]([]string{"INBOX", "1"}); err != nil {
			t.Fatal(err)
		}
		if err := s.tellChanges(t.Context(), tellAll); err != nil {
			t.Fatal(err)
		}
		s.enc.Flush()
		if got := out.out.String(); !strings.Contains(got, `* ESEARCH (TAG "t1") ADDTO (0 1001)`) || !strings.Contains(got, `* ESEARCH (TAG "t2") UID ADDTO (`) {
			t.Errorf("%q", got)
		}
		if c.opened.Load() > 15 || c.rows > 100 {
			t.Errorf("%d messages opened and %d rows read, of a thousand", c.opened.Load(), c.rows)
		}
	})
}
