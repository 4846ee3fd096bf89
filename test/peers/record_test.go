package peers

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"roost/test/neighbour"
)

// record is what a client and the server said to each other.
type record struct {
	*neighbour.Tap
	t    *testing.T
	mark int // what was said before it has been looked at
}

// refusal is an answer that says that the client or the server did something wrong.
var refusal = regexp.MustCompile(`^\S+ (BAD|NO)\b|^\* BAD\b|^\* BYE .*(error|failed)`)

// tap stands between the server and one client. In the end the server must have
// refused nothing but what may match the patterns.
func (h *house) tap(t *testing.T, refused ...string) *record {
	t.Helper()
	tap, err := neighbour.StartTap(h.roost.Addr, filepath.Dir(h.roost.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	r := &record{Tap: tap, t: t}
	t.Cleanup(func() {
		tap.Close()
		asked := map[int]string{}
	lines:
		for _, l := range tap.Lines(0) {
			if l.Client {
				asked[l.Conn] = l.Text
				continue
			}
			if !refusal.MatchString(l.Text) {
				continue
			}
			for _, p := range refused {
				if strings.Contains(l.Text, p) {
					continue lines
				}
			}
			t.Errorf("%q was answered by %q", asked[l.Conn], l.Text)
		}
		if t.Failed() {
			t.Logf("the dialogue:\n%s", r.text(0))
		}
	})
	return r
}

// endpoint gives host and port as the clients' settings want them.
func (r *record) endpoint() (host, port string) {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return "localhost", port
}

// text is the dialogue from a mark on, for a person.
func (r *record) text(since int) string {
	var b strings.Builder
	for _, l := range r.Lines(since) {
		says := '<'
		if l.Client {
			says = '>'
		}
		if len(l.Text) > 300 {
			l.Text = l.Text[:300] + "..."
		}
		fmt.Fprintf(&b, "%s %c%c %s\n", l.At.Format("05.000"), 'A'+(l.Conn-1)%26, says, l.Text)
	}
	return b.String()
}

// next marks what follows as a new stretch of the dialogue.
func (r *record) next() { r.mark = len(r.Lines(0)) }

// said gives the client's lines of this stretch that match.
func (r *record) said(pattern string) (lines []string) {
	want := regexp.MustCompile(pattern)
	for _, l := range r.Lines(r.mark) {
		if l.Client && want.MatchString(l.Text) {
			lines = append(lines, l.Text)
		}
	}
	return lines
}

var selecting = regexp.MustCompile(`(?i)^\S+ (?:SELECT|EXAMINE) "?([^"]*?)"?(?: \(.*)?$`)

// idling waits until the client idles on a mailbox, so that it has to be told what comes.
func (r *record) idling(mailbox string) {
	r.t.Helper()
	for deadline := time.After(patience); ; {
		more := r.More()
		selected, asked := map[int]string{}, map[int]bool{}
		idles := map[int]bool{}
		for _, l := range r.Lines(0) {
			if !l.Client {
				idles[l.Conn] = idles[l.Conn] || asked[l.Conn] && strings.HasPrefix(l.Text, "+")
				continue
			}
			asked[l.Conn], idles[l.Conn] = strings.HasSuffix(strings.ToUpper(l.Text), " IDLE"), false
			if m := selecting.FindStringSubmatch(l.Text); m != nil {
				selected[l.Conn] = m[1]
			}
		}
		for conn, box := range selected {
			if box == mailbox && idles[conn] {
				return
			}
		}
		select {
		case <-more:
		case <-deadline:
			r.t.Fatalf("the client does not idle on %s", mailbox)
		}
	}
}

// await waits until this stretch of the dialogue has a line that matches, of either
// side, and begins the next stretch behind it.
func (r *record) await(pattern string) {
	r.t.Helper()
	want := regexp.MustCompile(pattern)
	for deadline := time.After(patience); ; {
		more := r.More()
		for i, l := range r.Lines(r.mark) {
			if want.MatchString(l.Text) {
				r.mark += i + 1
				return
			}
		}
		select {
		case <-more:
		case <-deadline:
			r.t.Fatalf("nobody said %q", pattern)
		}
	}
}

// moving is what a client says to move something.
const moving = `(?i)^\S+ (APPEND|(UID )?(STORE|COPY|MOVE)|(UID )?FETCH .*(BODY|RFC822(\.TEXT|\.HEADER)?( |\)|$))|EXPUNGE|UID EXPUNGE|CREATE|DELETE|RENAME)`

// quiet fails where this stretch of the dialogue transferred something, or was none.
func (r *record) quiet(when string) {
	r.t.Helper()
	if len(r.said(`.`)) == 0 {
		r.t.Errorf("%s: the client said nothing at all", when)
	}
	for _, l := range r.said(moving) {
		r.t.Errorf("%s: with nothing to do the client said %q", when, l)
	}
}
