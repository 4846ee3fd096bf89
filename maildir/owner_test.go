package maildir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// peer is one of several processes that work on the INBOX of one tree. It tells what it
// does and what it is told, a line each:
//
//	acknowledged UID text      an APPEND
//	found UID text             a message that it read
//	expunging UID              what it is about to expunge
//	vanished UID               what it was told
//	now UID flags              at the end
type peer struct {
	id   int
	s    *Store
	a    store.Account
	box  store.Mailbox
	v    store.View
	out  io.Writer
	mine []imap.UID // appended, and not expunged
}

func openPeer(root string, id int, out io.Writer, opt Options) (*peer, error) {
	opt.Host = "test.example"
	s, err := New(opt)
	if err != nil {
		return nil, err
	}
	p := &peer{id: id, s: s, out: out}
	if p.a, err = s.Account(context.Background(), store.Identity{User: "ann", Roots: []store.Root{{Mail: root, Create: true}}}); err != nil {
		return nil, err
	}
	if p.box, err = p.a.Hold(context.Background(), store.Inbox, true, nil); err != nil {
		return nil, err
	}
	return p, p.advance()
}

func (p *peer) close() error {
	return errors.Join(p.box.Close(), p.a.Close(), p.s.Close(context.Background()))
}

func (p *peer) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

func (p *peer) advance() error {
	v, d, err := p.box.Advance(p.v, true)
	if err != nil {
		return err
	}
	p.v = v
	for _, uid := range d.Vanished {
		p.say("vanished %d", uid)
	}
	return nil
}

// work does n random things.
func (p *peer) work(seed uint64, n int) error {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(seed, uint64(p.id)))
	for i := range n {
		if err := p.advance(); err != nil {
			return err
		}
		uids := p.v.UIDs.Slice(0, p.v.UIDs.Len())
		switch k := r.IntN(10); {
		case k < 3 || len(uids) == 0:
			text := fmt.Sprintf("p%d-%d", p.id, i)
			b, err := p.a.Batch(ctx, store.Inbox)
			if err != nil {
				return err
			}
			if err := b.Add(ctx, store.Meta{Time: time.Now()}, strings.NewReader(text)); err != nil {
				return err
			}
			c, err := b.Commit(ctx)
			b.Close()
			if err != nil {
				return err
			}
			p.say("acknowledged %d %s", c.To[0], text)
			p.mine = append(p.mine, c.To[0])
		case k < 6:
			from := r.IntN(len(uids))
			op := []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel}[r.IntN(2)]
			flag := []imap.Flag{imap.FlagSeen, imap.FlagFlagged, imap.FlagAnswered, "$Label1"}[r.IntN(4)]
			if _, _, err := p.box.SetFlags(ctx, uids[from:min(from+4, len(uids))], store.FlagOp{Op: op, Flags: []imap.Flag{flag}}); err != nil {
				return err
			}
		case k < 8 && len(p.mine) > 3:
			at := r.IntN(len(p.mine))
			uid := p.mine[at]
			p.mine = slices.Delete(p.mine, at, at+1)
			p.say("expunging %d", uid)
			if _, _, err := p.box.SetFlags(ctx, []imap.UID{uid}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}); err != nil {
				return err
			}
			if _, _, err := p.box.Expunge(ctx, []imap.UID{uid}); err != nil {
				return err
			}
		default:
			if err := p.read(uids[r.IntN(len(uids))]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *peer) read(uid imap.UID) error {
	m, err := p.box.Message(context.Background(), uid)
	if errors.Is(err, store.ErrGone) {
		return nil
	} else if err != nil {
		return err
	}
	defer m.Close()
	var b strings.Builder
	if _, err := m.WriteRange(&b, 0, 1000); err != nil {
		return err
	}
	p.say("found %d %s", uid, strings.TrimSpace(b.String()))
	return nil
}

// state is what the peer sees now.
func (p *peer) state() (map[imap.UID]string, error) {
	if err := p.box.Look(context.Background()); err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	out := map[imap.UID]string{}
	for rows, err := range p.box.Rows(context.Background(), p.v.UIDs.Slice(0, p.v.UIDs.Len()), 0) {
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.UID] = fmt.Sprint(r.Flags.Names(), r.Keywords.Names())
		}
	}
	return out, nil
}

// The second process of TestTwoProcessesOnOneMailbox: it does nothing when it is run
// with the others.
func TestSecondProcess(t *testing.T) {
	root := os.Getenv("ROOST_TEST_SECOND")
	if root == "" {
		return // not as a test of its own: TestTwoProcessesOnOneMailbox runs it
	}
	p, err := openPeer(root, 2, os.Stdout, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.say("owner %v", !p.box.Info().NoModSeq)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var seed uint64
		var n int
		if k, _ := fmt.Sscanf(in.Text(), "work %d %d", &seed, &n); k == 2 {
			if err := p.work(seed, n); err != nil {
				t.Fatal(err)
			}
			p.say("done")
			continue
		}
		state, err := p.state()
		if err != nil {
			t.Fatal(err)
		}
		p.say("state %v", state)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
}

// tale is what the peers told, all together.
type tale struct {
	*testing.T
	mu    sync.Mutex
	lines []string
}

func (l *tale) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// check compares all that was told with what is there at the end.
func (l *tale) check(root string, delivered int) {
	l.Helper()
	texts := map[string]string{} // by UID
	kept, expunging := map[string]bool{}, map[string]bool{}
	for _, line := range l.lines {
		f := strings.Fields(line)
		switch f[0] {
		case "acknowledged", "found":
			if was, ok := texts[f[1]]; ok && was != f[2] {
				l.Errorf("UID %s is %s and %s", f[1], was, f[2])
			}
			if texts[f[1]] = f[2]; f[0] == "acknowledged" {
				kept[f[1]] = true
			}
		case "expunging":
			expunging[f[1]] = true
			delete(kept, f[1])
		}
	}
	for _, line := range l.lines {
		if uid, ok := strings.CutPrefix(line, "vanished "); ok && !expunging[uid] {
			l.Errorf("UID %s vanished for somebody, and nobody expunged it", uid)
		}
	}
	p, err := openPeer(root, 9, io.Discard, Options{})
	if err != nil {
		l.Fatal(err)
	}
	defer p.close()
	count := map[string]int{}
	var last tale
	p.out = &last
	for _, uid := range p.v.UIDs.All(0) {
		if err := p.read(uid); err != nil {
			l.Fatal(err)
		}
	}
	for _, line := range last.lines {
		f := strings.Fields(line)
		delete(kept, f[1])
		count[f[2]]++
		if was, ok := texts[f[1]]; ok && was != f[2] {
			l.Errorf("UID %s was %s and is %s", f[1], was, f[2])
		}
		if expunging[f[1]] {
			l.Errorf("UID %s was expunged and is there", f[1])
		}
	}
	for uid := range kept {
		l.Errorf("UID %s, %s, was acknowledged and is lost", uid, texts[uid])
	}
	mail := 0
	for text, n := range count {
		if n > 1 {
			l.Errorf("%s is there %d times", text, n)
		}
		if strings.HasPrefix(text, "mta-") {
			mail++
		}
	}
	if mail != delivered {
		l.Errorf("%d messages were delivered, %d are there", delivered, mail)
	}
}

// deliver is an MTA that runs beside the peers.
func (l *tale) deliver(root string, n int) {
	for i := range n {
		name := fmt.Sprintf("1700000000.M%dP7.mta", i)
		tmp := filepath.Join(root, "tmp", name)
		err := os.WriteFile(tmp, fmt.Appendf(nil, "mta-%d\n", i), 0o600)
		if err == nil {
			err = os.Rename(tmp, filepath.Join(root, "new", name))
		}
		if err != nil {
			l.Error(err)
		}
		time.Sleep(time.Millisecond) // spread over the others' work; nothing waits for it
	}
}

// Two stores on one mailbox, as two processes have them, and an MTA: no UID is given
// twice, no message lost or doubled, no expunge seen that nobody made, and both see the
// same in the end.
func TestTwoStoresOnOneMailbox(t *testing.T) {
	for seed := range uint64(3) {
		for _, poll := range []bool{false, true} {
			root := filepath.Join(t.TempDir(), "Maildir")
			l := &tale{T: t}
			var peers []*peer
			for id := range 2 {
				p, err := openPeer(root, id, l, Options{PID: os.Getpid() + id*1000000, Poll: poll && id == 1})
				if err != nil {
					t.Fatal(err)
				}
				peers = append(peers, p)
			}
			if peers[0].box.Info().NoModSeq || !peers[1].box.Info().NoModSeq {
				t.Error("it is not the first that has the MODSEQs")
			}
			var wg sync.WaitGroup
			for _, p := range peers {
				wg.Go(func() {
					if err := p.work(seed, 120); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() { l.deliver(root, 40) })
			wg.Wait()
			agree(t, peers[0].state, peers[1].state)
			for _, p := range peers {
				if err := p.close(); err != nil {
					t.Error(err)
				}
			}
			l.check(root, 40)
			if t.Failed() {
				t.Fatalf("seed %d, poll %v:\n%s", seed, poll, strings.Join(l.lines, "\n"))
			}
		}
	}
}

// agree waits until two peers see the same.
func agree(t *testing.T, a, b func() (map[imap.UID]string, error)) {
	t.Helper()
	var x, y map[imap.UID]string
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); { // events may be on their way
		x, y = must(a()), must(b())
		if maps.Equal(x, y) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("the first sees %v\nthe second sees %v", x, y)
}

// The same with a process of its own.
func TestTwoProcessesOnOneMailbox(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	l := &tale{T: t}
	p, err := openPeer(root, 1, l, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "ROOST_TEST_SECOND="+root)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	until := func(prefix string) string {
		for lines.Scan() {
			if s, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				return s
			}
			for _, known := range []string{"acknowledged ", "found ", "expunging ", "vanished "} {
				if strings.HasPrefix(lines.Text(), known) {
					fmt.Fprintln(l, lines.Text())
				}
			}
		}
		t.Fatalf("the second process ended before it said %q: %v", prefix, cmd.Wait())
		return ""
	}
	if until("owner ") != "false" {
		t.Error("both own the mailbox")
	}
	fmt.Fprintln(in, "work 1 200")
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.work(1, 200); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { l.deliver(root, 60) })
	until("done")
	wg.Wait()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		fmt.Fprintln(in, "state")
		theirs, ours := until("state "), fmt.Sprint(must(p.state()))
		if theirs == ours {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Fprintln(in, "state")
	if theirs, ours := until("state "), fmt.Sprint(must(p.state())); theirs != ours {
		t.Errorf("the second process sees %s\nhere %s", theirs, ours)
	}
	in.Close()
	until("--- PASS")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	l.check(root, 60)
	if t.Failed() {
		t.Log(strings.Join(l.lines, "\n"))
	}
}

// Who does not own a mailbox writes no roost.* file and sets no UIDs aside; when the
// owner is gone, who opens the mailbox next owns it, in the same process too.
func TestOwnerGoesAndTheNextOpenOwns(t *testing.T) {
	root := filepath.Join(t.TempDir(), "Maildir")
	first, err := openPeer(root, 1, io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.work(1, 30); err != nil {
		t.Fatal(err)
	}
	indexed(first.box)
	ours := func() map[string]string {
		out := map[string]string{}
		for _, name := range must(filepath.Glob(filepath.Join(root, "roost*"))) {
			st := must(os.Stat(name))
			out[filepath.Base(name)] = fmt.Sprint(st.ModTime(), st.Size())
		}
		return out
	}
	before := ours()
	second, err := openPeer(root, 2, io.Discard, Options{PID: os.Getpid() + 1000000})
	if err != nil {
		t.Fatal(err)
	}
	// The first must not write of what the second does, to tell them apart.
	m := first.box.(*hold).m
	m.files.Lock()
	(&tale{T: t}).deliver(root, 2)
	state, err := second.state()
	if len(state) < 2 {
		t.Errorf("the second sees %v", state)
	}
	err = errors.Join(err, second.work(1, 60))
	indexed(second.box)
	if got := ours(); !maps.Equal(got, before) {
		t.Errorf("files were %v, and are %v", before, got)
	}
	m.files.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if !second.box.Info().NoModSeq {
		t.Error("two own the mailbox")
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	if !second.box.Info().NoModSeq {
		t.Error("a session was given MODSEQs in its middle")
	}
	// While a session of it goes on, the others are like it.
	other, err := second.a.Hold(t.Context(), store.Inbox, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !other.Info().NoModSeq {
		t.Error("the mailbox was given MODSEQs while a session has none")
	}
	other.Close()
	second.box.Close()
	if second.box, err = second.a.Hold(t.Context(), store.Inbox, true, nil); err != nil {
		t.Fatal(err)
	}
	if second.box.Info().NoModSeq {
		t.Error("the owner is gone, and nobody owns the mailbox")
	}
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
	third, err := openPeer(root, 3, io.Discard, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if third.box.Info().NoModSeq || third.v.UIDs.Len() == 0 {
		t.Errorf("opened with %d messages, no MODSEQs: %v", third.v.UIDs.Len(), third.box.Info().NoModSeq)
	}
	if err := third.close(); err != nil {
		t.Fatal(err)
	}
}
