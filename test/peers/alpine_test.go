package peers

import (
	"testing"

	"roost/test/neighbour"
)

// A day with Alpine in a terminal: the c-client library, which speaks like no other.
func TestAlpine(t *testing.T) {
	prog := need(t, "alpine", "alpine")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "Alpine", version("alpine"), "list, read, flag, copy, search, delete; new mail")
	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 4 {
		appendMessage(t, c, "INBOX", sample(n))
	}
	s := h.alpine(t, prog, r)
	s.see(`N +1 .*message 0`, `N +4 .*message 3`)
	s.keys("Enter")
	s.see(`^Body of message 0`)
	s.keys("i")
	s.see(`^ +1 .*message 0`)
	s.keys("*")
	s.see(`or Important`)
	s.keys("*")
	s.see(`\* +1 .*message 0`)
	same(t, "after reading and flagging", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 1 ", "message 2 ", "message 3 "})

	// Saved is copied, and deleted here when that is asked for.
	s.keys("n")
	s.see(`Message 2 of 4`)
	s.keys("s")
	s.see(`SAVE Msg #2`)
	s.keys("C-u", "Sent", "Enter")
	s.see(`D +2 .*message 1`)
	same(t, "a copy", letters(t, h.maildir("ann")+"/.Sent"), []string{"message 1 "})
	s.keys("x")
	s.see(`of 3`)
	same(t, "after expunging", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 2 ", "message 3 "})

	r.next()
	s.keys(`\;`) // to tmux a bare one ends a command
	s.see(`(?i)select criteria`)
	s.keys("t")
	s.see(`All msg text`)
	s.keys("b")
	s.see(`BODYTEXT to match`)
	s.keys("of message 3", "Enter")
	s.see(`ZOOMED`, `X N +3 .*message 3`)
	if len(r.said(`SEARCH .*BODY`)) == 0 {
		t.Error("the server was not asked")
	}
	s.keys("z")
	s.see(`N +2 .*message 2`)

	// It asks when told to, so the server must know first.
	other := h.idle(t, "INBOX")
	h.deliver(t, "ann", sample(9))
	other.await(4, h.roost.Log)
	s.keys("C-l")
	s.see(`N +4 .*message 9`)
	s.keys("q")
	s.end()
	same(t, "in the end", letters(t, h.maildir("ann")), []string{"message 0 FS", "message 2 ", "message 3 ", "message 9 "})
}

// alpine starts Alpine with INBOX open.
func (h *house) alpine(t *testing.T, prog string, r *record) *screen {
	t.Helper()
	g := h.guest(t)
	g.write(".pinerc", g.settings("pinerc", r)+`
personal-name=Ann
user-domain=example.org
last-version-used=9.99
feature-list=quit-without-confirm, enable-flag-cmd, no-expunge-without-confirm, expunge-without-confirm-everywhere, enable-aggregate-command-set, no-auto-move-read-msgs, no-enable-msg-view-urls
`)
	s := g.screen(prog, "-i")
	s.see(`ENTER PASSWORD`)
	s.keys(password, "Enter")
	s.see(`Preserve password`)
	s.keys("n")
	return s
}

// Alpine lets the server sort and make threads.
func TestAlpineSortsAndThreads(t *testing.T) {
	prog := need(t, "alpine", "alpine")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "Alpine", version("alpine"), "sorts, threads")
	unsorted(t, login(t, h.roost.Addr, "ann", nil))
	s := h.alpine(t, prog, r)
	s.see(`1 .*message 5`, `4 .*message 4`)
	s.keys("$")
	s.see(`Choose type of sort`)
	s.keys("s")
	r.await(`^\* SORT 2 4 1 3$`)
	s.see(`1 .*message 3`, `2 .*message 4`, `3 .*message 5`, `4 .*message 8`)
	s.keys("$")
	s.see(`Choose type of sort`)
	s.keys("h")
	r.await(`^\* THREAD `)
	s.see(`3 .*message 5`, `4 .*\\-message 8`)
	s.keys("q")
	s.end()
}
