package maildir

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/maildir/fsys"
	"roost/maildir/uidlist"
	"roost/maildir/watch"
	"roost/maildir/watch/watchtest"
	"roost/store"
	"roost/store/storetest"
)

// Sessions of one process and an MTA, a mail reader and a rm at work at the same time, by
// the kernel's events, by some of them, and by looks alone.
func TestStorm(t *testing.T) {
	for _, name := range []string{"events", "events lost", "polled"} {
		for _, seed := range storetest.Seeds(t, 1) {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				t.Parallel()
				opt := Options{Host: "test.example"}
				switch name {
				case "events lost":
					r := rand.New(rand.NewPCG(seed, 5))
					lossy := &watchtest.Lossy{Inner: watch.NewSystem(watch.Options{})}
					c := &chamber{r: r}
					lossy.Lose = func() bool { return c.chance(10) }
					lossy.Overflow = func() (lost, later bool) { return c.chance(3), false }
					opt.Watch = lossy
				case "polled":
					opt.Poll, opt.PollEvery = true, 20*time.Millisecond
				}
				w := newWeather(t, seed, opt)
				w.storm("", nil)
			})
		}
	}
}

// Two processes on one tree, each with sessions that add, copy, move, mark and expunge,
// and others who deliver and delete meanwhile: no UID twice, no message lost or doubled,
// no wrong expunge, and at the end both say what the tree says.
func TestStormOfTwoProcesses(t *testing.T) {
	for _, seed := range storetest.Seeds(t, 1) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWeather(t, seed, Options{Host: "test.example"})
			w.storm("", startNeighbour(t, w.root, seed))
		})
	}
}

// weather is a tree with a store, and what goes on there.
type weather struct {
	*testing.T
	seed uint64
	root string
	b    storetest.Backend
}

// stormNames are the mailboxes of a storm.
var stormNames = []store.Name{store.Inbox, "a", "b"}

func stormBackend(root string, opt Options) (storetest.Backend, error) {
	s, err := New(opt)
	return storetest.Backend{
		Store: s,
		Who: store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{
			Mail: root, Layout: store.LayoutMaildirPP, Create: true,
			Folders: []store.Folder{{Name: "a", Create: true}, {Name: "b", Create: true}},
		}}},
	}, err
}

func newWeather(t *testing.T, seed uint64, opt Options) *weather {
	w := &weather{T: t, seed: seed, root: filepath.Join(t.TempDir(), "Maildir")}
	var err error
	if w.b, err = stormBackend(w.root, opt); err != nil {
		t.Fatal(err)
	}
	a, err := w.b.Store.Account(t.Context(), w.b.Who) // which makes the tree
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	t.Cleanup(func() { w.b.Store.Close(context.Background()) })
	return w
}

func stormOf(seed uint64, who string) storetest.Storm {
	return storetest.Storm{Seed: seed, Who: who, Sessions: 3, Steps: 40, Names: stormNames}
}

// storm lets all work, and judges.
func (w *weather) storm(who string, beside *neighbour) {
	w.Helper()
	stop, done := make(chan struct{}), make(chan *storetest.Ledger)
	go func() { done <- w.others(stop) }() // ends by stop
	if beside != nil {
		beside.tell(w.T, "storm")
	}
	ledger, err := stormOf(w.seed, "p").Run(w.b)
	if beside != nil {
		var theirs struct {
			Ledger *storetest.Ledger
			Err    string
		}
		beside.answer(w.T, &theirs)
		if theirs.Err != "" {
			w.Errorf("seed %d: the other process: %s", w.seed, theirs.Err)
		}
		ledger.Join(theirs.Ledger)
	}
	close(stop)
	ledger.Join(<-done)
	if err != nil {
		w.Errorf("seed %d: %v", w.seed, err)
	}
	there, err := untilAlike(w.root, w.b)
	if err != nil {
		w.Fatalf("seed %d: %v", w.seed, err)
	}
	if beside != nil {
		beside.tell(w.T, "agree")
		var said string
		if beside.answer(w.T, &said); said != "" {
			w.Errorf("seed %d: the other process: %s", w.seed, said)
		}
		beside.end(w.T)
	}
	w.Logf("%d messages were made, %d removed, %d told as vanished, %d tagged; %d are left",
		len(ledger.Made), len(ledger.Gone), len(ledger.Lost), len(ledger.Tags), len(there))
	for _, wrong := range ledger.Check(there) {
		w.Errorf("seed %d: %s", w.seed, wrong)
	}
}

// others are an MTA, a mail reader that renames, and somebody who deletes.
func (w *weather) others(stop chan struct{}) *storetest.Ledger {
	r := rand.New(rand.NewPCG(w.seed, 77))
	out := newStranger(func() fsys.FS { return fsys.OS }, w.root)
	l := &storetest.Ledger{Texts: map[string]string{}}
	for k := 0; ; k++ {
		select {
		case <-stop:
			return l
		default:
		}
		if k == 2000 { // enough: who does nothing but rename keeps all others from their work
			<-stop
			return l
		}
		n := stormNames[r.IntN(len(stormNames))]
		switch {
		case r.IntN(20) == 0 && len(l.Made) < 60:
			text := fmt.Sprintf("Subject: mta.%d\r\n\r\nx\r\n", k)
			if _, err := out.Deliver(n, []storetest.Letter{{Text: text, Time: time.Unix(1e9, 0), Way: r.Uint64()}}); err != nil {
				w.Error(err)
			}
			l.Made = append(l.Made, storetest.Made{Instance: storetest.Instance{Name: n}, Text: text})
		case r.IntN(60) == 0 && len(l.Gone) < 20:
			if i, ok := out.remove(n, r); ok {
				l.Gone = append(l.Gone, i)
			}
		default:
			out.toggle(n, r)
		}
	}
}

// names are the files of a mailbox.
func (o *stranger) names(n store.Name) (d dirs, all []sighting) {
	d, err := o.dirs(n)
	if err != nil {
		return d, nil
	}
	for _, inNew := range []bool{true, false} {
		d.of(inNew).Names(func(name string, _ fs.FileMode) bool {
			if name[0] != '.' {
				all = append(all, sighting{name, inNew})
			}
			return true
		})
	}
	return d, all
}

// toggle changes \Flagged of a message, and leaves what else its name says as it found it.
func (o *stranger) toggle(n store.Name, r *rand.Rand) {
	d, all := o.names(n)
	defer d.close()
	if len(all) == 0 {
		return
	}
	at := all[r.IntN(len(all))]
	base, info, _ := strings.Cut(at.name, ":2,")
	if strings.Contains(base, ":") {
		return
	}
	if strings.Contains(info, "F") {
		info = strings.ReplaceAll(info, "F", "")
	} else {
		info = "F" + info
	}
	d.of(at.inNew).Move(at.name, d.cur, base+":2,"+info) // it fails where somebody was faster
}

// remove deletes a message that has a UID.
func (o *stranger) remove(n store.Name, r *rand.Rand) (i storetest.Instance, ok bool) {
	d, all := o.names(n)
	defer d.close()
	if len(all) == 0 {
		return i, false
	}
	at := all[r.IntN(len(all))]
	uids, err := uidsOf(d.box)
	base, _, _ := strings.Cut(at.name, ":")
	uid, listed := uids[base]
	if err != nil || !listed || d.of(at.inNew).Remove(at.name) != nil {
		return i, false
	}
	return storetest.Instance{Name: n, UID: uid}, true
}

// uidsOf is what the uidlist says.
func uidsOf(box fsys.Dir) (map[string]imap.UID, error) {
	b, err := fsys.ReadFile(box, uidlist.Name, 1<<20)
	if err != nil {
		return nil, err
	}
	list, err := uidlist.Parse(b, uidlist.DefaultLimits)
	if err != nil {
		return nil, err
	}
	out := map[string]imap.UID{}
	for _, r := range list.Records {
		out[r.Base] = imap.UID(r.UID)
	}
	return out, nil
}

// untilAlike waits until a store shows what its tree holds, and gives that. It waits for the
// store's own wake-ups; the limit is for a store that never gives them.
func untilAlike(root string, b storetest.Backend) ([]storetest.Found, error) {
	ctx := context.Background()
	a, err := b.Store.Account(ctx, b.Who)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	var out []storetest.Found
	for _, n := range stormNames {
		bell := make(chan struct{}, 1)
		m, err := a.Hold(ctx, n, false, func() {
			select {
			case bell <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return nil, err
		}
		defer m.Close()
		tick := time.NewTicker(50 * time.Millisecond) // the tree may change after the store
		defer tick.Stop()
		for limit := time.After(5 * time.Minute); ; {
			want, werr := treeOf(root, n)
			got, gerr := shownBy(ctx, m, n)
			if werr == nil && gerr == nil && fmt.Sprint(got) == fmt.Sprint(want) {
				out = append(out, got...)
				break
			}
			select {
			case <-bell:
			case <-tick.C:
				if err := m.Look(ctx); err != nil {
					return nil, err
				}
			case <-limit:
				return nil, fmt.Errorf("%s has\n%v %v\nin the tree is\n%v %v", n, got, gerr, want, werr)
			}
		}
	}
	return out, nil
}

// shownBy is what a session shows.
func shownBy(ctx context.Context, m store.Mailbox, n store.Name) (out []storetest.Found, err error) {
	v := m.View()
	for rows, err := range m.Rows(ctx, v.UIDs.Slice(0, v.UIDs.Len()), 0) {
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			msg, err := m.Message(ctx, r.UID)
			if err != nil {
				return nil, err
			}
			var b bytes.Buffer
			_, err = msg.WriteRange(&b, 0, 1<<20)
			if err := errors.Join(err, msg.Close()); err != nil {
				return nil, err
			}
			keywords := append([]string{fmt.Sprint(r.Flags.Names())}, r.Keywords.Names()...)
			slices.Sort(keywords)
			out = append(out, storetest.Found{Instance: storetest.Instance{Name: n, UID: r.UID}, Text: b.String(), Keywords: keywords})
		}
	}
	return out, nil
}

// treeOf is what the files say, read by nobody's code but this.
func treeOf(root string, n store.Name) (out []storetest.Found, err error) {
	o := newStranger(func() fsys.FS { return fsys.OS }, root)
	d, all := o.names(n)
	defer d.close()
	uids, err := uidsOf(d.box)
	if err != nil {
		return nil, err
	}
	letters := map[byte]string{}
	for _, line := range o.letters(d) {
		var i byte
		var name string
		if k, _ := fmt.Sscan(line, &i, &name); k == 2 {
			letters['a'+i] = name
		}
	}
	for _, at := range all {
		base, _, _ := strings.Cut(at.name, ":")
		uid, ok := uids[base]
		if !ok {
			return nil, fmt.Errorf("%s has no UID", at.name)
		}
		b, err := fsys.ReadFile(d.of(at.inNew), at.name, 1<<20)
		if err != nil {
			return nil, err
		}
		_, info, _ := strings.Cut(at.name, ":2,")
		info, _, _ = strings.Cut(info, ",")
		f := storetest.Found{Instance: storetest.Instance{Name: n, UID: uid}, Text: string(b)}
		var flags store.Flags
		for i := range len(info) {
			flags |= map[byte]store.Flags{'D': store.FlagDraft, 'F': store.FlagFlagged, 'R': store.FlagAnswered, 'S': store.FlagSeen, 'T': store.FlagDeleted}[info[i]]
			if name := letters[info[i]]; name != "" && !slices.Contains(f.Keywords, name) {
				f.Keywords = append(f.Keywords, name)
			}
		}
		f.Keywords = append(f.Keywords, fmt.Sprint(flags.Names()))
		slices.Sort(f.Keywords)
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b storetest.Found) int { return int(a.UID) - int(b.UID) })
	return out, nil
}

// neighbour is another process on the tree: this test program, started once more.
type neighbour struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

const (
	neighbourRoot = "ROOST_TEST_NEIGHBOUR"
	neighbourSeed = "ROOST_TEST_NEIGHBOUR_SEED"
)

func startNeighbour(t *testing.T, root string, seed uint64) *neighbour {
	t.Helper()
	n := &neighbour{cmd: exec.Command(os.Args[0], "-test.run=^TestAsNeighbour$", "-test.timeout=30m")}
	n.cmd.Env = append(os.Environ(), neighbourRoot+"="+root, fmt.Sprintf("%s=%d", neighbourSeed, seed))
	n.cmd.Stderr = os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err == nil {
		n.in, err = n.cmd.StdinPipe()
	}
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.in.Close(); n.cmd.Wait() }) // it ends with its input
	n.out = bufio.NewScanner(out)
	n.out.Buffer(nil, 64<<20)
	return n
}

func (n *neighbour) tell(t *testing.T, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(n.in, word); err != nil {
		t.Fatal(err)
	}
}

// answer reads one line of JSON.
func (n *neighbour) answer(t *testing.T, to any) {
	t.Helper()
	for n.out.Scan() {
		if line, ok := bytes.CutPrefix(n.out.Bytes(), []byte("answer ")); ok {
			if err := json.Unmarshal(line, to); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the other process ended: %v", n.out.Err())
}

func (n *neighbour) end(t *testing.T) {
	t.Helper()
	n.in.Close()
	for n.out.Scan() {
	}
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the other process: %v", err)
	}
}

// TestAsNeighbour is the other process of TestStormOfTwoProcesses.
func TestAsNeighbour(t *testing.T) {
	root := os.Getenv(neighbourRoot)
	if root == "" {
		return // not as a test of its own: TestStormOfTwoProcesses runs it
	}
	var seed uint64
	fmt.Sscan(os.Getenv(neighbourSeed), &seed)
	b, err := stormBackend(root, Options{Host: "test.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Store.Close(context.Background())
	say := func(v any) {
		line, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("answer %s\n", line)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "storm":
			ledger, err := stormOf(seed+1_000_000, "q").Run(b)
			var said struct {
				Ledger *storetest.Ledger
				Err    string
			}
			if said.Ledger = ledger; err != nil {
				said.Err = err.Error()
			}
			say(said)
		case "agree":
			if _, err := untilAlike(root, b); err != nil {
				say(err.Error())
			} else {
				say("")
			}
		}
	}
}
