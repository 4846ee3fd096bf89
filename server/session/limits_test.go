package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// Each error of the seam has its response code, however deep it is wrapped.
// RFC 5530 section 3, RFC 9051 section 7.1
func TestErrorsHaveTheirResponseCodes(t *testing.T) {
	s := &session{log: quiet()}
	for err, code := range map[error]string{
		store.ErrNotFound:     "NONEXISTENT",
		store.ErrExists:       "ALREADYEXISTS",
		store.ErrNoPermission: "NOPERM",
		store.ErrReadOnly:     "NOPERM",
		store.ErrOverQuota:    "OVERQUOTA",
		store.ErrTooBig:       "TOOBIG",
		store.ErrGone:         "EXPUNGEISSUED",
		store.ErrReplaced:     "NONEXISTENT",
		store.ErrUnsupported:  "CANNOT",
		store.ErrCannot:       "CANNOT",
		store.ErrNoSelect:     "NONEXISTENT",
		store.ErrHasChildren:  "HASCHILDREN",
		store.ErrInUse:        "INUSE",
		store.ErrLimit:        "LIMIT",
		store.ErrUnavailable:  "UNAVAILABLE",
		store.ErrUnreadable:   "SERVERBUG",
		errors.New("no idea"): "SERVERBUG",
		context.Canceled:      "UNAVAILABLE",
	} {
		if r := s.status(fmt.Errorf("deliver: %w", err)); r.kind != "NO" || r.code != code || r.text == "" || strings.HasPrefix(r.text, "[") {
			t.Errorf("%v: %+v, want %s", err, r, code)
		}
	}
	for err, code := range map[error]string{
		store.ErrNotFound:  "TRYCREATE",
		store.ErrNoSelect:  "TRYCREATE",
		store.ErrOverQuota: "OVERQUOTA",
	} {
		if r := s.status(toTarget(fmt.Errorf("copy: %w", err))); r.code != code {
			t.Errorf("as a target, %v: %+v, want %s", err, r, code)
		}
	}
}

// APPENDLIMIT is what APPEND takes: the server's limit or the user's, whichever is
// lower, and no more than its 32 bits can say. RFC 7889 section 4
func TestAppendLimit(t *testing.T) {
	for _, c := range []struct{ server, user, want int64 }{
		{5000, 0, 5000}, {5000, 100, 100}, {100, 5000, 100}, {1 << 40, 0, 1<<32 - 1}, {0, 0, 64 << 20},
	} {
		b := newBench(t, Options{Limits: Limits{AppendBytes: c.server}})
		b.Identity(func(who *store.Identity) { who.Quota.MessageBytes = c.user })
		s := b.stranger(t)
		s.say("a CAPABILITY\r\nb STATUS INBOX (APPENDLIMIT)\r\n")
		got := strings.Join(append(s.until("a"), s.until("b")...), "\n")
		if !strings.Contains(got, fmt.Sprintf(" APPENDLIMIT=%d ", c.want)) || !strings.Contains(got, fmt.Sprintf("(APPENDLIMIT %d)", c.want)) {
			t.Errorf("%+v: %s", c, got)
		}
		s.say(fmt.Sprintf("c APPEND INBOX {%d}\r\n", c.want+1))
		if got := s.until("c"); !strings.HasPrefix(got[0], "c NO [TOOBIG] ") {
			t.Errorf("%+v: one byte more: %q", c, got)
		}
		s.say(fmt.Sprintf("d APPEND INBOX {%d}\r\n", c.want))
		if got := s.until("d"); !strings.HasPrefix(got[0], "+ ") {
			t.Errorf("%+v: as many: %q", c, got)
		}
		s.conn.Close()
	}
}

// What is derived of a message is kept with it only where it is small: the rest is made
// again when it is asked for.
func TestBigNotesAreNotKept(t *testing.T) {
	subject := "Subject: " + strings.Repeat("s", noteLimit) + "\r\n"
	big := subject + "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 60) + "\r\n\r\n" +
		strings.Repeat("--"+strings.Repeat("b", 60)+"\r\n\r\nx\r\n", 2000)
	st, who := mailboxOf(t, []byte(big), []byte(small))
	p := dial(t, st, who)
	p.ok("APPEND INBOX {%d+}\r\n%s", len(big), big)
	p.ok("APPEND INBOX {%d+}\r\n%s", len(small), small)
	p.ok("SELECT INBOX")
	p.ok("FETCH 1:4 (ENVELOPE BODYSTRUCTURE BODY BODY.PEEK[HEADER.FIELDS (Subject)])")
	acct, err := st.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	defer acct.Close()
	box, err := acct.Hold(t.Context(), store.Inbox, false, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	kept := map[imap.UID]int{}
	for _, kind := range []store.NoteKind{noteParts, noteEnvelope, noteStructure, noteBody, noteFields} {
		for uid, b := range box.Notes(t.Context(), []imap.UID{1, 2, 3, 4}, kind) {
			kept[uid]++
			if len(b) > noteLimit {
				t.Errorf("message %d has a note of kind %d with %d bytes", uid, kind>>8, len(b))
			}
		}
	}
	if kept[2] != 5 || kept[4] != 5 || kept[1] >= 5 || kept[3] >= 5 {
		t.Errorf("notes kept: %v", kept)
	}
	items, _ := fetched(t, p.ok("FETCH 3 (ENVELOPE BODYSTRUCTURE)")[0])
	if len(items["ENVELOPE"].list[1].text) != noteLimit || len(items["BODYSTRUCTURE"].list) < 2000 {
		t.Errorf("without its notes the message is answered %.100s", items["ENVELOPE"].show())
	}
}

// A store that is wrong about a size: what is read counts, and the client can go on.
func TestSizeThatTheStoreHadWrong(t *testing.T) {
	for _, off := range []int64{-3, 7} {
		w, p := watchedMailbox(t, small)
		w.size = off
		items, _ := fetched(t, p.ok("FETCH 1 (BODYSTRUCTURE BODY.PEEK[] RFC822.SIZE)")[0])
		if got := items["BODY[]"].text; off > 0 && (got != strings.ReplaceAll(small, "\n", "\r\n") || items["RFC822.SIZE"].text == "") {
			t.Errorf("%d bytes wrong: %q", off, got)
		}
		p.ok("NOOP")
	}
}

// A mailbox that has no room for another keyword does not offer to make one, and says so
// again when that happens. RFC 9051 section 7.1, PERMANENTFLAGS
func TestMailboxWithoutRoomForKeywords(t *testing.T) {
	w, p := watchedMailbox(t, small)
	flags := func(lines []string) string {
		for _, l := range lines {
			if strings.Contains(l, "[PERMANENTFLAGS ") {
				return l
			}
		}
		return ""
	}
	if got := flags(p.ok("SELECT INBOX")); !strings.Contains(got, `\*)]`) {
		t.Errorf("with room: %q", got)
	}
	w.keywordsEnd = true
	if got := flags(p.ok("STORE 1 +FLAGS (last)")); !strings.Contains(got, " last)]") || strings.Contains(got, `\*`) {
		t.Errorf("with the last one: %q", got)
	}
	w.setting = fmt.Errorf("keyword: %w", store.ErrLimit)
	if _, tagged := p.do("STORE 1 +FLAGS (more)"); !strings.HasPrefix(tagged, "NO [LIMIT] ") {
		t.Errorf("one more: %s", tagged)
	}
	if got := flags(p.ok("SELECT INBOX")); strings.Contains(got, `\*`) {
		t.Errorf("without room: %q", got)
	}
}

// What an answer told is remembered until the view has come to it, and no longer.
func TestToldIsForgotten(t *testing.T) {
	st, who := mailboxOf(t, []byte(small))
	acct, err := st.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	defer acct.Close()
	box, err := acct.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	view, _, err := box.Advance(store.View{}, true)
	if err != nil {
		t.Fatal(err)
	}
	out := &script{Reader: bytes.NewReader(nil)}
	s := newSession(out, &Login{Who: who}, &Options{Log: quiet()})
	s.acct, s.sel = acct, &selected{name: store.Inbox, box: box, view: view}
	rows, _, err := box.SetFlags(t.Context(), []imap.UID{1}, store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}})
	if err != nil {
		t.Fatal(err)
	}
	s.sel.answered(rows[0])
	if err := s.tellChanges(t.Context(), tellNoExpunge); err != nil || len(s.sel.told) != 1 {
		t.Errorf("%v: %d are remembered where the view may have stopped short", err, len(s.sel.told))
	}
	if err := s.tellChanges(t.Context(), tellAll); err != nil || len(s.sel.told) != 0 {
		t.Errorf("%v: %d are remembered", err, len(s.sel.told))
	}
	if s.enc.Flush(); out.out.Len() > 0 {
		t.Errorf("told again: %q", out.out.String())
	}
}

// STATUS that cannot be had of one mailbox of a LIST hides no other; where the mailbox
// cannot be selected its line says so. RFC 9051 section 6.3.9.2
func TestStatusThatFailsInAList(t *testing.T) {
	w, p := watchedMailbox(t, small)
	p.ok("CREATE Work")
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, `* LIST (\HasNoChildren) "/" INBOX|* STATUS INBOX (MESSAGES 1)|* LIST (\HasNoChildren) "/" Work|* STATUS Work (MESSAGES 0)`},
		{store.ErrNoPermission, `* LIST (\HasNoChildren) "/" INBOX|* STATUS INBOX (MESSAGES 1)|* LIST (\HasNoChildren \Noselect) "/" Work`},
		{store.ErrNotFound, `* LIST (\HasNoChildren) "/" INBOX|* STATUS INBOX (MESSAGES 1)|* LIST (\HasNoChildren \Noselect) "/" Work`},
		{store.ErrNoSelect, `* LIST (\HasNoChildren) "/" INBOX|* STATUS INBOX (MESSAGES 1)|* LIST (\HasNoChildren \Noselect) "/" Work`},
		{store.ErrUnavailable, `* LIST (\HasNoChildren) "/" INBOX|* STATUS INBOX (MESSAGES 1)|* LIST (\HasNoChildren) "/" Work`},
	} {
		w.status = c.err
		if got := strings.Join(p.ok(`LIST "" * RETURN (STATUS (MESSAGES))`), "|"); got != c.want {
			t.Errorf("%v:\n%s, want\n%s", c.err, got, c.want)
		}
	}
}

// Who the client says it is stands in the log, once, and nothing where it says nothing.
func TestIDIsLogged(t *testing.T) {
	var log bytes.Buffer
	t.Run("session", func(t *testing.T) { // its end waits for that of the session
		s := newBench(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}).stranger(t)
		s.say("a ID (\"name\" \"Mail\" \"version\" NIL)\r\nb ID NIL\r\nc LOGOUT\r\n")
		s.until("c")
	})
	if got := log.String(); strings.Count(got, "event=client") != 1 || !strings.Contains(got, `user=ann event=client client="name Mail version "`) {
		t.Errorf("log:\n%s", got)
	}
}
