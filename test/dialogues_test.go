package test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/maildir"
	"roost/server/session"
	"roost/store"
	"roost/test/stage"
	"roost/test/talk"
)

// errOnlyModel ends a dialogue at a hook that a Maildir has nothing like.
var errOnlyModel = errors.New("only the model can")

// The dialogues of the protocol, which its own tests play on the model, on a Maildir:
// clients see no difference.
func TestDialoguesOnMaildir(t *testing.T) {
	files, err := filepath.Glob("../server/session/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(t.TempDir(), "Maildir")
			log := slog.New(slog.DiscardHandler)
			clock := func() time.Time { return time.Unix(1_700_000_000, 0).UTC() }
			st, err := maildir.New(maildir.Options{Log: log, Clock: clock})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := st.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{
				Mail: root, Layout: store.LayoutMaildirPP, Escape: store.EscapeBackslash, Create: true,
			}}}
			opt := session.Options{Log: log, Limits: session.Limits{AppendBytes: 5000, CommandBytes: 100_000}, Shared: stage.Shared}
			opt.Limits.Messages, opt.Limits.Saved = stage.MessageLimits(f)
			s := stage.New(t, st, who, func(ctx context.Context, conn net.Conn, who store.Identity) {
				if _, err := session.Serve(ctx, conn, &session.Login{Who: who, Tag: "l"}, st, &opt); err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
			hooks := s.Hooks()
			for _, name := range []string{"forget", "nomodseq"} {
				hooks[name] = func([]string) error { return errOnlyModel }
			}
			script, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			transcript, err := talk.Play(string(script), talk.Options{Dial: s.Dial, Greeting: true, Hooks: hooks})
			if err != nil && !errors.Is(err, errOnlyModel) {
				t.Fatalf("%v\n--- transcript ---\n%s", err, transcript)
			}
		})
	}
}
