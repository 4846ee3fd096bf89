package session

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"roost/store/memstore"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "ab", false}, {"a", "", false}, {"*", "", true}, {"*", "abc", true},
		{"a*", "abc", true}, {"a*", "ba", false}, {"*c", "abc", true}, {"*c", "abcd", false}, {"a*c", "abc", true}, {"a*c", "ac", true},
		{"ab*b", "ab", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"**", "x", true}, {"*ab*ab", "xab", false},
		{"*ab*ab", "abab", true}, {"a*a", "a", false},
	} {
		if got := fits(c.pattern, c.s); got != c.want {
			t.Errorf("%q fits %q: %t", c.pattern, c.s, got)
		}
	}
	if !fitsAny([]string{"x", "iphone MAIL 1*"}, "iPhone Mail 15.4") {
		t.Error("case matters")
	}
}

func TestWhoIsMeant(t *testing.T) {
	is := Client{ID: "Mail 3", User: "ann@example.org", Addr: netip.MustParseAddr("::ffff:192.0.2.7"), ServerName: "old.example.org"}
	net := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, c := range []struct {
		rule ClientRule
		is   Client
		want bool
	}{
		{ClientRule{}, is, true},
		{ClientRule{}, Client{}, true},
		{ClientRule{ID: []string{"Mail*"}, User: []string{"*@example.org"}, Network: net, ServerName: []string{"OLD.*"}}, is, true},
		{ClientRule{ID: []string{"Mail*"}, User: []string{"*@example.net"}}, is, false},
		{ClientRule{ID: []string{"Other", "Mail 3"}}, is, true},
		{ClientRule{ID: []string{"*"}}, Client{}, false}, // it has not told yet
		{ClientRule{User: []string{"*"}}, Client{}, false},
		{ClientRule{ServerName: []string{"*"}}, Client{}, false},
		{ClientRule{Network: net}, Client{}, false},
		{ClientRule{Network: net}, Client{Addr: netip.MustParseAddr("192.0.3.1")}, false},
	} {
		if got := c.rule.means(c.is); got != c.want {
			t.Errorf("%+v means %+v: %t", c.rule, c.is, got)
		}
	}
	for pairs, want := range map[string]string{"": "", "version|3|NAME|Mail": "Mail 3", "name|Mail": "Mail", "version|3": "3", "os|x": "", "name": ""} {
		if got := ClientName(strings.Split(pairs, "|")); got != want {
			t.Errorf("%q is %q", pairs, got)
		}
	}
}

// A client that something is hidden from: nowhere is it told, nor enabled.
func TestHiding(t *testing.T) {
	rules := []ClientRule{
		{Name: "phones", ID: []string{"Phone 1*"}, Hide: []string{"compress=deflate", "QRESYNC", "THREAD", "APPENDLIMIT", "UTF8=ACCEPT"}},
		{Name: "proxies", Hide: []string{"UNAUTHENTICATE"}},
	}
	var seen []Activity
	synctest.Test(t, func(t *testing.T) {
		p := pipeSession(t, t.Context(), memstore.New(nil), Options{Clients: rules, Notice: func(_ string, a Activity) { seen = append(seen, a) }})
		said := strings.Fields(p.want("l OK [CAPABILITY "))
		has := func(name string) bool {
			return slices.ContainsFunc(said, func(s string) bool { return s == name || strings.HasPrefix(s, name+"=") })
		}
		if !has("COMPRESS") || !has("THREAD") || has("UNAUTHENTICATE") {
			t.Errorf("%q", said)
		}
		p.send("a UNAUTHENTICATE\r\n")
		p.want("a BAD Unknown command")
		p.send("b ID (\"name\" \"Phone\" \"version\" \"12.3\")\r\n")
		p.until("* ID")
		said = strings.Fields(p.want("b OK [CAPABILITY "))
		for _, name := range []string{"COMPRESS", "QRESYNC", "THREAD", "APPENDLIMIT", "UTF8", "UNAUTHENTICATE"} {
			if has(name) {
				t.Errorf("%s is told", name)
			}
		}
		if !has("CONDSTORE") || !has("SORT") || !has("ENABLE") {
			t.Errorf("%q", said)
		}
		p.send("c CAPABILITY\r\n")
		if again := p.want("* CAPABILITY "); strings.Contains(again, "QRESYNC") {
			t.Errorf("%q", again)
		}
		p.want("c OK")
		p.send("d ENABLE QRESYNC UTF8=ACCEPT CONDSTORE\r\n")
		p.want("* ENABLED CONDSTORE\r\n")
		p.until("d OK")
		// The same again is no news; another is.
		p.send("e ID (\"name\" \"Phone\" \"version\" \"12.4\")\r\n")
		p.until("* ID")
		p.want("e OK ID completed")
		p.send("f ID (\"name\" \"Phone\" \"version\" \"2\")\r\n")
		p.until("* ID")
		if line := p.want("f OK [CAPABILITY "); !strings.Contains(line, " QRESYNC ") {
			t.Errorf("%q", line)
		}
		// What is hidden is understood all the same.
		p.send("g ID (\"name\" \"Phone\" \"version\" \"12.3\")\r\n")
		p.until("g OK")
		p.send("h COMPRESS DEFLATE\r\n")
		p.want("h OK")
		p.conn.Close()
		<-p.done
	})
	if len(seen) < 3 || seen[0].Rules != "proxies" || seen[1].Rules != "phones, proxies" {
		t.Errorf("%+v", seen)
	}
}

// What was told before the login counts too.
func TestHidingFromWhatIsKnownAtLogin(t *testing.T) {
	h := HidingFrom([]ClientRule{{Name: "x", User: []string{"ann"}, ID: []string{"Mail*"}, Hide: []string{"IDLE"}}}, Client{ID: "Mail 1"})
	if h != nil {
		t.Errorf("%+v before the login", h)
	}
	s := newSession(nil, &Login{Client: "Mail 1"}, &Options{Clients: []ClientRule{{ID: []string{"Mail*"}, Hide: []string{"IDLE"}}}})
	if strings.Contains(s.capabilities(), "IDLE") || !strings.Contains(s.capabilities(), "MOVE") {
		t.Error(s.capabilities())
	}
	before := BeforeLogin{Mechanisms: []string{"PLAIN", "LOGIN"}, Hiding: HidingFrom([]ClientRule{{Hide: []string{"IDLE", "AUTH=LOGIN"}}}, Client{})}
	if got := before.Capabilities(); got != "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE AUTH=PLAIN" {
		t.Error(got)
	}
}
