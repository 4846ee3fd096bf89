// Package stage is where dialogues (package talk) are played: sessions on loopback for
// one user, ann, over any store, and the hooks that dialogues call. It knows store and
// no implementation, so that the same dialogues run on the model and on the storage.
package stage

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Shared is what the servers of dialogues tell all users (RFC 5464 section 3.2.1.1).
var Shared = []store.Annotation{
	{Entry: "/shared/admin", Value: []byte("mailto:postmaster@example.org")},
	{Entry: "/shared/comment", Value: []byte("A server to try things on")},
	{Entry: "/shared/filters/values/fresh", Value: []byte("UNSEEN UNANSWERED")},
	{Entry: "/shared/filters/values/small", Value: []byte("SMALLER 1")},
}

// Stage serves connections until its test ends. Safe for concurrent use.
type Stage struct {
	st   store.Store
	addr string
	wg   sync.WaitGroup

	mu  sync.Mutex // guards who, which hooks change for the clients that follow
	who store.Identity
}

// New serves on a port of the kernel's. serve carries one session to its end; the
// connection is closed then. who is what ann is at first.
func New(t testing.TB, st store.Store, who store.Identity, serve func(ctx context.Context, conn net.Conn, who store.Identity)) *Stage {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Stage{st: st, addr: l.Addr().String(), who: who}
	ctx, cancel := context.WithCancel(context.Background())
	s.wg.Go(func() { // ends when the listener closes
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { // ends with the session
				defer conn.Close()
				serve(ctx, conn, s.Identity(nil))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		s.wg.Wait()
	})
	return s
}

// Dial opens a connection; the name is the client's in a dialogue.
func (s *Stage) Dial(string) (net.Conn, error) { return net.Dial("tcp", s.addr) }

// Identity is a copy of what ann is now, after change, which may be nil.
func (s *Stage) Identity(change func(*store.Identity)) store.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if change != nil {
		change(&s.who)
	}
	who := s.who
	who.Roots = slices.Clone(who.Roots)
	for i := range who.Roots {
		who.Roots[i].Folders = slices.Clone(who.Roots[i].Folders)
	}
	return who
}

// Hooks are what dialogues can do beside talking.
func (s *Stage) Hooks() map[string]func([]string) error {
	return map[string]func([]string) error{
		// seed MAILBOX COUNT [FLAG...]: messages of 3 lines; the mailbox is made where it is missing
		"seed": func(args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			var flags []imap.Flag
			for _, f := range args[2:] {
				flags = append(flags, imap.Flag(f))
			}
			var list []string
			for i := range n {
				list = append(list, fmt.Sprintf("Subject: %d\r\n\r\nHello\r\n", i+1))
			}
			return s.deliver(store.Name(args[0]), flags, list...)
		},
		// message MAILBOX TEXT: one message; \n in the text ends a line
		"message": func(args []string) error {
			return s.deliver(store.Name(args[0]), nil, strings.ReplaceAll(args[1], `\n`, "\r\n"))
		},
		// prefix PREFIX [OLD]: of the personal namespace, and one that clients may write in
		// its place, for the clients that follow; they end with the separator
		"prefix": func(args []string) error {
			s.Identity(func(who *store.Identity) {
				who.Roots[0].Prefix, who.Roots[0].OldPrefix = args[0], strings.Join(args[1:], "")
				last := args[len(args)-1]
				who.Separator = last[len(last)-1]
			})
			return nil
		},
		// use MAILBOX USE: a special-use folder of the configuration, for the clients that follow
		"use": func(args []string) error {
			s.Identity(func(who *store.Identity) {
				who.Roots[0].Create = true
				who.Roots[0].Folders = append(who.Roots[0].Folders,
					store.Folder{Name: store.Name(args[0]), Use: args[1], Create: true})
			})
			return nil
		},
		// next: ends a set of expected lines
		"next": func([]string) error { return nil },
		// quota BYTES: for the clients that follow
		"quota": func(args []string) error {
			n, err := strconv.ParseInt(args[0], 10, 64)
			s.Identity(func(who *store.Identity) { who.Quota.Bytes = n })
			return err
		},
	}
}

// deliver adds messages to a mailbox by a session of its own.
func (s *Stage) deliver(n store.Name, flags []imap.Flag, messages ...string) error {
	ctx := context.Background()
	a, err := s.st.Account(ctx, s.Identity(func(*store.Identity) {}))
	if err != nil {
		return err
	}
	defer a.Close()
	if _, err := a.Status(ctx, n, false); err != nil {
		if err := a.Create(ctx, n, nil); err != nil {
			return err
		}
	}
	b, err := a.Batch(ctx, n)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, m := range messages {
		if err := b.Add(ctx, store.Meta{Flags: flags}, strings.NewReader(m)); err != nil {
			return err
		}
	}
	_, err = b.Commit(ctx)
	return err
}

// MessageLimits are those of RFC 9738 with which a file of dialogues is played, by its name.
func MessageLimits(file string) (messages, saved int) {
	switch filepath.Base(file) {
	case "messagelimit.txt":
		return 3, 0
	case "savelimit.txt":
		return 0, 3
	}
	return 0, 0
}
