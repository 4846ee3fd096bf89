package peers

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
	"roost/test/witness"
)

// sharedBoxes are those that all clients of TestDovecotAndRoostTogether change at once.
var sharedBoxes = []string{"INBOX", "Shared", "Shared/Sub"}

// outcome is what must be there in the end: what each client was told, once.
type outcome struct {
	boxes map[string]map[imap.UID]*letter
	flags map[at]map[imap.Flag]bool
	subs  []string
}

func expected(actors []*actor, pins *pinboard) *outcome {
	o := &outcome{boxes: map[string]map[imap.UID]*letter{}, flags: map[at]map[imap.Flag]bool{}}
	for _, box := range sharedBoxes {
		o.boxes[box] = map[imap.UID]*letter{}
	}
	for _, a := range actors {
		for where, l := range a.mine {
			if old := o.boxes[where.box][where.uid]; old != nil {
				a.ledger.Wrong(a.key(where), "%s UID %d was given to %s and to %s", where.box, where.uid, old.id, l.id)
			}
			o.boxes[where.box][where.uid] = l
			o.flags[where] = maps.Clone(l.flags)
			maps.Copy(o.flags[where], pins.set[where])
		}
		o.subs = append(o.subs, slices.Collect(maps.Keys(a.subs))...)
	}
	slices.Sort(o.subs)
	return o
}

// wrongFlags compares what is shown with what was set and acknowledged. A copy has
// also the keywords of others that the message had at that moment.
func (o *outcome) wrongFlags(where at, flags []string) (out []string) {
	want := o.flags[where]
	for f, on := range want {
		if on && !slices.ContainsFunc(flags, func(g string) bool { return strings.EqualFold(g, string(f)) }) {
			out = append(out, fmt.Sprintf("%s UID %d: %s was set, and the flags are %v", where.box, where.uid, f, flags))
		}
	}
	for _, g := range flags {
		foreign := strings.HasPrefix(strings.ToLower(g), "key") && !o.boxes[where.box][where.uid].pinned
		if strings.EqualFold(g, `\Recent`) || foreign {
			continue
		}
		set := false
		for f, on := range want {
			set = set || on && strings.EqualFold(g, string(f))
		}
		if !set {
			out = append(out, fmt.Sprintf("%s UID %d: %s was not set, and the flags are %v", where.box, where.uid, g, flags))
		}
	}
	return out
}

// differs reads an account through one server.
func (o *outcome) differs(t *testing.T, server string, c *imapclient.Client) (out []string) {
	t.Helper()
	for box, letters := range o.boxes {
		sel, err := c.Select(box, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[imap.UID]bool{}
		if sel.NumMessages > 0 {
			msgs, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, Envelope: true}).Collect()
			if err != nil {
				return append(out, fmt.Sprintf("%s: %s: %v", server, box, err))
			}
			for _, m := range msgs {
				seen[m.UID] = true
				l := letters[m.UID]
				if l == nil {
					out = append(out, fmt.Sprintf("%s: %s UID %d came from nowhere: %s", server, box, m.UID, m.Envelope.MessageID))
					continue
				}
				if m.Envelope.MessageID != strings.Trim(l.id, "<>") {
					out = append(out, fmt.Sprintf("%s: %s UID %d is %s, and was given to %s", server, box, m.UID, m.Envelope.MessageID, l.id))
				}
				var flags []string
				for _, f := range m.Flags {
					flags = append(flags, string(f))
				}
				for _, w := range o.wrongFlags(at{box, m.UID}, flags) {
					out = append(out, server+": "+w)
				}
			}
		}
		for uid, l := range letters {
			if !seen[uid] {
				out = append(out, fmt.Sprintf("%s: %s UID %d (%s) is lost", server, box, uid, l.id))
			}
		}
	}
	list, err := c.List("", "*", &imap.ListOptions{SelectSubscribed: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var subs []string
	for _, l := range list {
		if strings.HasPrefix(l.Mailbox, "Made") || strings.HasPrefix(l.Mailbox, "Named") {
			subs = append(subs, l.Mailbox)
		}
	}
	slices.Sort(subs)
	if !slices.Equal(subs, o.subs) {
		out = append(out, fmt.Sprintf("%s: subscribed to %v, want %v", server, subs, o.subs))
	}
	return out
}

// watcher compares what a session knows that was there all the time.
func (o *outcome) watcher(s *witness.Session) (out []string) {
	box := s.Mailbox
	got := s.Messages()
	if len(got) != len(o.boxes[box]) {
		out = append(out, fmt.Sprintf("%s knows %d messages of %d", s.Who, len(got), len(o.boxes[box])))
	}
	for uid, flags := range got {
		if o.boxes[box][imap.UID(uid)] == nil {
			out = append(out, fmt.Sprintf("%s knows UID %d, which is not there", s.Who, uid))
			continue
		}
		for _, w := range o.wrongFlags(at{box, imap.UID(uid)}, flags) {
			out = append(out, s.Who+": "+w)
		}
	}
	return out
}

// Dovecot and Roost serve one tree at the same time to clients that change the same
// mailboxes, while an MTA delivers into them.
func TestDovecotAndRoostTogether(t *testing.T) {
	h := newHouse(t)
	d, err := neighbour.StartDovecot(neighbour.DovecotOptions{
		Dir: filepath.Join(h.dir, "dovecot"), Home: h.mail, Password: password,
		Location: "maildir:" + h.mail + "/%d/%n/Maildir",
	})
	started(t, err)
	defer func() {
		d.Close()
		if t.Failed() {
			t.Logf("Dovecot's log:\n%s", d.Log())
		}
	}()
	r := h.serve(t)
	servers := []struct{ name, addr string }{{"Roost", r.PlainAddr}, {"Dovecot", d.Addr}}
	const user = "ann@example.org"

	first, err := imapclient.DialInsecure(r.PlainAddr, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, box := range sharedBoxes[1:] {
		if err := first.Create(box, nil).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	first.Close()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ledger := witness.NewLedger()
	stop := make(chan struct{})
	beat := make(chan struct{}, 1)
	var watching, acting sync.WaitGroup
	var watchers []*witness.Session
	for _, server := range servers {
		for i, box := range append(slices.Clone(sharedBoxes), sharedBoxes...) {
			idles := i < len(sharedBoxes)
			s, err := witness.Dial(ledger, fmt.Sprintf("%s watcher of %s %d", server.name, box, i/len(sharedBoxes)), server.addr, user, password)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Select(box); err != nil {
				t.Fatal(err)
			}
			watchers = append(watchers, s)
			watching.Go(func() { // ends with stop
				for {
					var err error
					if idles {
						err = s.Idle(stop, nil)
					} else {
						err = s.Poll()
					}
					if err != nil {
						ledger.Blame("%s: %v", s.Who, err)
						return
					}
					select {
					case <-stop:
						return
					case <-beat:
					}
				}
			})
		}
	}

	pins := &pinboard{set: map[at]map[imap.Flag]bool{}}
	var actors []*actor
	for i := range 4 {
		server := servers[i%2]
		c, err := imapclient.DialInsecure(server.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login(user, password).Wait(); err != nil {
			t.Fatal(err)
		}
		a := &actor{id: i, server: server.name, c: c, rng: rand.New(rand.NewPCG(seed, uint64(i))), ledger: ledger, pins: pins,
			tree: h.maildir("ann"), valid: map[string]uint32{}, mine: map[at]*letter{}, subs: map[string]bool{}}
		for _, box := range sharedBoxes {
			if err := a.select_(box); err != nil {
				t.Fatal(err)
			}
		}
		actors = append(actors, a)
	}
	const short = 60
	steps := neighbour.Rounds(short)
	if steps > short {
		steps *= 5 // about a minute for .ci/run
	}
	for _, a := range actors {
		acting.Go(func() { // ends after its steps
			for range steps {
				if err := a.step(); err != nil {
					ledger.Blame("%s: %v", a.who(), err)
					return
				}
				select {
				case beat <- struct{}{}:
				default:
				}
			}
			if err := a.find(); err != nil {
				ledger.Blame("%s: %v", a.who(), err)
			}
		})
	}
	acting.Wait()
	close(stop)
	watching.Wait()

	want := expected(actors, pins)
	a := actors[0]
	// What the others did is told by events: the last of them may be on their way.
	var wrong []string
	for deadline := time.Now().Add(patience); ; {
		wrong = nil
		for _, server := range servers {
			c, err := imapclient.DialInsecure(server.addr, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Login(user, password).Wait(); err != nil {
				t.Fatal(err)
			}
			wrong = append(wrong, want.differs(t, server.name, c)...)
			c.Close()
		}
		for _, s := range watchers {
			if err := s.Poll(); err != nil {
				t.Fatalf("%s: %v", s.Who, err)
			}
			wrong = append(wrong, want.watcher(s)...)
		}
		if len(wrong) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, w := range wrong {
		t.Error(w)
	}
	for _, box := range sharedBoxes {
		if n := len(files(t, a.directory(box))); n != len(want.boxes[box]) {
			t.Errorf("%s has %d files for %d messages", box, n, len(want.boxes[box]))
		}
		if _, err := os.Stat(filepath.Join(a.directory(box), "dovecot-uidlist.lock")); err == nil {
			t.Errorf("the lock of %s was left", box)
		}
	}
	ledger.Strays()
	for _, f := range ledger.Faults() {
		t.Error(f)
	}
	seen, gone := ledger.Counts()
	t.Logf("%d UIDs were seen, %d were told to be gone", seen, gone)
	lockWent := strings.Contains(d.Log(), ": file_dotlock_open() failed with file ")
	for line := range strings.Lines(d.Log()) {
		// A mailbox that is renamed or deleted takes along what Dovecot has open there; its
		// indexes come again.
		if strings.Contains(line, "dovecot.index") && (strings.Contains(line, "/.Made") || strings.Contains(line, "/.Named")) {
			continue
		}
		// Where a lock of its own went along too, one of its processes waits three minutes for
		// that, and the others for this one.
		if lockWent && (strings.Contains(line, "dovecot.list.index.log") || strings.Contains(line, "/Maildir/mailboxes.lock")) &&
			(strings.Contains(line, "while waiting for lock") || strings.Contains(line, "was locked for") ||
				strings.Contains(line, "Locking transaction log file") || strings.Contains(line, "file_create_locked(")) {
			continue
		}
		if strings.Contains(line, "Error:") || strings.Contains(line, "Warning:") || strings.Contains(line, "Panic:") {
			t.Errorf("Dovecot complains: %s", line)
		}
	}
}
