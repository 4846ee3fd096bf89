package peers

import (
	"fmt"
	"testing"

	"roost/test/neighbour"
)

// A day with aerc in a terminal, which leaves IDLE before each command and enters it
// again behind it.
func TestAerc(t *testing.T) {
	prog := need(t, "aerc", "aerc")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "aerc", version("aerc"), "list, read, flag, copy, move, search, delete; new mail while idle")
	c := login(t, h.roost.Addr, "ann", nil)
	for n := range 4 {
		appendMessage(t, c, "INBOX", sample(n))
	}
	g := h.guest(t)
	g.write(".config/aerc/accounts.conf", g.settings("aerc", r))
	s := g.screen(prog)
	s.see(`O message 3`, `O message 0`, `INBOX +4/4`)
	s.keys("Enter")
	s.see(`^Body of message 3`)
	s.keys(":close", "Enter")
	s.see(`O message 2`)
	inbox := func(when string, want ...string) {
		t.Helper()
		same(t, when, letters(t, h.maildir("ann")), want)
	}
	inbox("after reading", "message 0 ", "message 1 ", "message 2 ", "message 3 S")

	s.keys("j", ":flag", "Enter")
	r.await(`STORE .*\\Flagged`)
	r.await(` OK .*STORE`)
	inbox("after flagging", "message 0 ", "message 1 ", "message 2 F", "message 3 S")
	s.keys(":cp Sent", "Enter")
	r.await(` OK .*COPYUID`)
	same(t, "a copy", letters(t, h.maildir("ann")+"/.Sent"), []string{"message 2 F"})

	r.next()
	s.keys(":filter -b of message 1", "Enter")
	s.see(`Drafts .*O message 1`) // the first line of the list
	if len(r.said(`SEARCH .*BODY`)) == 0 {
		t.Error("the server was not asked")
	}
	s.keys(":select 0", "Enter", ":view", "Enter")
	s.see(`^Body of message 1`)
	s.keys(":close", "Enter")
	s.see(`Drafts .*message 1`)
	s.keys(":mv Trash", "Enter")
	r.await(` OK .*COPYUID`)
	s.keys(":clear", "Enter")
	s.see(`message 0`, `message 2`)
	inbox("after moving", "message 0 ", "message 2 F", "message 3 S")
	same(t, "moved", letters(t, h.maildir("ann")+"/.Trash"), []string{"message 1 S"})

	s.keys(":select 0", "Enter", ":delete", "Enter")
	r.await(` OK .*EXPUNGE`)
	inbox("after deleting", "message 0 ", "message 2 F")

	// A command of its own may find one; nothing but the push tells of all.
	for n := 7; n < 10; n++ {
		r.idling("INBOX")
		h.deliver(t, "ann", sample(n))
		s.see(fmt.Sprintf(`N message %d`, n))
	}
	s.keys(":quit", "Enter")
	s.end()
	inbox("in the end", "message 0 ", "message 2 F", "message 7 ", "message 8 ", "message 9 ")
}

// aerc lets the server sort and make threads.
func TestAercSortsAndThreads(t *testing.T) {
	prog := need(t, "aerc", "aerc")
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "aerc", version("aerc"), "sorts, threads")
	unsorted(t, login(t, h.roost.Addr, "ann", nil))
	g := h.guest(t)
	g.write(".config/aerc/accounts.conf", g.settings("aerc", r))
	s := g.screen(prog)
	s.see(`INBOX +4/4`, `O message 3`)
	s.keys(":sort subject", "Enter")
	r.await(`^\* SORT 2 4 1 3$`)
	s.see(`(?s)O message 3.*O message 4.*O message 5.*O message 8`)
	s.keys(":sort -r subject", "Enter")
	r.await(`^\* SORT 3 1 4 2$`)
	s.see(`(?s)O message 8.*O message 5.*O message 4.*O message 3`)
	s.keys(":toggle-threads", "Enter")
	r.await(`^\* THREAD `)
	s.see(`(?s)message 5.*└─>.*message 8`)
	s.keys(":quit", "Enter")
	s.end()
}
