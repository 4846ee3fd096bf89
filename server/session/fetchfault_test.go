package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"

	"roost/store"
)

// watchedStore counts what a session asks of its mailbox, and fails what a test
// tells it to.
type watchedStore struct {
	store.Store
	opened  atomic.Int32 // messages
	closed  atomic.Int32
	read    atomic.Int64 // bytes of them
	open    func(uid imap.UID) error
	reading func(uid imap.UID) error // after half of a range
	setting error
	size    int64 // by how much messages are wrong about theirs

	keywordsEnd bool
	status      error
	vanished    error
	set         atomic.Int32 // calls that change flags
}

func (w *watchedStore) Account(ctx context.Context, who store.Identity) (store.Account, error) {
	a, err := w.Store.Account(ctx, who)
	return &watchedAccount{a, w}, err
}

type watchedAccount struct {
	store.Account
	w *watchedStore
}

func (a *watchedAccount) Hold(ctx context.Context, n store.Name, write bool, wake func()) (store.Mailbox, error) {
	m, err := a.Account.Hold(ctx, n, write, wake)
	return &watchedBox{m, a.w}, err
}

func (a *watchedAccount) Counter() func(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
	return a.Status
}

func (a *watchedAccount) Status(ctx context.Context, n store.Name, exact bool) (store.Status, error) {
	if a.w.status != nil && n != store.Inbox {
		return store.Status{}, a.w.status
	}
	return a.Account.Status(ctx, n, exact)
}

type watchedBox struct {
	store.Mailbox
	w *watchedStore
}

func (b *watchedBox) Message(ctx context.Context, uid imap.UID) (store.Message, error) {
	b.w.opened.Add(1)
	if b.w.open != nil {
		if err := b.w.open(uid); err != nil {
			return nil, err
		}
	}
	m, err := b.Mailbox.Message(ctx, uid)
	return &watchedMessage{m, b.w, uid}, err
}

func (b *watchedBox) Vanished(since store.ModSeq, v store.View) ([]imap.UID, bool, error) {
	if b.w.vanished != nil {
		return nil, false, b.w.vanished
	}
	return b.Mailbox.Vanished(since, v)
}

func (b *watchedBox) Info() store.Info {
	info := b.Mailbox.Info()
	info.KeywordsEnd = b.w.keywordsEnd
	return info
}

func (b *watchedBox) SetFlags(ctx context.Context, uids []imap.UID, op store.FlagOp) ([]store.Row, []imap.UID, error) {
	b.w.set.Add(1)
	if b.w.setting != nil {
		return nil, nil, b.w.setting
	}
	return b.Mailbox.SetFlags(ctx, uids, op)
}

func (b *watchedBox) Expunge(ctx context.Context, uids []imap.UID) ([]imap.UID, store.ModSeq, error) {
	b.w.set.Add(1)
	return b.Mailbox.Expunge(ctx, uids)
}

func (b *watchedBox) Move(ctx context.Context, uids []imap.UID, to store.Name) (store.Copied, error) {
	b.w.set.Add(1)
	return b.Mailbox.Move(ctx, uids, to)
}

type watchedMessage struct {
	store.Message
	w   *watchedStore
	uid imap.UID
}

func (m *watchedMessage) Close() error {
	m.w.closed.Add(1)
	return m.Message.Close()
}

func (m *watchedMessage) Size() (int64, error) {
	n, err := m.Message.Size()
	return n + m.w.size, err
}

func (m *watchedMessage) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.Message.ReadAt(p, off)
	m.w.read.Add(int64(n))
	return n, err
}

func (m *watchedMessage) WriteRange(w io.Writer, off, n int64) (int64, error) {
	if m.w.reading != nil {
		if err := m.w.reading(m.uid); err != nil {
			written, _ := m.Message.WriteRange(w, off, n/2)
			return written, err
		}
	}
	n, err := m.Message.WriteRange(w, off, n)
	m.w.read.Add(n)
	return n, err
}

func (m *watchedMessage) Stream(w io.Writer) error {
	n, err := m.Message.Size()
	if err == nil {
		_, err = m.WriteRange(w, 0, n)
	}
	return err
}

func watchedMailbox(t *testing.T, messages ...string) (*watchedStore, *peer) {
	t.Helper()
	var raw [][]byte
	for _, m := range messages {
		raw = append(raw, []byte(m))
	}
	st, who := mailboxOf(t, raw...)
	w := &watchedStore{Store: st}
	p := dial(t, w, who)
	p.ok("SELECT INBOX")
	return w, p
}

const small = "From: a@b.example\nSubject: s\n\nbody\n"

// A bug met by a goroutine that reads ahead ended the process: it ends the session, and leaves
// no message open.
func TestPanicOfAReadAhead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	w, p := watchedMailbox(t, slices.Repeat([]string{small}, 20)...)
	w.reading = func(uid imap.UID) error {
		if uid == 7 {
			panic("of one message")
		}
		return nil
	}
	io.WriteString(p.conn, "t9 FETCH 1:20 (ENVELOPE BODYSTRUCTURE)\r\n")
	for n := 0; ; n++ {
		switch line := p.response(); {
		case strings.HasPrefix(line, "* BYE Internal server error"):
			if n > 6 {
				t.Errorf("%d messages were answered before it", n)
			}
			io.Copy(io.Discard, p.r) // until the session is at its end
			if opened, closed := w.opened.Load(), w.closed.Load(); opened != closed {
				t.Errorf("of %d messages %d were closed", opened, closed)
			}
			return
		case n == 20 || strings.HasPrefix(line, "t9 "):
			t.Fatal(line)
		}
	}
}

func TestWarmFetchOpensNoMessage(t *testing.T) {
	w, p := watchedMailbox(t, small, small, small)
	const items = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY BODY.PEEK[HEADER.FIELDS (From Subject)])"
	cold := p.ok("FETCH 1:3 %s", items)
	if n := w.opened.Swap(0); n != 3 {
		t.Errorf("the first FETCH opened %d messages, want 3", n)
	}
	warm := p.ok("FETCH 1:3 %s", items)
	if n := w.opened.Load(); n != 0 {
		t.Errorf("the second FETCH opened %d messages", n)
	}
	if strings.Join(cold, "\n") != strings.Join(warm, "\n") {
		t.Errorf("the second answer differs:\n%q\n%q", cold, warm)
	}
	// A part is found by its note: only its own bytes are read.
	w.read.Store(0)
	p.ok("FETCH 1 BODY.PEEK[1]")
	if n := w.read.Load(); n != 6 {
		t.Errorf("BODY[1] read %d bytes, want 6", n)
	}
}

func TestEnvelopeReadsNoBody(t *testing.T) {
	w, p := watchedMailbox(t, small+strings.Repeat("long body\n", 100_000))
	p.ok("FETCH 1 (ENVELOPE BODY.PEEK[HEADER] BODY.PEEK[HEADER.FIELDS (X-Seldom)])")
	if n := w.read.Load(); n > 10_000 {
		t.Errorf("the header cost %d bytes", n)
	}
}

// imapflow, iOS and Thunderbird read in slices: each costs its size, not the message's.
func TestSliceCostsItsSize(t *testing.T) {
	w, p := watchedMailbox(t, "From: a@b.example\n\n"+strings.Repeat("0123456789abcde\n", 100_000))
	p.ok("FETCH 1 BODYSTRUCTURE")
	for _, item := range []string{"BODY.PEEK[]<1000000.1000>", "BODY.PEEK[TEXT]<0.1000>", "BODY.PEEK[1]<500000.1000>", "BODY.PEEK[TEXT]<99999999.1000>", "BODY.PEEK[]<1699990.100000>"} {
		w.read.Store(0)
		items, order := fetched(t, p.ok("FETCH 1 %s", item)[0])
		if n := w.read.Load(); n > 1000 || n != int64(len(items[order[0]].text)) {
			t.Errorf("%s: %d bytes read for %d", item, n, len(items[order[0]].text))
		}
	}
}

func TestAppendedMessageIsReadyForItsFirstFetch(t *testing.T) {
	w, p := watchedMailbox(t, small)
	p.ok("APPEND INBOX {%d+}\r\n%s", len(small), small)
	p.ok("NOOP")
	p.ok("FETCH 2 (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (Subject)])")
	if n := w.opened.Load(); n != 0 {
		t.Errorf("FETCH after APPEND opened %d messages", n)
	}
}

func TestUnreadableMessageLeavesTheRest(t *testing.T) {
	w, p := watchedMailbox(t, small, small, small)
	for _, c := range []struct {
		err  error
		code string
	}{
		{fmt.Errorf("open: %w", store.ErrUnreadable), "NO [SERVERBUG]"},
		{store.ErrUnsupported, "NO [CANNOT]"},
		{errors.New("disk on fire"), "NO [SERVERBUG]"},
	} {
		w.open = func(uid imap.UID) error {
			if uid == 2 {
				return c.err
			}
			return nil
		}
		lines, tagged := p.do("FETCH 1:3 (UID BODY[TEXT])")
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "* 1 ") || !strings.HasPrefix(lines[1], "* 3 ") || !strings.HasPrefix(tagged, c.code) {
			t.Errorf("%v: %q %s", c.err, lines, tagged)
		}
		if got := p.ok("FETCH 2 FLAGS")[0]; strings.Contains(got, "Seen") {
			t.Errorf("%v: what could not be read is marked as read: %s", c.err, got)
		}
	}
	// What is known without the file is still answered.
	if lines := p.ok("FETCH 2 (UID FLAGS RFC822.SIZE)"); len(lines) != 1 {
		t.Errorf("the row of an unreadable message: %q", lines)
	}
	w.open = func(imap.UID) error { return store.ErrGone }
	if lines, tagged := p.do("FETCH 1:3 BODY.PEEK[]"); len(lines) != 0 || !strings.HasPrefix(tagged, "NO [EXPUNGEISSUED]") {
		t.Errorf("messages that are gone: %q %s", lines, tagged)
	}
	if lines, tagged := p.do("UID FETCH 1:3 BODY.PEEK[]"); len(lines) != 0 || !strings.HasPrefix(tagged, "OK") {
		t.Errorf("UIDs that are gone: %q %s", lines, tagged)
	}
}

func TestReadErrorBeforeTheLiteralKeepsTheConnection(t *testing.T) {
	w, p := watchedMailbox(t, small, small)
	w.reading = func(uid imap.UID) error {
		if uid == 1 {
			return store.ErrUnreadable
		}
		return nil
	}
	lines, tagged := p.do("FETCH 1:2 BODY.PEEK[1]") // the scan fails
	if len(lines) != 1 || !strings.HasPrefix(tagged, "NO [SERVERBUG]") {
		t.Errorf("%q %s", lines, tagged)
	}
	p.ok("NOOP")
}

func TestReadErrorInsideALiteralEndsTheConnection(t *testing.T) {
	w, p := watchedMailbox(t, small)
	w.reading = func(imap.UID) error { return store.ErrUnreadable }
	fmt.Fprintf(p.conn, "x FETCH 1 BODY.PEEK[]\r\n")
	rest, _ := io.ReadAll(p.r)
	if strings.Contains(string(rest), "\r\nx ") || strings.Contains(string(rest), "BYE") {
		t.Errorf("bytes that the client would take for the message follow: %q", rest)
	}
}

func TestSeenThatCannotBeKeptDoesNotKeepFromReading(t *testing.T) {
	w, p := watchedMailbox(t, small)
	w.setting = fmt.Errorf("rename: %w", store.ErrOverQuota)
	if lines := p.ok("FETCH 1 BODY[TEXT]"); len(lines) != 1 || !strings.Contains(lines[0], "body") {
		t.Errorf("%q", lines)
	}
}

// The store would refuse too; it is not even asked. RFC 9051 section 6.3.3
func TestReadingUnderExamineAsksForNoChange(t *testing.T) {
	w, p := watchedMailbox(t, small)
	p.ok("EXAMINE INBOX")
	p.ok("FETCH 1 BODY[]")
	p.ok("UID FETCH 1 (RFC822 BINARY[1] RFC822.TEXT)")
	for _, line := range []string{`STORE 1 +FLAGS (\Seen)`, `UID STORE 1 FLAGS.SILENT ()`, "EXPUNGE", "UID EXPUNGE 1:*", "MOVE 1 Work", "UID MOVE 1 INBOX"} {
		if _, tagged := p.do("%s", line); !strings.HasPrefix(tagged, "NO [NOPERM]") {
			t.Errorf("%s: %s", line, tagged)
		}
	}
	p.ok("CLOSE")
	p.ok("EXAMINE INBOX")
	if n := w.set.Load(); n != 0 {
		t.Errorf("%d changes asked for", n)
	}
	p.ok("SELECT INBOX")
	p.ok("FETCH 1 BODY[]")
	if n := w.set.Load(); n != 1 {
		t.Errorf("%d changes under SELECT, want 1", n)
	}
}

func TestNoteThatDoesNotFitIsMadeAgain(t *testing.T) {
	st, who := mailboxOf(t, []byte(small))
	acct, err := st.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	box, err := acct.Hold(t.Context(), store.Inbox, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	box.Note(1, noteParts, []byte{1, 1, 0, 0, 50, 100, 3}) // of a message of 150 bytes
	p := dial(t, st, who)
	p.ok("SELECT INBOX")
	for range 2 {
		items, _ := fetched(t, p.ok("FETCH 1 BODY.PEEK[1]")[0])
		if got := items["BODY[1]"].text; got != "body\r\n" {
			t.Errorf("BODY[1] is %q", got)
		}
		box.Note(1, noteParts, []byte("garbage"))
	}
	box.Close()
	acct.Close()
}

func TestDeepNestingIsCut(t *testing.T) {
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	b.WriteString("\ndeep\n")
	_, p := watchedMailbox(t, b.String(), strings.Repeat("Content-Type: message/rfc822\n\n", 500)+"deep\n")
	for seq := 1; seq <= 2; seq++ {
		items, _ := fetched(t, p.ok("FETCH %d (BODYSTRUCTURE RFC822.SIZE)", seq)[0])
		depth := 0
		for n := items["BODYSTRUCTURE"]; ; depth++ {
			next := slicesIndexList(n.list, seq == 2)
			if next == nil {
				if n.list[0].text != "application" || n.list[1].text != "octet-stream" {
					t.Errorf("the innermost part is %s", n.show())
				}
				break
			}
			n = *next
		}
		if depth != 99 {
			t.Errorf("message %d is %d levels deep", seq, depth+1)
		}
	}
	path := strings.TrimSuffix(strings.Repeat("1.", 99), ".")
	items, order := fetched(t, p.ok("FETCH 1 BODY.PEEK[%s]", path)[0])
	if got := items[order[0]].text; !strings.HasSuffix(got, "deep\r\n") {
		t.Errorf("the innermost part ends %q", got[max(0, len(got)-20):])
	}
	if _, tagged := p.do("FETCH 1 BODY.PEEK[%s1]", strings.Repeat("1.", 500)); !strings.HasPrefix(tagged, "BAD") {
		t.Errorf("500 part numbers: %s", tagged)
	}
}

// slicesIndexList is the part inside a part: the first value of a multipart, the
// ninth of a message.
func slicesIndexList(list []node, message bool) *node {
	at := 0
	if message {
		at = 8
	}
	if len(list) > at && list[at].kind == '(' && (!message || list[0].text == "message") {
		return &list[at]
	}
	return nil
}

func TestManyPartsAndLongLines(t *testing.T) {
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=x\n\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "--x\n\np%d\n", i)
	}
	long := "Subject: " + strings.Repeat("s", 100_000) + "\n\n" + strings.Repeat("x", 100_000) + "\n"
	_, p := watchedMailbox(t, b.String()+"--x--\n", long)
	for range 2 {
		items, _ := fetched(t, p.ok("FETCH 1 (BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[2000] BODY.PEEK[2001])")[0])
		if n := len(items["BODYSTRUCTURE"].list); n != 2000+5 {
			t.Errorf("%d parts", n-5)
		}
		if got := items["BODY[1]"].text + items["BODY[2000]"].text + items["BODY[2001]"].text; got != "p0p1999" {
			t.Errorf("the parts are %q", got)
		}
		items, _ = fetched(t, p.ok("FETCH 2 (ENVELOPE BODY.PEEK[1]<99990.20>)")[0])
		if got := items["ENVELOPE"].list[1].text; len(got) != 100_000 {
			t.Errorf("a subject of %d bytes", len(got))
		}
		if got := items["BODY[1]<99990>"].text; got != "xxxxxxxxxx\r\n" {
			t.Errorf("the end of the long line is %q", got)
		}
	}
}

func TestHeaderAboveWhatIsParsedIsServed(t *testing.T) {
	head := "Subject: first\n" + strings.Repeat("X-Fill: "+strings.Repeat("y", 90)+"\n", 12_000) + "X-Last: z\n\n"
	_, p := watchedMailbox(t, head+"body\n")
	items, _ := fetched(t, p.ok("FETCH 1 (ENVELOPE BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[HEADER.FIELDS (Subject)])")[0])
	if want := strings.ReplaceAll(head, "\n", "\r\n"); items["BODY[HEADER]"].text != want {
		t.Errorf("a header of %d bytes, want %d", len(items["BODY[HEADER]"].text), len(want))
	}
	if items["BODY[TEXT]"].text != "body\r\n" || items["ENVELOPE"].list[1].text != "first" ||
		items["BODY[HEADER.FIELDS (Subject)]"].text != "Subject: first\r\n\r\n" {
		t.Errorf("text %q, envelope %s", items["BODY[TEXT]"].text, items["ENVELOPE"].show())
	}
}

func TestNULBecomes80InLiterals(t *testing.T) {
	_, p := watchedMailbox(t, "Subject: a\x00b\n\nx\x00y\n")
	items, _ := fetched(t, p.ok("FETCH 1 (BODY.PEEK[TEXT] BINARY.PEEK[1] ENVELOPE BODY.PEEK[HEADER.FIELDS (Subject)])")[0])
	if got := items["BODY[TEXT]"].text; got != "x\x80y\r\n" {
		t.Errorf("BODY[TEXT] is %q", got)
	}
	if got := items["BINARY[1]"]; got.text != "x\x00y\r\n" || got.kind != '8' {
		t.Errorf("BINARY[1] is %q, of kind %c", got.text, got.kind)
	}
	if got := items["ENVELOPE"].list[1].text; got != "a\ufffdb" {
		t.Errorf("the subject is %q", got)
	}
	if got := items["BODY[HEADER.FIELDS (Subject)]"].text; got != "Subject: a\x80b\r\n\r\n" {
		t.Errorf("the field is %q", got)
	}
}
