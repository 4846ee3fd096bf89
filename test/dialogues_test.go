package test

import (
	"context"
	"log/slog"
	"net"
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
			opt := session.Options{Log: log, Limits: session.Limits{AppendBytes: 5000, CommandBytes: 100_000}}
			s := stage.New(t, st, who, func(ctx context.Context, conn net.Conn, who store.Identity) {
				if _, err := session.Serve(ctx, conn, &session.Login{Who: who, Tag: "l"}, st, &opt); err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
			talk.RunFile(t, f, talk.Options{Dial: s.Dial, Greeting: true, Hooks: s.Hooks()})
		})
	}
}
