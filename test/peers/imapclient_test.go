package peers

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// go-imap's own client does a day's work over STARTTLS.
func TestImapclient(t *testing.T) {
	imapclientCompat(t, "mailboxes, append, search, fetch, flags, move, rename; STARTTLS")
	h := newHouse(t)
	r := h.serve(t)
	c, err := imapclient.DialStartTLS(r.STARTTLSAddr, &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("ann@example.org", "wrong").Wait(); err == nil {
		t.Error("a wrong password was accepted")
	}
	if err := c.Login("ann@example.org", password).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Create("Projekte/Büro", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := c.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true, UIDNext: true}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		names = append(names, l.Mailbox)
	}
	for _, want := range []string{"INBOX", "Sent", "Trash", "Projekte", "Projekte/Büro"} {
		if !slices.Contains(names, want) {
			t.Errorf("LIST lacks %s: %v", want, names)
		}
	}
	var uids []imap.UID
	for n := range 5 {
		uids = append(uids, appendMessage(t, c, "INBOX", sample(n), imap.FlagSeen, "$Label1"))
	}
	sel, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if sel.NumMessages != 5 || sel.UIDNext != uids[4]+1 {
		t.Errorf("SELECT: %d messages, UIDNEXT %d after UID %d", sel.NumMessages, sel.UIDNext, uids[4])
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Body: []string{"MESSAGE 3"}}, &imap.SearchOptions{ReturnAll: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got := found.AllUIDs(); !slices.Equal(got, uids[3:4]) {
		t.Errorf("SEARCH BODY found %v, want %v", got, uids[3:4])
	}
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.UIDSetNum(uids[2]), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, Flags: true, RFC822Size: true}).Collect()
	if err != nil || len(msgs) != 1 {
		t.Fatalf("FETCH: %d messages, %v", len(msgs), err)
	}
	if b := msgs[0].FindBodySection(section); string(b) != sample(2) || msgs[0].RFC822Size != int64(len(b)) {
		t.Errorf("BODY[] is %q, size %d", b, msgs[0].RFC822Size)
	}
	if !slices.Contains(msgs[0].Flags, imap.Flag("$Label1")) {
		t.Errorf("flags %v lack the keyword", msgs[0].Flags)
	}
	moved, err := c.Move(imap.UIDSetNum(uids[0], uids[1]), "Projekte/Büro").Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got := moved.SourceUIDs.String(); got != imap.UIDSetNum(uids[0], uids[1]).String() {
		t.Errorf("MOVE says %s", got)
	}
	if err := c.Store(imap.UIDSetNum(uids[2]), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UIDExpunge(imap.UIDSetNum(uids[2])).Collect(); err != nil {
		t.Fatal(err)
	}
	st, err := c.Status("Projekte/Büro", &imap.StatusOptions{NumMessages: true, Size: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if *st.NumMessages != 2 || *st.Size != int64(len(sample(0))+len(sample(1))) {
		t.Errorf("STATUS: %d messages, %d bytes", *st.NumMessages, *st.Size)
	}
	if err := c.Rename("Projekte", "Alt", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete("Alt/Büro").Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Fatal(err)
	}
	if log := r.Log(); strings.Contains(log, password) {
		t.Error("the log holds the password")
	}
}
