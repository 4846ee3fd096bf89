package session

import (
	"slices"
	"testing"
)

// What SORT, THREAD and PREVIEW make of a message is made once, an empty preview too.
func TestSecondSortAndPreviewOpenNoMessage(t *testing.T) {
	for _, command := range []string{
		"SORT (SUBJECT DISPLAYFROM DATE) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "FETCH 1:3 (PREVIEW)", "FETCH 1:3 PREVIEW (LAZY)",
	} {
		w, p := watchedMailbox(t, small, "Subject: Re: s\n\n", "Content-Type: text/html\n\n<p>x")
		if command == "FETCH 1:3 PREVIEW (LAZY)" {
			if p.ok("%s", command); w.opened.Load() != 0 {
				t.Errorf("%s opened %d messages", command, w.opened.Load())
			}
			continue
		}
		cold := p.ok("%s", command)
		if n := w.opened.Swap(0); n != 3 {
			t.Errorf("the first %s opened %d messages, want 3", command, n)
		}
		warm := p.ok("%s", command)
		if n := w.opened.Load(); n != 0 {
			t.Errorf("the second %s opened %d messages", command, n)
		}
		if !slices.Equal(cold, warm) {
			t.Errorf("the second answer to %s differs:\n%q\n%q", command, cold, warm)
		}
	}
}

// The header that is kept for FETCH is enough to sort by.
func TestFetchedMessagesAreSortedUnopened(t *testing.T) {
	w, p := watchedMailbox(t, small, small)
	p.ok("FETCH 1:2 ENVELOPE")
	w.opened.Store(0)
	p.ok("SORT (SUBJECT) UTF-8 ALL")
	if n := w.opened.Load(); n != 0 {
		t.Errorf("%d messages were opened", n)
	}
}

// Whatever fields a client asks for: they come from what is kept, and are what the message
// has. Only those that are never kept are read from it again.
func TestSecondFetchOfAnyFieldOpensNoMessage(t *testing.T) {
	const m = "Received: one\nX-Odd: 1\nreceived: two\n\tmore\nno field\nX-Odd : 2\nSubject: s\nDKIM-Signature: k\n\nbody\n"
	w, p := watchedMailbox(t, m, m, m, m, m)
	for names, want := range map[string]string{
		"X-Odd x-none SUBJECT": "X-Odd: 1\r\nX-Odd : 2\r\nSubject: s\r\n\r\n",
		"Received":             "Received: one\r\nreceived: two\r\n\tmore\r\n\r\n",
		"dkim-signature X-ODD": "X-Odd: 1\r\nX-Odd : 2\r\nDKIM-Signature: k\r\n\r\n",
	} {
		command := "FETCH 1:5 BODY.PEEK[HEADER.FIELDS (" + names + ")]"
		for round := range 2 {
			w.opened.Store(0)
			lines := p.ok("%s", command)
			items, _ := fetched(t, lines[4])
			for _, v := range items {
				if v.text != want {
					t.Errorf("%s, round %d: %q, want %q", command, round, v.text, want)
				}
			}
			opens := w.opened.Load() > 0
			if bulky := names != "X-Odd x-none SUBJECT"; round == 1 && opens != bulky {
				t.Errorf("%s opened %d messages again", command, w.opened.Load())
			}
		}
	}
}
