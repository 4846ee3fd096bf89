package memstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"roost/store"

	"github.com/emersion/go-imap/v2"
)

// Store is a store.Store in memory.
type Store struct {
	clock store.Clock

	mu      sync.Mutex // guards all below, and all that the accounts and holds share
	users   map[string]*user
	lastID  int
	pending []func() // wakes to call when mu is free
}

// user is what all accounts of one user share.
type user struct {
	sep          byte
	boxes        map[store.Name]*box
	subs         map[store.Name]bool
	watching     map[*watch]struct{}
	lastValidity uint32
	bytes        int64 // of all messages
	messages     int64
	annotations  []store.Annotation
	annotated    map[*annotationWatch]struct{}
}

// New makes an empty store. Its times come from clock, which may be nil for the
// clock of the machine.
func New(clock store.Clock) *Store {
	if clock == nil {
		clock = time.Now
	}
	return &Store{clock: clock, users: map[string]*user{}}
}

// unlock gives mu back and then calls the wakes that piled up: they may call in.
func (s *Store) unlock() {
	wakes := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, wake := range wakes {
		wake()
	}
}

// Account implements store.Store.
func (s *Store) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	u := s.userLocked(who.User, who.Sep())
	a := &account{s: s, u: u, sep: who.Sep(), quota: who.Quota, use: map[store.Name]imap.MailboxAttr{}}
	for _, root := range who.Roots {
		for _, f := range root.Folders {
			name := f.Name.Canonical(a.sep)
			if f.Use != "" {
				a.use[name] = imap.MailboxAttr(f.Use)
			}
			if !root.Create || !f.Create || u.boxes[name] != nil {
				continue
			}
			if err := a.createLocked(name, nil); err != nil {
				return nil, fmt.Errorf("make %q: %w: %w", name, err, store.ErrUnavailable)
			}
			if f.Subscribe {
				u.subs[name] = true
			}
		}
	}
	return a, nil
}

// Close implements store.Store. What was in the store stays there, so that a
// test can open it again.
func (s *Store) Close(context.Context) error { return nil }

// userLocked finds or makes a user, with an INBOX.
func (s *Store) userLocked(name string, sep byte) *user {
	u := s.users[name]
	if u == nil {
		u = &user{sep: sep, boxes: map[store.Name]*box{}, subs: map[store.Name]bool{}, watching: map[*watch]struct{}{}}
		s.users[name] = u
		u.boxes[store.Inbox] = s.newBox(u, store.Inbox)
	}
	return u
}

// A Seed is a message for Store.Seed. Line ends are mended to CRLF.
type Seed struct {
	Message string
	Flags   []imap.Flag
	Time    time.Time // INTERNALDATE; zero: now
}

// Forget lets a mailbox forget when its messages were expunged: Vanished answers for
// what comes after only.
func (s *Store) Forget(username string, n store.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.users[username].boxes[n]
	b.forgot = b.newest().ModSeq
}

// NoModSeq makes a mailbox one whose MODSEQs are no history, for those who open it
// from now on.
func (s *Store) NoModSeq(username string, n store.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[username].boxes[n].noModSeq = true
}

// Seed adds messages to a mailbox and returns their UIDs; user and mailbox are
// made where they are missing. It panics where a test made a mistake.
func (s *Store) Seed(username string, n store.Name, messages ...Seed) []imap.UID {
	ctx := context.Background()
	a, err := s.Account(ctx, store.Identity{User: username, Login: username})
	if err != nil {
		panic(err)
	}
	defer a.Close()
	if err := a.Create(ctx, n, nil); err != nil && !isExists(err) {
		panic(err)
	}
	b, err := a.Batch(ctx, n)
	if err != nil {
		panic(err)
	}
	defer b.Close()
	for _, m := range messages {
		if err := b.Add(ctx, store.Meta{Flags: m.Flags, Time: m.Time}, strings.NewReader(m.Message)); err != nil {
			panic(err)
		}
	}
	c, err := b.Commit(ctx)
	if err != nil {
		panic(err)
	}
	return c.To
}

// SkipTo raises UIDNEXT of a mailbox: a store counts on, rather than give a UID twice
// that it may have shown before it was killed.
func (s *Store) SkipTo(username string, n store.Name, next imap.UID) {
	s.mu.Lock()
	defer s.unlock()
	b := s.users[username].boxes[n]
	if b == nil || b.newest().UIDNext >= next {
		return
	}
	v := b.next()
	v.UIDNext = next
	b.publish(v)
}
