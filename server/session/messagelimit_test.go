package session

import (
	"strings"
	"testing"
	"testing/synctest"

	"roost/store"
	"roost/store/memstore"
)

// A client from which MESSAGELIMIT is hidden cannot go on where a command stopped, and so
// meets no limit.
func TestHiddenMessageLimitIsNone(t *testing.T) {
	for _, hide := range []string{"MESSAGELIMIT", "NONE"} {
		synctest.Test(t, func(t *testing.T) {
			st := memstore.New(nil)
			for range 3 {
				st.Seed("ann", store.Inbox, memstore.Seed{Message: "x"})
			}
			p := pipeSession(t, t.Context(), st, Options{
				Limits: Limits{Messages: 2}, Clients: []ClientRule{{Name: "all", Hide: []string{hide}}},
			})
			hidden := hide == "MESSAGELIMIT"
			if said := p.want("l OK"); strings.Contains(said, "MESSAGELIMIT=2") == hidden {
				t.Errorf("%q", said)
			}
			p.send("a SELECT INBOX\r\n")
			p.until("a OK")
			p.send("b SEARCH ALL\r\n")
			if hidden {
				p.want("* SEARCH 1 2 3\r\n")
				p.want("b OK SEARCH")
			} else {
				p.want("* SEARCH 2 3\r\n")
				p.want("b OK [MESSAGELIMIT 2 2]")
			}
			p.conn.Close()
			<-p.done
		})
	}
}
