package session

import (
	"strings"
	"testing"

	"roost/message"
)

// What lies beyond the configured limits is one piece, in FETCH, in APPEND and in
// SEARCH alike.
func TestConfiguredLimitsOfMIME(t *testing.T) {
	nested := "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/x-deep\r\n\r\nneedle\r\n--b--\r\n--a--\r\n"
	for _, c := range []struct {
		name   string
		limits message.Limits
		deep   bool
	}{
		{"default", message.Limits{}, true},
		{"depth", message.Limits{Depth: 1}, false},
		{"parts", message.Limits{Parts: 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, who := mailboxOf(t, []byte(nested))
			p := dialWith(t, st, who, Options{Log: quiet(), Limits: Limits{MIME: c.limits}})
			p.ok("SELECT INBOX")
			found := strings.Contains(strings.Join(p.ok("SEARCH BODY needle"), "\n"), "SEARCH 1")
			if found != c.deep {
				t.Errorf("SEARCH finds the deep part: %v", found)
			}
			p.ok("APPEND INBOX {%d+}\r\n%s", len(nested), nested)
			for _, answer := range p.ok("FETCH 1:* BODYSTRUCTURE") {
				if strings.Contains(answer, "FETCH") && strings.Contains(strings.ToUpper(answer), "X-DEEP") != c.deep {
					t.Errorf("%s", answer)
				}
			}
		})
	}
}
