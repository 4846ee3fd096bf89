package peers

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Dovecot's threads are the standard for REFS, of which there is only a draft: random
// mailboxes, in which messages are missing, come in any order and refer to each other in
// rings, give the same threads in the same order.
func TestThreadsAsDovecot(t *testing.T) {
	h := newHouse(t)
	const boxes = 24
	r := rand.New(rand.NewPCG(5256, 1))
	for box := range boxes {
		for _, sub := range []string{"cur", "new", "tmp"} {
			if err := os.MkdirAll(filepath.Join(h.maildir("ann"), fmt.Sprintf(".T%d", box), sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		n := 2 + r.IntN(40)
		pool := 2 + r.IntN(n+4) // ids, of which some have no message
		when := r.Perm(n)
		ids := r.Perm(pool)
		for i := range n {
			var b strings.Builder
			if i < len(ids) {
				fmt.Fprintf(&b, "Message-ID: <%d@x>\n", ids[i])
			}
			refs := r.IntN(4)
			if refs > 0 {
				b.WriteString("References:")
				for range refs {
					fmt.Fprintf(&b, " <%d@x>", r.IntN(pool))
				}
				b.WriteString("\n")
			}
			if r.IntN(3) == 0 {
				fmt.Fprintf(&b, "In-Reply-To: <%d@x>\n", r.IntN(pool))
			}
			fmt.Fprintf(&b, "Subject: %d\nDate: Mon, 1 Jan 2001 %02d:%02d:00 +0000\n\nx\n", r.IntN(3), when[i]/60, when[i]%60)
			name := fmt.Sprintf("%d.M%dP1.h:2,", 1_000_000_000+i, i)
			if err := os.WriteFile(filepath.Join(h.maildir("ann"), fmt.Sprintf(".T%d", box), "cur", name), []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := h.beside(t, "", "", "")
	for box := range boxes {
		threads := func(c *imapclient.Client) string {
			if _, err := c.Select(fmt.Sprintf("T%d", box), nil).Wait(); err != nil {
				t.Fatal(err)
			}
			data, err := c.Thread(&imapclient.ThreadOptions{Algorithm: "REFS", SearchCriteria: &imap.SearchCriteria{}}).Wait()
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(data)
		}
		if ours, theirs := threads(both.roost), threads(both.dovecot); ours != theirs {
			t.Errorf("mailbox %d:\n%s\nDovecot has\n%s", box, ours, theirs)
		}
	}
}
