package maildir

import (
	"os"
	"strings"
	"testing"
	"time"

	"roost/store"
)

// A batch of more messages than it keeps open is stored in order, and one that is given up
// leaves nothing open.
func TestLargeBatch(t *testing.T) {
	o := openOutside(t, 0, Options{})
	const n = 2*maxUnsynced + 10
	for _, commit := range []bool{true, false} {
		before := openFiles(t)
		b, err := o.a.Batch(t.Context(), store.Inbox)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := b.Add(t.Context(), store.Meta{Time: time.Unix(1_700_000_000, 0)}, strings.NewReader("Subject: x\n\nx\n")); err != nil {
				t.Fatal(err)
			}
		}
		if open := openFiles(t) - before; open > maxUnsynced+5 {
			t.Errorf("%d files are open", open)
		}
		if commit {
			c, err := b.Commit(t.Context())
			if err != nil || len(c.To) != n || c.To[n-1] != c.To[0]+n-1 {
				t.Fatalf("%d UIDs, %v", len(c.To), err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if open := openFiles(t) - before; open > 5 { // logs that stay open
			t.Errorf("%d files stay open", open)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc: ", err)
	}
	return len(list)
}
