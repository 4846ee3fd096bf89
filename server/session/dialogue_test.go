package session

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"roost/store"
	"roost/store/memstore"
	"roost/test/talk"
)

// bench is a server of sessions without login: each connection is ann's.
type bench struct {
	mem  *memstore.Store
	opt  Options
	addr string
	wg   sync.WaitGroup

	mu  sync.Mutex // guards who, which hooks change for the clients that follow
	who store.Identity
}

// identity is a copy: sessions and hooks run side by side.
func (b *bench) identity(change func(*store.Identity)) store.Identity {
	b.mu.Lock()
	defer b.mu.Unlock()
	if change != nil {
		change(&b.who)
	}
	who := b.who
	who.Roots = slices.Clone(who.Roots)
	for i := range who.Roots {
		who.Roots[i].Folders = slices.Clone(who.Roots[i].Folders)
	}
	return who
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// newBench serves sessions on loopback until the test ends, and waits for them then.
func newBench(t testing.TB, opt Options) *bench {
	t.Helper()
	clock := func() time.Time { return time.Unix(1_700_000_000, 0).UTC() }
	b := &bench{
		mem: memstore.New(clock),
		who: store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}},
		opt: opt,
	}
	if b.opt.Log == nil {
		b.opt.Log = quiet()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	b.wg.Go(func() { // ends when the listener closes
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { // ends with the session
				defer conn.Close()
				if _, err := Serve(ctx, conn, &Login{Who: b.identity(nil), Tag: "l"}, b.mem, &b.opt); err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		b.wg.Wait()
	})
	return b
}

func (b *bench) dial(string) (net.Conn, error) { return net.Dial("tcp", b.addr) }

// hooks are what dialogues can do beside talking.
func (b *bench) hooks() map[string]func([]string) error {
	return map[string]func([]string) error{
		// seed MAILBOX COUNT [FLAG...]: messages of 3 lines
		"seed": func(args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			var flags []imap.Flag
			for _, f := range args[2:] {
				flags = append(flags, imap.Flag(f))
			}
			var list []memstore.Seed
			for i := range n {
				list = append(list, memstore.Seed{Message: fmt.Sprintf("Subject: %d\r\n\r\nHello\r\n", i+1), Flags: flags})
			}
			b.mem.Seed("ann", store.Name(args[0]), list...)
			return nil
		},
		// message MAILBOX TEXT: one message; \n in the text ends a line
		"message": func(args []string) error {
			b.mem.Seed("ann", store.Name(args[0]), memstore.Seed{Message: strings.ReplaceAll(args[1], `\n`, "\r\n")})
			return nil
		},
		// prefix PREFIX [OLD]: of the personal namespace, and one that clients may write in
		// its place, for the clients that follow
		"prefix": func(args []string) error {
			b.identity(func(who *store.Identity) {
				who.Separator, who.Roots = '.', []store.Root{{Prefix: args[0], OldPrefix: strings.Join(args[1:], "")}}
			})
			return nil
		},
		// use MAILBOX USE: a special-use folder of the configuration, for the clients that follow
		"use": func(args []string) error {
			b.identity(func(who *store.Identity) {
				who.Roots[0].Create = true
				who.Roots[0].Folders = append(who.Roots[0].Folders,
					store.Folder{Name: store.Name(args[0]), Use: args[1], Create: true})
			})
			return nil
		},
		// forget MAILBOX: when its messages were expunged
		"forget": func(args []string) error { b.mem.Forget("ann", store.Name(args[0])); return nil },
		// nomodseq MAILBOX: has no MODSEQs, for those who open it from now on
		"nomodseq": func(args []string) error { b.mem.NoModSeq("ann", store.Name(args[0])); return nil },
		// next: ends a set of expected lines
		"next": func([]string) error { return nil },
		// quota BYTES: for the clients that follow
		"quota": func(args []string) error {
			n, err := strconv.ParseInt(args[0], 10, 64)
			b.identity(func(who *store.Identity) { who.Quota.Bytes = n })
			return err
		},
	}
}

func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Options{Limits: Limits{AppendBytes: 5000, CommandBytes: 100_000}})
			talk.RunFile(t, f, talk.Options{Dial: b.dial, Greeting: true, Hooks: b.hooks()})
		})
	}
}
