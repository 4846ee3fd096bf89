package resync

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// world is a mailbox, its server, and what the test does to both.
type world struct {
	*testing.T
	rng     *rand.Rand
	bin     string
	dir     string
	maildir string
	server  *neighbour.Roost // nil: not running
	ids     *identities
	other   *mirror // a client that changes things and is always right
	copies  []*mirror
	n       int
	log     []string
}

// tempDir is a directory that the mail user may enter, unlike t.TempDir.
func tempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "roost-resync")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func build(t *testing.T) string {
	bin, err := neighbour.BuildRoost(tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// newWorld makes an empty mailbox; no server runs yet.
func newWorld(t *testing.T, bin string, seed uint64) *world {
	dir := tempDir(t)
	w := &world{T: t, rng: rand.New(rand.NewPCG(seed, 0)), bin: bin, dir: dir, maildir: filepath.Join(dir, "mail", "ann", "Maildir")}
	for _, sub := range []string{"cur", "new", "tmp"} {
		w.must(os.MkdirAll(filepath.Join(w.maildir, sub), 0o700))
	}
	w.must(os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	if os.Getuid() == 0 {
		w.must(neighbour.Own(filepath.Join(dir, "mail")))
	}
	w.ids = newIdentities()
	w.other = &mirror{}
	return w
}

func TestCopiesStayTrue(t *testing.T) {
	bin := build(t)
	var err error
	seeds, steps := 3, 120
	if s := os.Getenv("ROOST_RESYNC_SEEDS"); s != "" {
		if seeds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	first := uint64(time.Now().UnixNano())
	if s := os.Getenv("ROOST_RESYNC_SEED"); s != "" {
		if first, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := newWorld(t, bin, seed)
			w.other.ids = w.ids
			for i := range 4 { // half of them go without numbers
				w.copies = append(w.copies, &mirror{ids: w.ids, uidOnly: i%2 == 1})
			}
			defer func() {
				if t.Failed() {
					t.Logf("ROOST_RESYNC_SEED=%d\n%s", seed, strings.Join(w.log, "\n"))
				}
			}()
			defer w.stop(false)
			w.start()
			for range 12 {
				w.deliver()
			}
			for range steps {
				w.step()
			}
			w.settle()
		})
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

func (w *world) start() {
	var err error
	w.server, err = neighbour.StartRoost(neighbour.RoostOptions{
		Bin: w.bin, Dir: filepath.Join(w.dir, "etc"), Location: filepath.Join(w.dir, "mail") + "/%u/Maildir", Users: map[string]string{"ann": "secret"},
	})
	w.must(err)
}

// stop ends the server, by a signal that it hears or by one that it does not.
func (w *world) stop(kill bool) {
	for _, m := range append(w.copies, w.other) {
		m.hangUp()
	}
	if w.server == nil {
		return
	}
	if kill {
		w.server.Kill()
	} else {
		w.server.Close()
	}
	if log := w.server.Log(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		w.Errorf("the server's log:\n%s", log)
	}
	w.server = nil
}

// live runs f on a connected mirror, and ends the test where it fails other than by
// the connection.
func (w *world) live(m *mirror, what string, f func() error) {
	w.Helper()
	if m.conn == nil {
		if err := m.connect(w.server.PlainAddr); err != nil {
			w.Fatalf("connect: %v", err)
		}
	}
	if err := f(); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// step does one thing.
func (w *world) step() {
	m := w.copies[w.rng.IntN(len(w.copies))]
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3:
		w.deliver()
	case 4, 5:
		w.note("another program renames")
		w.outside(func(path string) error {
			base, _, _ := strings.Cut(filepath.Base(path), ":2,")
			return os.Rename(path, filepath.Join(w.maildir, "cur", base+":2,"+w.letters()))
		})
	case 6:
		w.note("another program deletes")
		w.outside(os.Remove)
	case 7, 8, 9:
		w.live(w.other, "other", func() error {
			command := w.command(w.other)
			if w.rng.IntN(2) == 0 { // only here: what a copy changes itself in silence it would have to work out
				command = strings.Replace(command, "FLAGS (\\", "FLAGS.SILENT (\\", 1)
			}
			w.note("other: %s", command)
			return w.other.do(command)
		})
	case 10, 11:
		w.live(m, "copy", func() error {
			command := w.command(m)
			w.note("copy: %s", command)
			return m.do(command)
		})
	case 12, 13, 14:
		w.note("copy is up to date")
		w.live(m, "copy", func() error {
			if err := m.do("NOOP"); err != nil {
				return err
			}
			return m.learn()
		})
	case 15, 16:
		w.note("copy hangs up")
		w.cut(m)
	case 17:
		w.note("copy idles")
		w.live(m, "idle", func() error {
			if err := m.idle(); err != nil {
				return err
			}
			w.deliver()
			if err := m.hear(); err != nil {
				return err
			}
			if w.rng.IntN(3) == 0 {
				m.hangUp()
				return nil
			}
			return m.done()
		})
	case 18:
		kill, forget := w.rng.IntN(3) > 0, w.rng.IntN(4) == 0
		w.note("restart kill=%v, caches deleted=%v", kill, forget)
		w.stop(kill)
		if w.rng.IntN(2) == 0 {
			w.deliver()
		}
		if forget {
			caches, err := filepath.Glob(filepath.Join(w.maildir, "roost.*"))
			w.must(err)
			for _, path := range caches {
				w.must(os.Remove(path))
			}
		}
		w.start()
	case 19:
		w.settle()
	}
}

// command is something that a client does to a message that it knows.
func (w *world) command(m *mirror) string {
	var uid uint32
	for u := range m.flags {
		uid = max(uid, u)
	}
	if uid == 0 {
		return "NOOP"
	}
	uid = 1 + w.rng.Uint32N(uid)
	flag := []string{`\Seen`, `\Flagged`, `\Answered`, "$Label1", "Work"}[w.rng.IntN(5)]
	command := []string{
		fmt.Sprintf("UID STORE %d +FLAGS (%s)", uid, flag),
		fmt.Sprintf("UID STORE %d:* -FLAGS (%s)", uid, flag),
		fmt.Sprintf(`UID STORE %d +FLAGS (\Deleted)`, uid),
		fmt.Sprintf("STORE 1 +FLAGS (%s)", flag),
		"FETCH 1:* (UID FLAGS MODSEQ)",
		"UID SEARCH MODSEQ 1",
		"EXPUNGE",
		fmt.Sprintf("UID COPY %d INBOX", uid),
		"UID FETCH 1:* (EMAILID)",
		"UID SEARCH EMAILID " + w.anyEmail(),
	}[w.rng.IntN(10)]
	if m.uidOnly && (strings.HasPrefix(command, "STORE ") || strings.HasPrefix(command, "FETCH ")) {
		command = "UID " + command
	}
	return command
}

// anyEmail is an EMAILID that some message had.
func (w *world) anyEmail() string {
	all := slices.Sorted(maps.Values(w.ids.emails))
	if len(all) == 0 {
		return "M0"
	}
	return all[w.rng.IntN(len(all))]
}

// cut ends the connection, perhaps while an answer is under way.
func (w *world) cut(m *mirror) {
	if m.conn == nil {
		return
	}
	if w.rng.IntN(2) == 0 {
		fmt.Fprintf(m.conn, "x UID FETCH 1:* (UID FLAGS MODSEQ)\r\n")
		for range w.rng.IntN(8) {
			line, err := m.line()
			if err != nil || strings.HasPrefix(line, "x ") {
				break
			}
			if err := m.untagged(line); err != nil {
				w.Fatalf("cut: %v", err)
			}
		}
		m.seen = 0 // no answer came: what was seen of MODSEQs is no cursor
	}
	m.hangUp()
}

func (w *world) letters() string {
	var s string
	for _, l := range "FRST" {
		if w.rng.IntN(3) == 0 {
			s += string(l)
		}
	}
	return s
}

func (w *world) deliver() {
	w.n++
	w.note("delivery %d", w.n)
	name := fmt.Sprintf("%d.M%dP%d.mta", time.Now().Unix(), w.n, os.Getpid())
	tmp := filepath.Join(w.maildir, "tmp", name)
	text := fmt.Sprintf("Subject: %d\n\nhello\n", w.n)
	w.ids.delivered(text)
	if w.rng.IntN(3) == 0 {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	w.must(os.WriteFile(tmp, []byte(text), 0o600))
	if os.Getuid() == 0 {
		w.must(os.Chown(tmp, neighbour.MailUID, neighbour.MailGID))
	}
	w.must(os.Rename(tmp, filepath.Join(w.maildir, "new", name)))
}

// outside does something to a message's file, as a program that knows no IMAP.
func (w *world) outside(do func(path string) error) {
	files, err := filepath.Glob(filepath.Join(w.maildir, "cur", "*"))
	w.must(err)
	if len(files) == 0 {
		return
	}
	if err := do(files[w.rng.IntN(len(files))]); err != nil && !errors.Is(err, os.ErrNotExist) {
		w.Fatal(err)
	}
}

// settle brings every copy up to date, and compares it with what a client sees that
// knows nothing yet. Events of other programs may be on their way: so it asks until
// they are the same, and a change that a copy missed stays missed for ever.
func (w *world) settle() {
	w.Helper()
	for _, m := range w.copies {
		why := ""
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); { // a watchdog, no measure
			w.live(m, "settle", func() error {
				if err := m.do("NOOP"); err != nil {
					return err
				}
				if err := m.learn(); err != nil {
					return err
				}
				return m.do("UID FETCH 1:* (EMAILID)")
			})
			fresh := &mirror{ids: w.ids}
			w.live(fresh, "fresh", func() error { return nil })
			fresh.hangUp()
			if why = difference(m, fresh); why == "" {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if why != "" {
			w.Fatalf("a copy differs for good: %s", why)
		}
	}
	w.note("settled with %d messages", len(w.copies[0].flags))
}

func difference(m, fresh *mirror) string {
	if m.validity != fresh.validity {
		return fmt.Sprintf("UIDVALIDITY %d and %d", m.validity, fresh.validity)
	}
	for uid, flags := range fresh.flags {
		if have, ok := m.flags[uid]; !ok {
			return fmt.Sprintf("UID %d is missing", uid)
		} else if have != flags {
			return fmt.Sprintf("UID %d has %q, and here %q", uid, flags, have)
		}
	}
	for uid := range m.flags {
		if _, ok := fresh.flags[uid]; !ok {
			return fmt.Sprintf("UID %d is gone, and not here", uid)
		}
	}
	return ""
}
