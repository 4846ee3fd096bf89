package crash

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// folder is what a client knows of a mailbox: the one message that it put there.
type folder struct {
	validity uint32
	uid      imap.UID // 0: nothing was stored yet, or without an answer
	subject  string
}

// gardener is one client and the mailboxes below its own name, which nobody else changes.
type gardener struct {
	root       string
	folders    map[string]folder
	subscribed map[string]bool
	next       int

	kind     string // of the command without an answer
	from, to string
}

func (g *gardener) below(name string) (out []string) {
	for n := range g.folders {
		if n == name || strings.HasPrefix(n, name+"/") {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// parents are what a CREATE or RENAME makes beside the mailbox itself.
func parents(name string) (out []string) {
	for i, c := range name {
		if c == '/' {
			out = append(out, name[:i])
		}
	}
	return out
}

func (g *gardener) made(name string, f folder) {
	for _, p := range parents(name) {
		if _, ok := g.folders[p]; !ok {
			g.folders[p] = folder{}
		}
	}
	g.folders[name] = f
}

// moved renames in the model.
func (g *gardener) moved(from, to string) {
	top := g.folders[from]
	for _, n := range g.below(from) {
		// A level without mail stays one: only what stands above the new name is made.
		f := g.folders[n]
		delete(g.folders, n)
		g.folders[to+n[len(from):]] = f
	}
	g.made(to, top)
	for n := range maps.Clone(g.subscribed) {
		if n == from || strings.HasPrefix(n, from+"/") {
			delete(g.subscribed, n)
			g.subscribed[to+n[len(from):]] = true
		}
	}
}

// step runs one command; the model follows its acknowledgement.
func (g *gardener) step(c *imapclient.Client, rng *rand.Rand) error {
	names := slices.Sorted(maps.Keys(g.folders))
	any := g.root
	if len(names) > 0 {
		any = names[rng.IntN(len(names))]
	}
	g.next++
	fresh := fmt.Sprintf("%s/n%d", g.root, g.next)
	if rng.IntN(2) == 0 && strings.Count(any, "/") < 4 {
		fresh = fmt.Sprintf("%s/n%d", any, g.next)
	}
	g.from, g.to = any, fresh
	switch n := rng.IntN(10); {
	case n < 4 || len(names) < 4:
		g.kind = "create"
		if err := c.Create(fresh, nil).Wait(); err != nil {
			return err
		}
		g.made(fresh, folder{})
		return g.fill(c, fresh)
	case n < 7:
		if strings.HasPrefix(fresh, any+"/") || any == g.root {
			g.kind = ""
			return nil
		}
		g.kind = "rename"
		if err := c.Rename(any, fresh, nil).Wait(); err != nil {
			return err
		}
		g.moved(any, fresh)
	case n < 8:
		if any == g.root {
			g.kind = ""
			return nil
		}
		g.kind = "delete"
		if err := c.Delete(any).Wait(); err != nil {
			return err
		}
		delete(g.folders, any)
	case n < 9 || !g.subscribed[any]:
		g.kind = "subscribe"
		if err := c.Subscribe(any).Wait(); err != nil {
			return err
		}
		g.subscribed[any] = true
	default:
		g.kind = "unsubscribe"
		if err := c.Unsubscribe(any).Wait(); err != nil {
			return err
		}
		delete(g.subscribed, any)
	}
	g.kind = ""
	return nil
}

// fill stores the one message by which a mailbox is known.
func (g *gardener) fill(c *imapclient.Client, name string) error {
	g.kind, g.from = "append", name
	text := fmt.Sprintf("Subject: %s\r\n\r\nbody\r\n", name)
	cmd := c.Append(name, int64(len(text)), nil)
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
	g.folders[name] = folder{data.UIDValidity, data.UID, name}
	g.kind = ""
	return nil
}

// settle compares what the server has with what g was told. A command without an answer
// was done or not; a RENAME that was done in part can be given again, and is.
func (g *gardener) settle(t *testing.T, c *imapclient.Client) {
	t.Helper()
	has := func() (names map[string]bool, subs map[string]bool) {
		names, subs = map[string]bool{}, map[string]bool{}
		for _, subscribed := range []bool{false, true} {
			list, err := c.List("", g.root+"*", &imap.ListOptions{SelectSubscribed: subscribed}).Collect()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range list {
				if subscribed {
					subs[l.Mailbox] = true
				} else if !slices.Contains(l.Attrs, imap.MailboxAttrNonExistent) && !slices.Contains(l.Attrs, imap.MailboxAttrNoSelect) {
					names[l.Mailbox] = true
				}
			}
		}
		return names, subs
	}
	names, subs := has()
	switch g.kind {
	case "create":
		if names[g.to] {
			g.made(g.to, folder{})
		} else {
			for _, p := range parents(g.to) { // made before it, and whole
				if _, ok := g.folders[p]; !ok && names[p] {
					g.made(p, folder{})
				}
			}
		}
	case "delete":
		if !names[g.from] {
			delete(g.folders, g.from)
		}
	case "subscribe":
		if subs[g.from] {
			g.subscribed[g.from] = true
		}
	case "unsubscribe":
		if !subs[g.from] {
			delete(g.subscribed, g.from)
		}
	case "rename":
		old, moved := 0, 0
		for _, n := range g.below(g.from) {
			switch now := g.to + n[len(g.from):]; {
			case names[n] && names[now]:
				t.Errorf("RENAME of %s to %s left %s under both names", g.from, g.to, n)
			case names[n]:
				old++
			case names[now]:
				moved++
			default:
				t.Errorf("RENAME of %s to %s lost %s", g.from, g.to, n)
			}
		}
		if old > 0 {
			// Given again it completes what was begun.
			if err := c.Rename(g.from, g.to, nil).Wait(); err != nil {
				t.Errorf("RENAME of %s to %s was cut off with %d moved and %d not, and cannot be given again: %v", g.from, g.to, moved, old, err)
			}
		}
		g.moved(g.from, g.to)
		names, subs = has()
	}
	want := slices.Sorted(maps.Keys(g.folders))
	if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, want) {
		t.Errorf("after %s %s %s there is\n%q, want\n%q", g.kind, g.from, g.to, got, want)
	}
	if got, want := slices.Sorted(maps.Keys(subs)), slices.Sorted(maps.Keys(g.subscribed)); !slices.Equal(got, want) {
		t.Errorf("after %s %s %s subscribed is\n%q, want\n%q", g.kind, g.from, g.to, got, want)
	}
	for _, name := range want {
		f := g.folders[name]
		messages, validity := read(t, c, name)
		if len(messages) == 1 && f.uid == 0 {
			for uid, m := range messages { // an APPEND without an answer
				f = folder{validity, uid, m.subject}
			}
			g.folders[name] = f
		}
		switch {
		case f.uid == 0 && len(messages) > 0, f.uid != 0 && len(messages) != 1:
			t.Errorf("%s has %d messages: %v, known %v", name, len(messages), messages, f)
		case f.uid != 0 && (messages[f.uid].subject != f.subject || validity != f.validity):
			t.Errorf("%s has UIDVALIDITY %d and %v, known %v", name, validity, messages, f)
		}
	}
	g.kind = ""
}

func TestKilledServerKeepsFolders(t *testing.T) {
	for _, layout := range []string{"maildir++", "fs"} {
		t.Run(layout, func(t *testing.T) { killedFolders(t, layout) })
	}
}

func killedFolders(t *testing.T, layout string) {
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
	var all []*gardener
	for i := range workers {
		all = append(all, &gardener{root: fmt.Sprintf("G%d", i), folders: map[string]folder{}, subscribed: map[string]bool{}})
	}
	most := neighbour.Rounds(rounds(t))
	for round := range most + 1 {
		r, err := neighbour.StartRoost(neighbour.RoostOptions{Bin: bin, Dir: filepath.Join(dir, "server"), Extra: fmt.Sprintf("layout = %q", layout),
			Location: filepath.Join(tree, "%n"), Users: map[string]string{"ann@example.org": password}})
		if err != nil {
			t.Fatal(err)
		}
		check := dial(t, r.PlainAddr)
		for _, g := range all {
			g.settle(t, check)
		}
		check.Close()
		noLeftovers(t, filepath.Join(tree, "ann"))
		if t.Failed() || round == most {
			t.Logf("round %d\n%s", round, r.Log())
			r.Kill()
			return
		}
		var acknowledged atomic.Int64
		limit := int64(10 + rng.IntN(60))
		full := make(chan struct{})
		var group sync.WaitGroup
		for i, g := range all {
			c := dial(t, r.PlainAddr)
			own := rand.New(rand.NewPCG(seed, uint64(round*workers+i+1)))
			group.Go(func() { // ends when the server does
				defer c.Close()
				for {
					if err := g.step(c, own); err != nil {
						if strings.Contains(err.Error(), "NO ") {
							t.Errorf("%s %s %s: %v", g.kind, g.from, g.to, err)
						}
						return
					}
					if acknowledged.Add(1) == limit {
						close(full)
					}
				}
			})
		}
		ended := make(chan struct{})
		go func() { group.Wait(); close(ended) }() // ends with the clients
		select {
		case <-full:
		case <-ended:
			t.Errorf("round %d: every client was refused before the kill", round)
		}
		r.Kill()
		<-ended
	}
}

// noLeftovers looks for locks after all mailboxes were opened: what a killed process left
// was taken away by who met it.
func noLeftovers(t *testing.T, tree string) {
	t.Helper()
	filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // a mailbox that goes
		}
		if d.IsDir() && d.Name() == "..DOVECOT-TRASHED" {
			return filepath.SkipDir // nobody opens what is in it; the next DELETE empties it
		}
		if name := d.Name(); name == "dovecot-uidlist.lock" || name == "dovecot-keywords.lock" {
			t.Errorf("%s was left", path)
		}
		return nil
	})
}
