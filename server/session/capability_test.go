package session

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What is said before login. RFC 9051 section 6.1.1: STARTTLS and LOGINDISABLED
// only where they are so; RFC 7888 section 5: never both kinds of literals.
func TestCapabilitiesBeforeLogin(t *testing.T) {
	plain := BeforeLogin{StartTLS: true, LoginDisabled: true}.Capabilities()
	if want := "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE STARTTLS LOGINDISABLED"; plain != want {
		t.Errorf("got %q, want %q", plain, want)
	}
	secure := BeforeLogin{Mechanisms: []string{"PLAIN", "LOGIN"}}.Capabilities()
	if want := "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN"; secure != want {
		t.Errorf("got %q, want %q", secure, want)
	}
	after := strings.Fields((&session{login: &Login{}, opt: new(Options).WithDefaults()}).capabilities())
	for _, c := range after {
		if c == "LITERAL-" || c == "STARTTLS" || strings.HasPrefix(c, "AUTH=") {
			t.Errorf("%s after login", c)
		}
	}
	for _, c := range strings.Fields(`ID NAMESPACE CHILDREN CONDSTORE QRESYNC UIDPLUS MOVE IDLE UNSELECT ENABLE SPECIAL-USE
		CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE ESEARCH SEARCHRES BINARY UTF8=ACCEPT MULTIAPPEND WITHIN`) {
		if !slices.Contains(after, c) {
			t.Errorf("%s is missing after login", c)
		}
	}
}

// Every row of the table can run, or says why it cannot.
func TestTable(t *testing.T) {
	for name, c := range table {
		if (c.run == nil) != (c.needs == nobodyState) || name != c.name || name != strings.ToUpper(name) {
			t.Errorf("%+v", c)
		}
	}
}

// The table of docs/support.md holds what CAPABILITY says at any time, and no more.
// The mechanisms of AUTHENTICATE are looked at where they are known.
func TestDocsNameEveryCapability(t *testing.T) {
	page, err := os.ReadFile("../../docs/support.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][^ |]*) \| [R(].* \| ([^|]*) \|$`).FindAllStringSubmatch(string(page), -1) {
		if strings.Count(m[0], " |") == 4 && !regexp.MustCompile(`^(unreleased|[0-9]+\.[0-9]+(\.[0-9]+)?)$`).MatchString(m[2]) {
			t.Errorf("docs/support.md: %s is there since %q, which is no release", m[1], m[2])
		}
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][^ |]*) \| [R(]`).FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(m[1], "AUTH=") {
			continue
		}
		if documented[m[1]] {
			t.Errorf("docs/support.md names %s twice", m[1])
		}
		documented[m[1]] = true
	}
	said := map[string]bool{}
	for _, list := range []string{
		BeforeLogin{StartTLS: true, LoginDisabled: true}.Capabilities(),
		(&session{login: &Login{}, opt: new(Options).WithDefaults()}).capabilities(),
		(&session{login: &Login{}, opt: (&Options{Limits: Limits{Messages: 1000}}).WithDefaults()}).capabilities(),
		(&session{login: &Login{}, opt: (&Options{Limits: Limits{Saved: 1000}}).WithDefaults()}).capabilities(),
	} {
		for _, c := range strings.Fields(list) {
			if name, _, ok := strings.Cut(c, "LIMIT="); ok {
				c = name + "LIMIT"
			}
			said[c] = true
		}
	}
	got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(said))
	if !slices.Equal(got, want) {
		t.Errorf("docs/support.md has\n%q, and the server says\n%q", got, want)
	}
}

// ENABLE changes no capability, and a second one tells only what it enabled itself.
// RFC 9051 section 6.3.1
func TestEnableChangesNoCapability(t *testing.T) {
	st, who := mailboxOf(t)
	p := dial(t, st, who)
	before := p.ok("CAPABILITY")
	if got := p.ok("ENABLE UTF8=ACCEPT X-NONE"); len(got) != 1 || got[0] != "* ENABLED UTF8=ACCEPT" {
		t.Errorf("%q", got)
	}
	if got := p.ok("ENABLE IMAP4rev2"); len(got) != 1 || got[0] != "* ENABLED IMAP4rev2" {
		t.Errorf("%q", got)
	}
	if got := p.ok("ENABLE IMAP4rev2 imap4rev2 STARTTLS IMAP4rev1 ID"); len(got) != 1 || got[0] != "* ENABLED IMAP4rev2" {
		t.Errorf("%q", got)
	}
	if after := p.ok("CAPABILITY"); !slices.Equal(before, after) {
		t.Errorf("%q becomes %q", before, after)
	}
}
