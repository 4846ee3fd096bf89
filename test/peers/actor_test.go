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
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
	"roost/test/witness"
)

// letter is what one message of the test is known to be: by the client that owns it.
type letter struct {
	id     string
	flags  map[imap.Flag]bool
	pinned bool            // never moved or expunged: others set keywords on it
	been   map[string]bool // mailboxes that its file's name has been in
}

// mayGo reports whether a client of Dovecot may move or copy a message to a mailbox.
// Dovecot keeps the file's name where it can. When the name comes back to where it has
// been, Dovecot takes it for the expunged message that still has a line in the uidlist
// and changes the UID that it gave a moment ago, with nobody else about.
func (a *actor) mayGo(l *letter, to string) bool { return a.server != "Dovecot" || !l.been[to] }

// at is where a message lies.
type at struct {
	box string
	uid imap.UID
}

// pinboard lists the messages on which everybody may set their own keyword.
type pinboard struct {
	mu   sync.Mutex // guards both
	list []at
	set  map[at]map[imap.Flag]bool // what was acknowledged
}

func (p *pinboard) add(a at) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, a)
	p.set[a] = map[imap.Flag]bool{}
}

func (p *pinboard) any(rng *rand.Rand) (at, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) == 0 {
		return at{}, false
	}
	return p.list[rng.IntN(len(p.list))], true
}

func (p *pinboard) note(a at, f imap.Flag, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set[a][f] = on
}

// actor is one client, the messages that it alone moves and removes, and the
// mailboxes that it alone makes.
type actor struct {
	id      int
	server  string
	c       *imapclient.Client
	rng     *rand.Rand
	ledger  *witness.Ledger
	pins    *pinboard
	tree    string
	valid   map[string]uint32
	mine    map[at]*letter
	deliver []*delivered
	subs    map[string]bool
	next    int
	folders int
	box     string // selected
}

// delivered is a message that this actor put into new/, as an MTA does.
type delivered struct {
	box string
	*letter
}

func (a *actor) who() string        { return fmt.Sprintf("%s client %d", a.server, a.id) }
func (a *actor) keyword() imap.Flag { return imap.Flag(fmt.Sprintf("Key%d", a.id)) }
func (a *actor) any() string        { return sharedBoxes[a.rng.IntN(len(sharedBoxes))] }

func (a *actor) letter(box string) (*letter, string) {
	a.next++
	l := &letter{id: fmt.Sprintf("<%d-%d@together>", a.id, a.next), flags: map[imap.Flag]bool{}, pinned: a.next%4 == 0, been: map[string]bool{box: true}}
	return l, fmt.Sprintf("From: a@example.org\r\nMessage-ID: %s\r\nSubject: %d\r\n\r\nBody %d of %d.\r\n", l.id, a.next, a.next, a.id)
}

// pick is one of the own messages; with loose one that may go.
func (a *actor) pick(loose bool) (at, *letter, bool) {
	keys := slices.SortedFunc(maps.Keys(a.mine), func(x, y at) int {
		if x.box != y.box {
			return strings.Compare(x.box, y.box)
		}
		return int(x.uid) - int(y.uid)
	})
	keys = slices.DeleteFunc(keys, func(k at) bool { return loose && a.mine[k].pinned })
	if len(keys) == 0 {
		return at{}, nil, false
	}
	k := keys[a.rng.IntN(len(keys))]
	return k, a.mine[k], true
}

func (a *actor) own(where at, l *letter) {
	a.mine[where] = l
	if !slices.Contains(sharedBoxes, where.box) {
		return
	}
	a.ledger.Given(a.who(), a.key(where), "Message-ID: "+l.id)
	if l.pinned {
		a.pins.add(where)
	}
}

func (a *actor) select_(box string) error {
	if a.box == box {
		return nil
	}
	a.box = ""
	data, err := a.c.Select(box, nil).Wait()
	if err != nil {
		return err
	}
	a.box = box
	a.ledger.Opened(a.who(), box, data.UIDValidity)
	a.valid[box] = data.UIDValidity
	return nil
}

// step does one thing that a user does.
func (a *actor) step() error {
	switch n := a.rng.IntN(100); {
	case n < 22:
		return a.append(a.any())
	case n < 34:
		return a.asMTA(a.any())
	case n < 40:
		return a.find()
	case n < 56:
		return a.flag()
	case n < 66:
		return a.keywordOnAnother()
	case n < 74:
		return a.copy()
	case n < 84:
		return a.move()
	case n < 92:
		return a.expunge()
	case n < 97:
		return a.folder()
	default:
		return a.c.Noop().Wait()
	}
}

func (a *actor) append(box string) error {
	l, text := a.letter(box)
	flags := []imap.Flag{}
	for _, f := range []imap.Flag{imap.FlagSeen, imap.FlagDraft, "Appended"} {
		if a.rng.IntN(3) == 0 {
			flags = append(flags, f)
			l.flags[f] = true
		}
	}
	cmd := a.c.Append(box, int64(len(text)), &imap.AppendOptions{Flags: flags})
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
	a.own(at{box, data.UID}, l)
	return nil
}

// directory is where a mailbox lies.
func (a *actor) directory(box string) string {
	if box == "INBOX" {
		return a.tree
	}
	return filepath.Join(a.tree, "."+strings.ReplaceAll(box, "/", "."))
}

func (a *actor) asMTA(box string) error {
	l, text := a.letter(box)
	if err := drop(a.directory(box), fmt.Sprintf("%d.M%dP%d.mta", time.Now().Unix(), a.next, a.id), text); err != nil {
		return err
	}
	a.deliver = append(a.deliver, &delivered{box, l})
	return nil
}

// drop delivers into a mailbox directory as Postfix does.
func drop(dir, name, text string) error {
	tmp := filepath.Join(dir, "tmp", name)
	if err := os.WriteFile(tmp, []byte(strings.ReplaceAll(text, "\r\n", "\n")), 0o600); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := os.Chown(tmp, neighbour.MailUID, neighbour.MailGID); err != nil {
			return err
		}
	}
	if err := os.Link(tmp, filepath.Join(dir, "new", name)); err != nil {
		return err
	}
	return os.Remove(tmp)
}

// find learns the UIDs of messages that were delivered.
func (a *actor) find() error {
	deadline := time.Now().Add(patience)
	for len(a.deliver) > 0 {
		d := a.deliver[0]
		if err := a.select_(d.box); err != nil {
			return err
		}
		if err := a.c.Noop().Wait(); err != nil {
			return err
		}
		data, err := a.c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: d.id}}}, nil).Wait()
		if err != nil {
			return err
		}
		uids := data.AllUIDs()
		if len(uids) == 0 && time.Now().Before(deadline) {
			// it was delivered a moment ago
			continue
		}
		if len(uids) != 1 {
			return fmt.Errorf("%s was delivered to %s and is there %d times", d.id, d.box, len(uids))
		}
		a.own(at{d.box, uids[0]}, d.letter)
		a.deliver = a.deliver[1:]
	}
	return nil
}

func (a *actor) store(uid imap.UID, f imap.Flag, on bool) error {
	a.ledger.Note(a.who(), a.key(at{a.box, uid}), fmt.Sprintf("sets %s %t", f, on))
	op := imap.StoreFlagsAdd
	if !on {
		op = imap.StoreFlagsDel
	}
	return a.c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: op, Flags: []imap.Flag{f}, Silent: a.rng.IntN(2) == 0}, nil).Close()
}

func (a *actor) flag() error {
	where, l, ok := a.pick(false)
	if !ok {
		return nil
	}
	if err := a.select_(where.box); err != nil {
		return err
	}
	f := []imap.Flag{imap.FlagSeen, imap.FlagFlagged, imap.FlagAnswered, "Own", "$Forwarded"}[a.rng.IntN(5)]
	on := !l.flags[f]
	if err := a.store(where.uid, f, on); err != nil {
		return err
	}
	l.flags[f] = on
	return nil
}

func (a *actor) keywordOnAnother() error {
	where, ok := a.pins.any(a.rng)
	if !ok {
		return nil
	}
	if err := a.select_(where.box); err != nil {
		return err
	}
	if err := a.c.Noop().Wait(); err != nil { // so that it is known here
		return err
	}
	on := a.rng.IntN(3) > 0
	if err := a.store(where.uid, a.keyword(), on); err != nil {
		return err
	}
	a.pins.note(where, a.keyword(), on)
	return nil
}

func (a *actor) copy() error {
	where, l, ok := a.pick(false)
	if !ok {
		return nil
	}
	if err := a.select_(where.box); err != nil {
		return err
	}
	to := a.any()
	if !a.mayGo(l, to) {
		return nil
	}
	l.been[to] = true // of both: the copy is known by the first one's name
	data, err := a.c.Copy(imap.UIDSetNum(where.uid), to).Wait()
	if err != nil {
		return err
	}
	uids, _ := data.DestUIDs.Nums()
	if len(uids) != 1 {
		return fmt.Errorf("COPY of UID %d of %s gave the UIDs %v", where.uid, where.box, uids)
	}
	a.own(at{to, uids[0]}, &letter{id: l.id, flags: maps.Clone(l.flags), been: l.been})
	return nil
}

func (a *actor) key(where at) witness.Key {
	return witness.Key{Mailbox: where.box, Validity: a.valid[where.box], UID: uint32(where.uid)}
}

func (a *actor) doom(where at) {
	a.ledger.Doom(a.who(), a.key(where))
}

func (a *actor) move() error {
	where, l, ok := a.pick(true)
	if !ok {
		return nil
	}
	if err := a.select_(where.box); err != nil {
		return err
	}
	to := a.any()
	if to == where.box || !a.mayGo(l, to) {
		return nil
	}
	l.been[to] = true
	a.doom(where)
	data, err := a.c.Move(imap.UIDSetNum(where.uid), to).Wait()
	if err != nil {
		return err
	}
	set, _ := data.DestUIDs.(imap.UIDSet)
	uids, _ := set.Nums()
	if len(uids) != 1 {
		return fmt.Errorf("MOVE of UID %d of %s gave the UIDs %v", where.uid, where.box, uids)
	}
	delete(a.mine, where)
	a.own(at{to, uids[0]}, l)
	return nil
}

func (a *actor) expunge() error {
	where, _, ok := a.pick(true)
	if !ok {
		return nil
	}
	if err := a.select_(where.box); err != nil {
		return err
	}
	a.doom(where)
	if err := a.store(where.uid, imap.FlagDeleted, true); err != nil {
		return err
	}
	if err := a.c.UIDExpunge(imap.UIDSetNum(where.uid)).Close(); err != nil {
		return err
	}
	delete(a.mine, where)
	return nil
}

// folder is the life of a mailbox with a child: made, filled, renamed, deleted.
func (a *actor) folder() error {
	a.folders++
	name, other := fmt.Sprintf("Made%d-%d", a.id, a.folders), fmt.Sprintf("Named%d-%d", a.id, a.folders)
	for _, n := range []string{name, name + "/Child"} {
		err := a.c.Create(n, nil).Wait()
		if err != nil && a.server == "Dovecot" {
			// Two sessions of Dovecot alone do that to each other: the one that makes a
			// mailbox looks at all others, one of which another session just makes or deletes.
			if err = a.c.Create(n, nil).Wait(); err != nil && strings.Contains(err.Error(), "ALREADYEXISTS") {
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("CREATE %s: %w", n, err)
		}
	}
	for _, n := range []string{name, name + "/Child"} {
		if err := a.c.Subscribe(n).Wait(); err != nil {
			return fmt.Errorf("SUBSCRIBE %s: %w", n, err)
		}
	}
	mine := maps.Clone(a.mine)
	defer func() { a.mine = mine }()
	if err := a.append(name + "/Child"); err != nil {
		return err
	}
	if err := a.select_(name + "/Child"); err != nil {
		return err
	}
	validity := a.valid[a.box]
	if err := a.c.Unselect().Wait(); err != nil {
		return err
	}
	a.box = ""
	if err := a.c.Rename(name, other, nil).Wait(); err != nil {
		return fmt.Errorf("RENAME %s %s: %w", name, other, err)
	}
	data, err := a.c.Select(other+"/Child", nil).Wait()
	if err != nil {
		return err
	}
	if data.UIDValidity != validity || data.NumMessages != 1 {
		return fmt.Errorf("after RENAME %s has UIDVALIDITY %d and %d messages, not %d and 1", other+"/Child", data.UIDValidity, data.NumMessages, validity)
	}
	if err := a.c.Unselect().Wait(); err != nil {
		return err
	}
	// RENAME takes subscriptions along in Roost, not in Dovecot.
	for _, n := range []string{name, name + "/Child"} {
		if err := a.c.Unsubscribe(n).Wait(); err != nil {
			return err
		}
	}
	if err := a.c.Subscribe(other + "/Child").Wait(); err != nil {
		return err
	}
	if a.rng.IntN(2) == 0 {
		a.subs[other+"/Child"] = true
		return a.c.Unsubscribe(other).Wait()
	}
	for _, n := range []string{other, other + "/Child"} {
		if err := a.c.Unsubscribe(n).Wait(); err != nil {
			return err
		}
		if err := a.c.Delete(n).Wait(); err != nil {
			return err
		}
	}
	return nil
}
