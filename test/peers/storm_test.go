package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"roost/test/neighbour"
	"roost/test/witness"
)

// fill puts messages into cur/ of a mailbox that nobody opened yet, and gives their
// file names without flags.
func fill(t *testing.T, dir string, count int) (bases []string) {
	t.Helper()
	for _, sub := range []string{"", "cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range count {
		base := fmt.Sprintf("1700000000.M%06dP1.host", i)
		text := fmt.Sprintf("Message-ID: <%d@storm>\nSubject: %d\n\nx\n", i, i)
		if err := os.WriteFile(filepath.Join(dir, "cur", base+":2,"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		bases = append(bases, base)
	}
	if err := neighbour.Own(dir); err != nil {
		t.Fatal(err)
	}
	return bases
}

// Dovecot reads a directory while Roost sets flags in it, which are renames: readdir
// may miss a file that is renamed meanwhile, and Dovecot believes what it sees.
func TestDovecotExpungesNothingWhileRoostSetsFlags(t *testing.T) {
	const count = 3000
	h := newHouse(t)
	fill(t, h.maildir("ann"), count)
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	d, err := neighbour.StartDovecot(neighbour.DovecotOptions{
		Dir: filepath.Join(h.dir, "dovecot"), Home: h.mail, Password: password,
		Location: "maildir:" + h.mail + "/%d/%n/Maildir",
	})
	started(t, err)
	defer d.Close()
	r := h.serve(t)
	ledger := witness.NewLedger()
	open := func(who, addr string) *witness.Session {
		s, err := witness.Dial(ledger, who, addr, "ann@example.org", password)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if err := s.Select("INBOX"); err != nil {
			t.Fatal(err)
		}
		return s
	}
	writer, reader := open("Roost", r.PlainAddr), open("Dovecot", d.Addr)
	for uid := range writer.Messages() {
		ledger.Given("the test", writer.Key(uid), ledger.Name(writer.Key(uid)))
	}
	done := make(chan error, 1)
	go func() { // ends with its rounds
		for i := range neighbour.Rounds(6) {
			verb := "+"
			if i%2 == 1 {
				verb = "-"
			}
			if err := writer.Do("UID STORE 1:* " + verb + `FLAGS.SILENT (\Seen \Flagged)`); err != nil {
				done <- err
				return
			}
		}
		done <- writer.Do(`UID STORE 1:* +FLAGS.SILENT (\Answered)`)
	}()
	for storing := true; storing; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			storing = false
		default:
		}
		if err := reader.Poll(); err != nil {
			t.Fatal(err)
		}
	}
	ledger.Strays()
	for _, f := range ledger.Faults() {
		t.Error(f)
	}
	if n := len(reader.Messages()); n != count {
		t.Errorf("Dovecot shows %d messages of %d", n, count)
	}
}

// Another program gives 5,000 files other flags, again and again, while one client
// polls and one idles: no message vanishes or gets another UID for it, and in the end
// all know the flags.
func TestRenameStormIsSeenAsFlags(t *testing.T) {
	const count = 5000
	h := newHouse(t)
	dir := h.maildir("ann")
	bases := fill(t, dir, count)
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	r := h.serve(t)
	ledger := witness.NewLedger()
	open := func(who string) *witness.Session {
		s, err := witness.Dial(ledger, who, r.PlainAddr, "ann@example.org", password)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if err := s.Select("INBOX"); err != nil {
			t.Fatal(err)
		}
		return s
	}
	poller, idler := open("who polls"), open("who idles")
	for uid := range poller.Messages() {
		k := poller.Key(uid)
		ledger.Given("the test", k, ledger.Name(k))
	}

	infos := []string{"", "S", "FS", "", "RS", "T", "FRST", "F"}
	var storm, watching sync.WaitGroup
	stop := make(chan struct{})
	last := infos[0]
	storm.Go(func() { // ends with its rounds
		for i := range neighbour.Rounds(8) {
			next := infos[(i+1)%len(infos)]
			for _, base := range bases {
				if err := os.Rename(filepath.Join(dir, "cur", base+":2,"+last), filepath.Join(dir, "cur", base+":2,"+next)); err != nil {
					ledger.Blame("the other program: %v", err)
					return
				}
			}
			last = next
		}
	})
	polls := 0
	watching.Go(func() { // ends with stop
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := poller.Poll()
			if err == nil {
				err = poller.Flags()
			}
			if err != nil {
				ledger.Blame("%v", err)
				return
			}
			polls++
		}
	})
	watching.Go(func() { // ends with stop
		if err := idler.Idle(stop, nil); err != nil {
			ledger.Blame("%v", err)
		}
	})
	storm.Wait()
	close(stop)
	watching.Wait()

	names := map[rune]string{'D': `\Draft`, 'F': `\Flagged`, 'R': `\Answered`, 'S': `\Seen`, 'T': `\Deleted`}
	var want []string
	for _, letter := range last {
		want = append(want, names[letter])
	}
	slices.Sort(want)
	for _, s := range []*witness.Session{poller, idler} {
		for deadline := time.Now().Add(patience); ; {
			if err := s.Poll(); err != nil {
				t.Fatal(err)
			}
			behind := 0
			for _, flags := range s.Messages() {
				if !slices.Equal(flags, want) {
					behind++
				}
			}
			if behind == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d messages do not have the flags %v", s.Who, behind, want)
			}
		}
		if n := len(s.Messages()); n != count {
			t.Errorf("%s knows %d messages of %d", s.Who, n, count)
		}
	}
	ledger.Strays()
	for _, f := range ledger.Faults() {
		t.Error(f)
	}
	t.Logf("%d rounds of FETCH 1:* FLAGS meanwhile", polls)
}
