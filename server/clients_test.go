package server

import (
	"net/netip"
	"testing"

	"roost/server/session"
	"roost/test/talk"
)

// What is hidden before the login, and what the session is told of who the client is.
func TestHidingBeforeLogin(t *testing.T) {
	g := newTestGate(t, gateLimits{})
	g.arrival.addr = netip.MustParseAddr("192.0.2.7")
	g.clients = []session.ClientRule{
		{Network: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Hide: []string{"IMAP4rev2", "AUTH=LOGIN"}},
		{ID: []string{"Mail 1"}, Hide: []string{"SASL-IR"}},
		{User: []string{"*"}, Hide: []string{"LITERAL+"}},
	}
	talk.Run(t, `
A< * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=PLAIN] ...
A> a1 ID NIL
A< * ID ...
A< a1 OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=PLAIN] ...
A> a2 ID ("version" "1" "os" "x" "name" "Mail")
A< * ID ...
A< a2 OK [CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE IDLE AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=PLAIN] ...
A> a3 CAPABILITY
A< * CAPABILITY IMAP4rev1 LITERAL+ ID ENABLE IDLE AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=PLAIN
A> a4 AUTHENTICATE LOGIN
A< + VXNlcm5hbWU6
A> *
A< a4 BAD ...
A> a5 LOGIN ann secret
A> a6 ID ("name" "Other" "version" "2")
A< * ID ...
A> a7 UNAUTHENTICATE
A> a8 CAPABILITY
A< * CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=PLAIN
A> a9 LOGIN ann secret`, talk.Options{Dial: g.dial, Greeting: true})
	if len(g.logged) != 2 || g.logged[0].Client != "Mail 1" || g.logged[1].Client != "Other 2" {
		t.Errorf("%+v", g.logged)
	}
}
