package test

import (
	"compress/flate"
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

	"roost/maildir"
	"roost/store"
)

// mirrored is the test's world.
type mirrored struct {
	*village
	rng     *rand.Rand
	l       *listener
	other   *hearer
	history []string
	n       int
}

func (w *mirrored) note(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

var pool = []string{"INBOX", "A", "A/x", "A/y", "A/x/z", "B", "C", "B/x"}

func (w *mirrored) name() string   { return pool[w.rng.IntN(len(pool))] }
func (w *mirrored) folder() string { return pool[1+w.rng.IntN(len(pool)-1)] }

func (w *mirrored) begin(d dialect) {
	w.l = &listener{hearer: hear(w.village, w.note), dialect: d, folders: map[string]*folderKnown{}, flags: map[uint32]string{}}
	l := w.l
	if _, err := l.line(); err != nil {
		w.t.Fatal(err)
	}
	commands := []string{}
	if d.enable != "" {
		commands = append(commands, "ENABLE "+d.enable)
	}
	events := "(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)"
	selected := "selected"
	if d.deferred {
		selected = "selected-delayed"
	}
	commands = append(commands, "NOTIFY SET STATUS ("+selected+" (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (personal "+events+")", `LIST "" * RETURN (SUBSCRIBED)`, `LIST (SUBSCRIBED) "" *`)
	if d.compressed {
		if answer, err := l.do("COMPRESS DEFLATE", l.learn); err != nil || !strings.HasPrefix(answer, "OK") {
			w.t.Fatal(answer, err)
		}
		<-l.done
		l.pack, _ = flate.NewWriter(l.conn, 6)
		l.w = l.pack
		l.from(flate.NewReader(l.conn))
	}
	for _, c := range commands {
		if answer, err := l.do(c, l.learn); err != nil || !strings.HasPrefix(answer, "OK") {
			w.t.Fatal(c, answer, err)
		}
	}
}

// own runs a command of the listener, which changes what it knows itself.
func (w *mirrored) own(command string, then func(answer string)) error {
	l := w.l
	if l.idling != "" {
		l.send("DONE")
		for {
			line, err := l.line()
			if err != nil {
				return err
			}
			if strings.HasPrefix(line, l.idling+" ") {
				break
			}
			if err := l.learn(line); err != nil {
				return err
			}
		}
		l.idling = ""
	}
	answer, err := l.do(command, l.learn)
	if err != nil {
		return err
	}
	if strings.HasPrefix(answer, "+") {
		l.idling = fmt.Sprintf("t%d", l.tags)
		return nil
	}
	if strings.HasPrefix(answer, "BAD") {
		return fmt.Errorf("%s: %s", command, answer)
	}
	if strings.HasPrefix(answer, "OK") && then != nil {
		then(answer)
	}
	// What it added itself to the selected mailbox it was not told the UIDs of.
	if slices.Contains(l.uids, 0) {
		from := uint32(1)
		for _, uid := range l.uids {
			from = max(from, uid+1)
		}
		_, err = l.do("UID FETCH 1:* (FLAGS)", l.learn)
	}
	return err
}

func (w *mirrored) literal(to, flags string) string {
	w.n++
	text := fmt.Sprintf("Subject: %d\r\n\r\nhello\r\n", w.n)
	return fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", to, flags, len(text), text)
}

// ownStep is one thing that the listener does.
func (w *mirrored) ownStep() error {
	l := w.l
	uid := uint32(0)
	if n := len(l.uids); n > 0 {
		uid = l.uids[w.rng.IntN(n)]
	}
	n := w.folder()
	switch k := w.rng.IntN(16); {
	case k == 0:
		to := w.name()
		known := l.folders[to]
		if known == nil || !known.exists || to == l.sel {
			return nil
		}
		flags := []string{"", `\Seen`}[w.rng.IntN(2)]
		return w.own(w.literal(to, flags), func(answer string) {
			if m := codeLine.FindStringSubmatch(answer); m != nil {
				f := l.folder(to)
				f.added(numbers(m[3])[0], flags)
				fmt.Sscan(m[2], &f.validity)
			}
		})
	case k == 1 && l.sel != "":
		return w.own(w.literal(l.sel, ""), nil)
	case k == 2:
		return w.own("CREATE "+n, func(string) {
			f := l.folder(n)
			f.exists = true
		})
	case k == 3 && n != l.sel:
		return w.own("DELETE "+n, func(string) {
			f := l.folder(n)
			*f = folderKnown{subscribed: f.subscribed}
		})
	case k == 4:
		verb := []string{"SUBSCRIBE ", "UNSUBSCRIBE "}[w.rng.IntN(2)]
		return w.own(verb+n, func(string) { l.folder(n).subscribed = verb == "SUBSCRIBE " })
	case k <= 7 && (l.sel == "" || w.rng.IntN(2) == 0):
		to := w.name()
		verb := []string{"SELECT ", "EXAMINE "}[w.rng.IntN(2)]
		if err := w.own("NOOP", nil); err != nil {
			return err
		}
		l.opening = to
		err := w.own(verb+to, nil)
		if l.opening != "" { // it failed: none is selected now
			l.opening = ""
			l.leave()
		}
		return err
	case k == 8 && l.sel != "":
		err := w.own("UNSELECT", nil)
		l.leave()
		return err
	case k == 9:
		return w.own("IDLE", nil)
	case k == 10 && uid != 0:
		flag := []string{`\Seen`, `\Flagged`, `\Deleted`}[w.rng.IntN(3)]
		sign := []string{"+", "-"}[w.rng.IntN(2)]
		return w.own(fmt.Sprintf("UID STORE %d %sFLAGS (%s)", uid, sign, flag), nil)
	case k == 11 && l.sel != "":
		return w.own("EXPUNGE", nil)
	case k == 12 && uid != 0:
		to := w.name()
		known := l.folders[to]
		if known == nil || !known.exists || to == l.sel {
			return nil
		}
		move := w.rng.IntN(2) == 0
		verb := "COPY"
		if move {
			verb = "MOVE"
		}
		// What others marked a moment ago goes along.
		if err := w.own("NOOP", nil); err != nil {
			return err
		}
		if _, still := l.flags[uid]; !still {
			return nil
		}
		flags := l.flags[uid]
		count := func(line string) {
			if m := codeLine.FindStringSubmatch(line); m != nil {
				f := l.folder(to)
				f.added(numbers(m[4])[0], flags)
				fmt.Sscan(m[2], &f.validity)
			}
		}
		answer, err := l.do(fmt.Sprintf("UID %s %d %s", verb, uid, to), func(line string) error {
			count(line)
			return l.learn(line)
		})
		count(answer)
		return err
	case k == 13:
		return w.own("NOOP", nil)
	case k == 14 && n != l.sel:
		to := w.folder()
		if to == n || strings.HasPrefix(to, n+"/") || strings.HasPrefix(l.sel, n) {
			return nil
		}
		if err := w.own("NOOP", nil); err != nil {
			return err
		}
		before := map[string]folderKnown{}
		for name, f := range l.folders {
			if f.exists && (name == n || strings.HasPrefix(name, n+"/")) {
				before[name] = *f
			}
		}
		l.oldName = ""
		return w.own("RENAME "+n+" "+to, func(string) {
			if l.oldName == n { // others did something to it too, so that it was told
				return
			}
			for name, f := range before { // it may hear before the OK that the old name is gone
				if !l.folders[name].exists {
					f.subscribed = l.folders[name].subscribed
					l.folders[name] = &f
				}
			}
			l.renamed(n, to)
		})
	}
	return nil
}

// othersStep is one thing that other clients and programs do.
func (w *mirrored) othersStep() {
	n := w.folder()
	do := func(c string) string {
		answer, err := w.other.do(c, nil)
		if err != nil {
			w.t.Fatal(c, err)
		}
		return answer
	}
	switch w.rng.IntN(14) {
	case 0, 1:
		for range 1 + w.rng.IntN(3) {
			to := w.name()
			if _, err := os.Stat(w.path(to) + "/new"); err == nil {
				w.note("deliver %s", to)
				if err := w.deliver(to); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	case 2:
		do(w.literal(w.name(), []string{"", `\Seen`}[w.rng.IntN(2)]))
	case 3:
		do("CREATE " + n)
	case 4:
		if w.l.sel != n || w.rng.IntN(4) == 0 { // it ends the session
			do("DELETE " + n)
		}
	case 5:
		if to := w.folder(); to != n && !strings.HasPrefix(to, n+"/") {
			do("RENAME " + n + " " + to)
		}
	case 6:
		do([]string{"SUBSCRIBE ", "UNSUBSCRIBE "}[w.rng.IntN(2)] + n)
	case 7, 8, 9:
		if strings.HasPrefix(do("SELECT "+w.name()), "OK") {
			for range 1 + w.rng.IntN(3) {
				do([]string{
					`STORE 1 +FLAGS (\Seen)`, `STORE 1:* -FLAGS (\Seen)`, `STORE 1 +FLAGS (\Deleted)`, `STORE * +FLAGS (\Deleted \Seen)`,
					"EXPUNGE", "COPY 1 " + w.name(), "MOVE 1 " + w.name(), `STORE 1:* +FLAGS (\Flagged)`, "EXPUNGE",
				}[w.rng.IntN(9)])
			}
			do("UNSELECT")
		}
	case 10, 11:
		dir := filepath.Join(w.path(w.name()), "cur")
		entries, _ := os.ReadDir(dir)
		if len(entries) == 0 {
			return
		}
		e := entries[w.rng.IntN(len(entries))].Name()
		base, _, _ := strings.Cut(e, ":2,")
		if w.rng.IntN(2) == 0 {
			w.note("remove %s/%s", dir, e)
			os.Remove(filepath.Join(dir, e))
		} else {
			w.note("mark %s/%s", dir, e)
			os.Rename(filepath.Join(dir, e), filepath.Join(dir, base+[]string{":2,", ":2,S", ":2,FS"}[w.rng.IntN(3)]))
		}
	case 12:
		if _, err := os.Stat(w.path(n)); err != nil {
			w.note("make %s", n)
			if err := w.make(w.path(n)); err != nil {
				w.t.Fatal(err)
			}
			if w.rng.IntN(2) == 0 {
				w.deliver(n)
			}
		}
	case 13:
		if to := w.folder(); !strings.HasPrefix(to, n+"/") && w.layout == store.LayoutMaildirPP {
			if _, err := os.Stat(w.path(to)); err != nil {
				w.note("move %s %s: %v", n, to, os.Rename(w.path(n), w.path(to)))
			}
		}
	}
}

// truth asks for everything.
func (w *mirrored) truth() map[string]*folderKnown {
	t := &listener{folders: map[string]*folderKnown{}}
	quiet := *w.other
	if _, err := quiet.do(`LIST "" * RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN UIDNEXT UIDVALIDITY HIGHESTMODSEQ))`, t.learn); err != nil {
		w.t.Fatal(err)
	}
	if _, err := quiet.do(`LIST (SUBSCRIBED) "" *`, t.learn); err != nil {
		w.t.Fatal(err)
	}
	w.other.tags = quiet.tags
	return t.folders
}

// differs compares what the listener knows with what is.
func (w *mirrored) differs() string {
	now := w.truth()
	l := w.l
	for name, is := range now {
		if name == l.sel {
			continue
		}
		have := l.folder(name)
		same := have.exists == is.exists && have.subscribed == is.subscribed
		if is.exists {
			same = same && have.messages == is.messages && have.unseen == is.unseen && (have.validity == is.validity || have.validity == 0 && is.messages == 0)
			// Without CONDSTORE it is told at first only, and after a mailbox was selected it is not known.
			same = same && (have.modSeq == 0 || !l.dialect.qresync || have.modSeq == is.modSeq)
			same = same && (have.next == is.next || have.next <= 1 && is.next <= 1)
		}
		if !same {
			return fmt.Sprintf("%s is      %v\n%s is told %v", name, is, name, have)
		}
	}
	for name, have := range l.folders {
		if now[name] == nil && (have.exists || have.subscribed) {
			return fmt.Sprintf("%s is not there, and told %v", name, have)
		}
	}
	if l.sel == "" {
		return ""
	}
	t := &listener{flags: map[uint32]string{}}
	answer, err := w.other.do("EXAMINE "+l.sel, t.learn)
	switch {
	case err != nil:
		w.t.Fatal(l.sel, err)
	case !strings.HasPrefix(answer, "OK"): // it was deleted: the client is still to be told
		return l.sel + ", which is selected: " + answer
	}
	w.other.do("UID FETCH 1:* (FLAGS)", t.learn)
	w.other.do("UNSELECT", nil)
	have := slices.Sorted(slices.Values(l.uids))
	if !slices.Equal(have, t.uids) {
		return fmt.Sprintf("%s has %v, told %v", l.sel, t.uids, have)
	}
	if !maps.Equal(l.flags, t.flags) {
		return fmt.Sprintf("%s has flags %v, told %v", l.sel, t.flags, l.flags)
	}
	return ""
}

// settle waits for what is under way to be told. It asks nothing; but where expunges are to be
// told at commands, it gives one.
func (w *mirrored) settle() error {
	if w.l.dialect.deferred {
		if err := w.own("NOOP", nil); err != nil {
			return err
		}
	}
	why := ""
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); { // a watchdog, no measure
		if l := w.l; l.sel != "" && (l.replaced || !l.folder(l.sel).exists) { // what it selected has a name that it does not know, or is gone
			if err := w.own("UNSELECT", nil); err != nil {
				return err
			}
			l.leave()
		}
		for more := true; more; {
			select {
			case line, ok := <-w.l.lines:
				if !ok {
					return errGone
				}
				w.note("  < %s", line)
				if err := w.l.learn(line); err != nil {
					return err
				}
			default:
				more = false
			}
		}
		// History repeats here: only the last of it is of use.
		kept := len(w.history)
		if why = w.differs(); why == "" {
			w.history = append(w.history[:kept], "settled")
			return nil
		}
		w.history = w.history[:kept]
		if w.l.dialect.deferred && w.l.idling == "" {
			if err := w.own("NOOP", nil); err != nil {
				return err
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	subs, _ := os.ReadFile(filepath.Join(w.root, "subscriptions"))
	w.note("%s\n%s", why, subs)
	w.other.do(`LIST "" * RETURN (SUBSCRIBED)`, nil)
	w.other.do(`LIST (SUBSCRIBED) "" *`, nil)
	return errors.New("it is never told:\n" + why)
}

// Who asks once and then listens knows at each quiet moment what all folders hold,
// whoever changes them.
func TestNotifyIsEnoughToKnowAllFolders(t *testing.T) {
	seeds := []uint64{1, 2, 1795798473370426525, 1795798473370474039} // the long ones found something
	if s := os.Getenv("ROOST_NOTIFY_SEED"); s != "" {                 // tries others
		first, _ := strconv.ParseUint(s, 10, 64)
		n, _ := strconv.Atoi(os.Getenv("ROOST_NOTIFY_SEEDS"))
		seeds = nil
		for i := range max(n, 1) {
			seeds = append(seeds, first+uint64(i))
		}
	}
	for _, d := range []dialect{
		{name: "plain"},
		{name: "delayed", deferred: true},
		{name: "all", enable: "QRESYNC UIDONLY", qresync: true, uidOnly: true, compressed: true},
		{name: "qresync", enable: "QRESYNC", qresync: true},
	} {
		for _, seed := range seeds {
			for _, layout := range []store.Layout{store.LayoutMaildirPP, store.LayoutFS} {
				t.Run(fmt.Sprintf("%s/%v/seed=%d", d.name, layout, seed), func(t *testing.T) {
					w := &mirrored{village: newVillage(t, layout, maildir.Options{}, "A", "B"), rng: rand.New(rand.NewPCG(seed, 7))}
					defer func() {
						if t.Failed() {
							t.Logf("ROOST_NOTIFY_SEED=%d\n%s", seed, strings.Join(w.history[max(0, len(w.history)-5000):], "\n"))
						}
					}()
					w.other = hear(w.village, w.note)
					defer func() { w.other.close() }()
					if _, err := w.other.line(); err != nil {
						t.Fatal(err)
					}
					w.begin(d)
					defer func() { w.l.close() }()
					for range 150 {
						var err error
						switch k := w.rng.IntN(20); {
						case k < 9:
							w.othersStep()
						case k < 18:
							err = w.ownStep()
						default:
							err = w.settle()
						}
						if errors.Is(err, errGone) && w.l.bye {
							w.l.close()
							w.begin(d)
							err = nil
						}
						if err != nil {
							t.Fatal(err)
						}
					}
					if err := w.settle(); err != nil && !(errors.Is(err, errGone) && w.l.bye) {
						t.Fatal(err)
					}
				})
			}
		}
	}
}
