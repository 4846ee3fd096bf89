// Package crash kills the real server while clients change mail, and compares what
// is there afterwards with what was acknowledged.
package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

const (
	password = "secret"
	workers  = 3
)

// rounds is how often the server is killed; ROOST_CRASH_ROUNDS asks for more.
func rounds(t *testing.T) int {
	n := 4
	if s := os.Getenv("ROOST_CRASH_ROUNDS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// message is what the clients know of one UID.
type message struct {
	subject string
	flagged bool
}

// mail is the contents of the mailboxes by name and UID.
type mail map[string]map[imap.UID]message

// worker is one client and its two mailboxes, which nobody else changes.
type worker struct {
	id         int
	boxes      [2]string
	known      mail
	subscribed []string
	next       int
	kind       string // of the command without an answer
	subject    string // of its message
	uid        imap.UID
	src, dst   string
}

// step runs one command; the model follows its acknowledgement.
func (w *worker) step(c *imapclient.Client, rng *rand.Rand) error {
	w.kind, w.src, w.dst = "append", w.boxes[0], w.boxes[0]
	if n := rng.IntN(2); n == 1 {
		w.src = w.boxes[1]
	}
	var had message
	for uid, m := range w.known[w.src] {
		w.kind, w.uid, had = []string{"append", "append", "store", "copy", "move", "expunge", "subscribe"}[rng.IntN(7)], uid, m
		break
	}
	w.dst = w.boxes[0]
	if w.src == w.dst && w.kind != "append" {
		w.dst = w.boxes[1]
	}
	w.subject = had.subject
	if w.kind == "append" {
		w.next++
		w.subject = fmt.Sprintf("w%d-%d", w.id, w.next)
		text := "Subject: " + w.subject + "\r\n\r\nbody\r\n"
		cmd := c.Append(w.dst, int64(len(text)), nil)
		if _, err := cmd.Write([]byte(text)); err != nil {
			return err
		}
		if err := cmd.Close(); err != nil {
			return err
		}
		data, err := cmd.Wait()
		if err != nil {
			return err
		}
		w.known[w.dst][data.UID] = message{subject: w.subject}
		return nil
	}
	if w.kind == "subscribe" {
		name := fmt.Sprintf("sub%d-%d", w.id, len(w.subscribed))
		if err := c.Subscribe(name).Wait(); err != nil {
			return err
		}
		w.subscribed = append(w.subscribed, name)
		return nil
	}
	if _, err := c.Select(w.src, nil).Wait(); err != nil {
		w.kind = "select"
		return err
	}
	set := imap.UIDSetNum(w.uid)
	flag := func(f imap.Flag) error {
		return c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{f}}, nil).Close()
	}
	switch w.kind {
	case "store":
		if err := flag(imap.FlagFlagged); err != nil {
			return err
		}
		had.flagged = true
		w.known[w.src][w.uid] = had
	case "copy":
		data, err := c.Copy(set, w.dst).Wait()
		if err != nil {
			return err
		}
		uids, _ := data.DestUIDs.Nums()
		w.known[w.dst][uids[0]] = had
	case "move":
		data, err := c.Move(set, w.dst).Wait()
		if err != nil {
			return err
		}
		set, _ := data.DestUIDs.(imap.UIDSet)
		uids, _ := set.Nums()
		delete(w.known[w.src], w.uid)
		w.known[w.dst][uids[0]] = had
	case "expunge":
		if err := flag(imap.FlagDeleted); err != nil {
			return err
		}
		if err := c.UIDExpunge(set).Close(); err != nil {
			return err
		}
		delete(w.known[w.src], w.uid)
	}
	return nil
}

// compare checks what the server has against what w was told, and takes it over.
func (w *worker) compare(t *testing.T, now mail) {
	t.Helper()
	missing, extra := 0, 0
	for _, box := range w.boxes {
		for uid, m := range w.known[box] {
			got, ok := now[box][uid]
			inFlight := box == w.src && uid == w.uid
			switch {
			case !ok && inFlight && (w.kind == "move" || w.kind == "expunge"):
				missing++
			case !ok:
				t.Errorf("%s: UID %d (%s) was acknowledged and is lost; in flight: %s UID %d of %s", box, uid, m.subject, w.kind, w.uid, w.src)
			case got.subject != m.subject:
				t.Errorf("%s: UID %d was %s and is %s", box, uid, m.subject, got.subject)
			case got.flagged != m.flagged && !(inFlight && w.kind == "store"):
				t.Errorf("%s: UID %d: flagged is %t, acknowledged was %t", box, uid, got.flagged, m.flagged)
			}
		}
		for uid, m := range now[box] {
			if _, ok := w.known[box][uid]; ok {
				continue
			}
			switch {
			case box == w.dst && m.subject == w.subject && (w.kind == "append" || w.kind == "copy" || w.kind == "move"):
				extra++
			default:
				t.Errorf("%s: UID %d (%s) came from nowhere; in flight: %s", box, uid, m.subject, w.kind)
			}
		}
	}
	if extra > 1 {
		t.Errorf("one %s made %d messages", w.kind, extra)
	}
	if w.kind == "move" && missing != extra {
		t.Errorf("a MOVE took %d messages away and brought %d", missing, extra)
	}
	for _, box := range w.boxes {
		w.known[box] = now[box]
	}
	w.kind = ""
}

func dial(t *testing.T, addr string) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialInsecure(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Login("ann@example.org", password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// read lists a mailbox and its UIDVALIDITY.
func read(t *testing.T, c *imapclient.Client, box string) (map[imap.UID]message, uint32) {
	t.Helper()
	sel, err := c.Select(box, nil).Wait()
	if err != nil {
		t.Fatalf("%s: %v", box, err)
	}
	out := map[imap.UID]message{}
	if sel.NumMessages == 0 {
		return out, sel.UIDValidity
	}
	got, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{UID: true, Flags: true, Envelope: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		one := message{subject: m.Envelope.Subject}
		for _, f := range m.Flags {
			one.flagged = one.flagged || f == imap.FlagFlagged
		}
		out[m.UID] = one
	}
	return out, sel.UIDValidity
}

func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	dir, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	bin, err := neighbour.BuildRoost(dir)
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(dir, "mail")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := neighbour.Own(tree); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	var all []*worker
	for i := range workers {
		w := &worker{id: i, boxes: [2]string{fmt.Sprintf("A%d", i), fmt.Sprintf("B%d", i)}, known: mail{}}
		for _, box := range w.boxes {
			w.known[box] = map[imap.UID]message{}
		}
		all = append(all, w)
	}
	validity := map[string]uint32{}
	meaning := map[string]string{} // of a mailbox and UID, for ever
	for round := range rounds(t) + 1 {
		r, err := neighbour.StartRoost(neighbour.RoostOptions{Bin: bin, Dir: filepath.Join(dir, "server"),
			Location: filepath.Join(tree, "%n"), Users: map[string]string{"ann@example.org": password}})
		if err != nil {
			t.Fatal(err)
		}
		check := dial(t, r.PlainAddr)
		for _, w := range all {
			now := mail{}
			for _, box := range w.boxes {
				if round == 0 {
					if err := check.Create(box, nil).Wait(); err != nil {
						t.Fatal(err)
					}
				}
				var v uint32
				now[box], v = read(t, check, box)
				if old, ok := validity[box]; ok && old != v {
					t.Errorf("%s: UIDVALIDITY was %d and is %d", box, old, v)
				}
				validity[box] = v
				for uid, m := range now[box] {
					key := fmt.Sprint(box, " ", uid)
					if old, ok := meaning[key]; ok && old != m.subject {
						t.Errorf("%s was %s and is %s", key, old, m.subject)
					}
					meaning[key] = m.subject
				}
			}
			w.compare(t, now)
			for _, name := range w.subscribed {
				subs, err := check.List("", name, &imap.ListOptions{SelectSubscribed: true}).Collect()
				if err != nil || len(subs) != 1 {
					t.Errorf("the subscription to %s is lost: %v", name, err)
				}
			}
		}
		check.Close()
		if t.Failed() || round == rounds(t) {
			t.Logf("round %d\n%s", round, r.Log())
			r.Kill()
			return
		}
		var acknowledged atomic.Int64
		limit := int64(20 + rng.IntN(150))
		full := make(chan struct{})
		var group sync.WaitGroup
		for _, w := range all {
			c := dial(t, r.PlainAddr)
			own := rand.New(rand.NewPCG(seed, uint64(round*workers+w.id+1)))
			group.Go(func() {
				defer c.Close()
				for w.step(c, own) == nil {
					if acknowledged.Add(1) == limit {
						close(full)
					}
				}
			})
		}
		// A worker that ends before the kill would leave this waiting; so it is watched.
		ended := make(chan struct{})
		go func() { group.Wait(); close(ended) }()
		select {
		case <-full:
		case <-ended:
			t.Errorf("round %d: every client was refused before the kill", round)
		}
		r.Kill()
		<-ended
	}
}
