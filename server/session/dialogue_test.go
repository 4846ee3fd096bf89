package session

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/store"
	"roost/store/memstore"
	"roost/test/stage"
	"roost/test/talk"
)

// bench is a stage on the model, for those who look behind it.
type bench struct {
	*stage.Stage
	mem *memstore.Store
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// newBench serves sessions on loopback until the test ends, and waits for them then.
func newBench(t testing.TB, opt Options) *bench {
	t.Helper()
	if opt.Log == nil {
		opt.Log = quiet()
	}
	opt.Shared = stage.Shared
	mem := memstore.New(func() time.Time { return time.Unix(1_700_000_000, 0).UTC() })
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}}
	return &bench{mem: mem, Stage: stage.New(t, mem, who, func(ctx context.Context, conn net.Conn, who store.Identity) {
		if _, err := Serve(ctx, conn, &Login{Who: who, Tag: "l"}, mem, &opt); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})}
}

// limitsOf are those with which a file of dialogues is played.
func limitsOf(file string) Limits {
	l := Limits{AppendBytes: 5000, CommandBytes: 100_000}
	l.Messages, l.Saved = stage.MessageLimits(file)
	return l
}

func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, Options{Limits: limitsOf(f)})
			hooks := b.Hooks()
			// forget MAILBOX: when its messages were expunged
			hooks["forget"] = func(args []string) error { b.mem.Forget("ann", store.Name(args[0])); return nil }
			// nomodseq MAILBOX: has no MODSEQs, for those who open it from now on
			hooks["nomodseq"] = func(args []string) error { b.mem.NoModSeq("ann", store.Name(args[0])); return nil }
			talk.RunFile(t, f, talk.Options{Dial: b.Dial, Greeting: true, Hooks: hooks})
		})
	}
}
