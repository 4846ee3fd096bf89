package peers

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// reply is a message in a thread.
func reply(n, to int) string {
	return strings.Replace(sample(n), "\r\nDate:", fmt.Sprintf("\r\nIn-Reply-To: <%d@example.org>\r\nDate:", to), 1)
}

// unsorted puts messages into INBOX that SORT and THREAD put in another order.
func unsorted(t *testing.T, c *imapclient.Client) {
	t.Helper()
	for _, text := range []string{sample(5), sample(3), reply(8, 5), sample(4)} {
		appendMessage(t, c, "INBOX", text)
	}
}

// set stores flags and gives what the server told of them.
func set(t *testing.T, c *imapclient.Client, uid imap.UID, unchangedSince uint64, flags ...imap.Flag) ([]*imapclient.FetchMessageBuffer, error) {
	t.Helper()
	return c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: flags}, &imap.StoreOptions{UnchangedSince: unchangedSince}).Collect()
}

// What go-imap's client knows of CONDSTORE: it follows changes by their MODSEQs, and
// overwrites none that it has not seen.
func TestImapclientCondstore(t *testing.T) {
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t, "No such mailbox")
	imapclientCompat(t, "CONDSTORE")
	c := login(t, r.Addr, "ann", nil)
	for n := range 4 {
		appendMessage(t, c, "INBOX", sample(n))
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if sel.HighestModSeq == 0 {
		t.Fatal("SELECT gives no HIGHESTMODSEQ")
	}
	msgs, err := c.Fetch(all, &imap.FetchOptions{UID: true, ModSeq: true}).Collect()
	if err != nil || len(msgs) != 4 {
		t.Fatalf("FETCH MODSEQ: %d messages, %v", len(msgs), err)
	}
	for _, m := range msgs {
		if m.ModSeq == 0 || m.ModSeq > sel.HighestModSeq {
			t.Errorf("UID %d has MODSEQ %d, the highest is %d", m.UID, m.ModSeq, sel.HighestModSeq)
		}
	}

	other := login(t, r.Addr, "ann", nil)
	if _, err := other.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if told, err := set(t, other, 2, 0, imap.FlagFlagged); err != nil || len(told) != 1 || told[0].ModSeq != 0 {
		t.Errorf("a client that knows no MODSEQ was told %+v, %v", told, err)
	}
	since := imap.UIDSet{imap.UIDRange{Start: 1, Stop: 0}}
	msgs, err = c.Fetch(since, &imap.FetchOptions{Flags: true, ChangedSince: sel.HighestModSeq}).Collect()
	if err != nil || len(msgs) != 1 || msgs[0].UID != 2 || msgs[0].ModSeq <= sel.HighestModSeq || !slices.Contains(msgs[0].Flags, imap.FlagFlagged) {
		t.Fatalf("changed since: %+v, %v", msgs, err)
	}
	changed := msgs[0].ModSeq
	// The response code MODIFIED goes with OK, and this client passes over it.
	told, err := set(t, c, 2, sel.HighestModSeq, imap.FlagAnswered)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range told {
		if slices.Contains(m.Flags, imap.FlagAnswered) {
			t.Errorf("the other's change was overwritten: %+v", m)
		}
	}
	r.await(`OK \[MODIFIED 2\]`)
	told, err = set(t, c, 2, changed, imap.FlagAnswered)
	if err != nil || len(told) != 1 || told[0].ModSeq <= changed || !slices.Contains(told[0].Flags, imap.FlagAnswered) {
		t.Errorf("an unchanged message: told %+v, %v", told, err)
	}
	latest := told[0].ModSeq
	if found, err := c.UIDSearch(&imap.SearchCriteria{ModSeq: &imap.SearchCriteriaModSeq{ModSeq: changed}}, nil).Wait(); err != nil || !slices.Equal(found.AllUIDs(), []imap.UID{2}) || found.ModSeq != latest {
		t.Errorf("SEARCH MODSEQ: %+v, %v", found, err)
	}
	byEntry := &imap.SearchCriteriaModSeq{ModSeq: changed, MetadataName: `/flags/\answered`, MetadataType: imap.SearchCriteriaMetadataAll}
	if found, err := c.UIDSearch(&imap.SearchCriteria{ModSeq: byEntry}, &imap.SearchOptions{ReturnAll: true, ReturnCount: true}).Wait(); err != nil || found.Count != 1 || found.ModSeq != latest {
		t.Errorf("SEARCH RETURN MODSEQ: %+v, %v", found, err)
	}
	if st, err := c.Status("INBOX", &imap.StatusOptions{HighestModSeq: true}).Wait(); err != nil || st.HighestModSeq < latest {
		t.Errorf("STATUS: %+v, %v; the last change was %d", st, err, latest)
	}
	if _, err := c.Status("Nowhere", &imap.StatusOptions{HighestModSeq: true}).Wait(); err == nil {
		t.Error("a mailbox that is not there has a STATUS")
	}
}

// go-imap's client sorts and makes threads, and asks for parts of what it searched.
func TestImapclientSortThread(t *testing.T) {
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	imapclientCompat(t, "SORT, THREAD, ESEARCH")
	c := login(t, r.Addr, "ann", nil)
	appendMessage(t, c, "INBOX", strings.Replace(sample(3), "message 3", "=?utf-8?q?=C3=BCber_c?=", 1))
	appendMessage(t, c, "INBOX", sample(1)+strings.Repeat("more\r\n", 100))
	appendMessage(t, c, "INBOX", reply(7, 1), imap.FlagSeen)
	appendMessage(t, c, "INBOX", reply(5, 7))
	appendMessage(t, c, "INBOX", reply(6, 1))
	appendMessage(t, c, "INBOX", sample(9))
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(6), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.UIDExpunge(imap.UIDSetNum(6)).Close(); err != nil {
		t.Fatal(err)
	}
	everything := &imap.SearchCriteria{}
	for _, s := range []struct {
		by   []imapclient.SortCriterion
		of   *imap.SearchCriteria
		want []uint32
	}{
		{[]imapclient.SortCriterion{{Key: imapclient.SortKeyDate}}, everything, []uint32{2, 1, 4, 5, 3}},
		{[]imapclient.SortCriterion{{Key: imapclient.SortKeySubject, Reverse: true}}, everything, []uint32{1, 3, 5, 4, 2}},
		{[]imapclient.SortCriterion{{Key: imapclient.SortKeyFrom}, {Key: imapclient.SortKeyTo}, {Key: imapclient.SortKeyCc}, {Key: imapclient.SortKeyDate, Reverse: true}}, everything, []uint32{3, 5, 4, 1, 2}},
		{[]imapclient.SortCriterion{{Key: imapclient.SortKeySize, Reverse: true}, {Key: imapclient.SortKeyArrival}}, &imap.SearchCriteria{Not: []imap.SearchCriteria{{Flag: []imap.Flag{imap.FlagSeen}}}}, []uint32{2, 4, 5, 1}},
		{[]imapclient.SortCriterion{{Key: imapclient.SortKeyArrival}}, &imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "ÜBER"}}}, []uint32{1}},
		{[]imapclient.SortCriterion{{Key: imapclient.SortKeyArrival}}, &imap.SearchCriteria{Body: []string{"nowhere"}}, nil},
	} {
		if got, err := c.UIDSort(&imapclient.SortOptions{SearchCriteria: s.of, SortCriteria: s.by}).Wait(); err != nil || !slices.Equal(got, s.want) {
			t.Errorf("sorted by %v: %v, %v; want %v", s.by, got, err, s.want)
		}
		// What was expunged stood behind all others: the numbers are the same.
		if got, err := c.Sort(&imapclient.SortOptions{SearchCriteria: s.of, SortCriteria: s.by}).Wait(); err != nil || !slices.Equal(got, s.want) {
			t.Errorf("numbers sorted by %v: %v, %v; want %v", s.by, got, err, s.want)
		}
	}
	for algorithm, want := range map[imap.ThreadAlgorithm]string{
		imap.ThreadReferences:     "(2 (5)(3 4))(1)",
		imap.ThreadOrderedSubject: "(2)(1)(4)(5)(3)",
	} {
		if !c.Caps().Has(imap.Cap("THREAD=" + string(algorithm))) {
			t.Errorf("no THREAD=%s among the capabilities", algorithm)
		}
		got, err := c.UIDThread(&imapclient.ThreadOptions{Algorithm: algorithm, SearchCriteria: everything}).Wait()
		if err != nil || threads(got) != want {
			t.Errorf("THREAD %s: %s, %v; want %s", algorithm, threads(got), err, want)
		}
		got, err = c.Thread(&imapclient.ThreadOptions{Algorithm: algorithm, SearchCriteria: &imap.SearchCriteria{Text: []string{"über"}}}).Wait()
		if err != nil || threads(got) != "(1)" {
			t.Errorf("THREAD %s of one: %s, %v", algorithm, threads(got), err)
		}
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}}, &imap.SearchOptions{ReturnMin: true, ReturnMax: true, ReturnCount: true, ReturnAll: true}).Wait()
	if err != nil || found.Min != 1 || found.Max != 5 || found.Count != 4 || !slices.Equal(found.AllUIDs(), []imap.UID{1, 2, 4, 5}) {
		t.Errorf("SEARCH RETURN: %+v, %v", found, err)
	}
	found, err = c.Search(&imap.SearchCriteria{Text: []string{"nowhere"}}, &imap.SearchOptions{ReturnMin: true, ReturnCount: true}).Wait()
	if err != nil || found.Min != 0 || found.Count != 0 {
		t.Errorf("SEARCH RETURN of nothing: %+v, %v", found, err)
	}
}

// threads writes threads as the server did, in the short form.
func threads(of []imapclient.ThreadData) string {
	var b strings.Builder
	for _, d := range of {
		fmt.Fprintf(&b, "(%s", strings.Trim(fmt.Sprint(d.Chain), "[]"))
		if len(d.SubThreads) > 0 {
			b.WriteString(" " + threads(d.SubThreads))
		}
		b.WriteString(")")
	}
	return b.String()
}

// go-imap's client keeps annotations, and is told when another sets one.
func TestImapclientMetadata(t *testing.T) {
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t, "/elsewhere/comment")
	imapclientCompat(t, "METADATA")
	told := make(chan string, 8)
	watcher := login(t, r.Addr, "ann", &imapclient.UnilateralDataHandler{Metadata: func(mailbox string, entries []string) { told <- fmt.Sprint(mailbox, entries) }})
	if got, err := watcher.Enable(imap.CapMetadata).Wait(); err != nil || !got.Caps.Has(imap.CapMetadata) {
		t.Fatalf("ENABLE METADATA: %+v, %v", got, err)
	}
	c := login(t, r.Addr, "ann", nil)
	value := func(s string) *[]byte { b := []byte(s); return &b }
	get := func(mailbox string, options *imapclient.GetMetadataOptions, entries ...string) map[string]string {
		t.Helper()
		got, err := c.GetMetadata(mailbox, entries, options).Wait()
		if err != nil {
			t.Fatalf("GETMETADATA %s %v: %v", mailbox, entries, err)
		}
		out := map[string]string{}
		for k, v := range got.Entries {
			out[k] = "NIL"
			if v != nil {
				out[k] = string(*v)
			}
		}
		return out
	}
	equal := func(what string, got, want map[string]string) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	odd := "two \"quoted\" \\ lines\r\nand Grüße"
	if err := c.SetMetadata("INBOX", map[string]*[]byte{"/private/comment": value(odd), "/private/vendor/x/a": value("1"), "/private/vendor/x/a/b": value("")}).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.SetMetadata("", map[string]*[]byte{"/private/comment": value("of the account")}).Wait(); err != nil {
		t.Fatal(err)
	}
	equal("as set", get("INBOX", nil, "/private/comment", "/private/vendor/x/a"), map[string]string{"/private/comment": odd, "/private/vendor/x/a": "1"})
	equal("the account", get("", nil, "/private/comment"), map[string]string{"/private/comment": "of the account"})
	one := &imapclient.GetMetadataOptions{Depth: imapclient.GetMetadataDepthOne}
	equal("depth 1", get("INBOX", one, "/private/vendor/x"), map[string]string{"/private/vendor/x/a": "1"})
	deep := &imapclient.GetMetadataOptions{Depth: imapclient.GetMetadataDepthInfinity}
	equal("depth infinity", get("INBOX", deep, "/private/vendor/x"), map[string]string{"/private/vendor/x/a": "1", "/private/vendor/x/a/b": ""})
	four := uint32(4)
	equal("at most 4 bytes", get("INBOX", &imapclient.GetMetadataOptions{MaxSize: &four}, "/private/comment", "/private/vendor/x/a"), map[string]string{"/private/vendor/x/a": "1"})
	both := &imapclient.GetMetadataOptions{MaxSize: &four, Depth: imapclient.GetMetadataDepthOne}
	equal("both", get("INBOX", both, "/private/comment", "/private/vendor/x"), map[string]string{"/private/vendor/x/a": "1"})
	if err := c.SetMetadata("INBOX", map[string]*[]byte{"/private/vendor/x/a": nil}).Wait(); err != nil {
		t.Fatal(err)
	}
	equal("removed", get("INBOX", deep, "/private/vendor/x"), map[string]string{"/private/vendor/x/a/b": ""})
	if err := c.SetMetadata("INBOX", map[string]*[]byte{"/elsewhere/comment": value("x")}).Wait(); err == nil {
		t.Error("an entry of no scope was set")
	}
	big := bytes.Repeat([]byte("x"), 64<<10)
	if err := c.SetMetadata("INBOX", map[string]*[]byte{"/private/comment": &big}).Wait(); err != nil {
		t.Fatal(err)
	}
	equal("a large value", get("INBOX", nil, "/private/comment"), map[string]string{"/private/comment": string(big)})

	var seen []string
	if err := watcher.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	for len(told) > 0 {
		seen = append(seen, <-told)
	}
	if text := strings.Join(seen, "\n"); !strings.Contains(text, "INBOX[") || !strings.Contains(text, "/private/vendor/x/a") || !strings.Contains(text, "[/private/comment]") {
		t.Errorf("the watcher was told %q", seen)
	}
}

// One connection of go-imap's client serves ann, then bob, then ann again.
func TestImapclientUnauthenticate(t *testing.T) {
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t)
	imapclientCompat(t, "UNAUTHENTICATE")
	c := login(t, r.Addr, "ann", nil)
	appendMessage(t, c, "INBOX", sample(1))
	for range 2 {
		if _, err := c.Enable(imap.CapIMAP4rev2).Wait(); err != nil {
			t.Fatal(err)
		}
		if sel, err := c.Select("INBOX", &imap.SelectOptions{CondStore: true}).Wait(); err != nil || sel.NumMessages != 1 {
			t.Fatalf("ann's INBOX: %+v, %v", sel, err)
		}
		if !c.Caps().Has(imap.CapUnauthenticate) {
			t.Fatal("no UNAUTHENTICATE among the capabilities")
		}
		if err := c.Unauthenticate().Wait(); err != nil {
			t.Fatal(err)
		}
		// The client forgets the state and the capabilities only after it has woken who waits.
		if _, err := c.Capability().Wait(); err != nil {
			t.Fatal(err)
		}
		if state := c.State(); state != imap.ConnStateNotAuthenticated {
			t.Errorf("the client is in state %v", state)
		}
		if caps := c.Caps(); caps.Has(imap.CapUnauthenticate) || !caps.Has(imap.AuthCap("PLAIN")) {
			t.Errorf("capabilities before the next login: %v", slices.Sorted(maps.Keys(caps)))
		}
		if err := c.Login("bob@example.org", password).Wait(); err != nil {
			t.Fatal(err)
		}
		if st, err := c.Status("INBOX", &imap.StatusOptions{NumMessages: true}).Wait(); err != nil || *st.NumMessages != 0 {
			t.Errorf("bob's INBOX: %+v, %v", st, err)
		}
		if err := c.Unauthenticate().Wait(); err != nil {
			t.Fatal(err)
		}
		if err := c.Login("ann@example.org", password).Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// What go-imap's client can ask of mailboxes in one LIST, and of one by STATUS.
func TestImapclientListExtended(t *testing.T) {
	h := newHouse(t)
	h.serve(t)
	r := h.tap(t, "[USEATTR]")
	imapclientCompat(t, "LIST-EXTENDED, LIST-STATUS, SPECIAL-USE, STATUS=SIZE, APPENDLIMIT, NAMESPACE, ID, BINARY")
	c := login(t, r.Addr, "ann", nil)
	if err := c.Create("Work/Old stuff", &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{imap.MailboxAttrArchive}}).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe("Work/Old stuff").Wait(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, c, "Work/Old stuff", sample(1), imap.FlagDeleted)
	appendMessage(t, c, "Work/Old stuff", sample(2), imap.FlagSeen)
	list := func(options *imap.ListOptions) map[string]*imap.ListData {
		t.Helper()
		got, err := c.List("", "*", options).Collect()
		if err != nil {
			t.Fatalf("LIST %+v: %v", options, err)
		}
		out := map[string]*imap.ListData{}
		for _, l := range got {
			out[l.Mailbox] = l
		}
		return out
	}
	size := int64(len(sample(1)) + len(sample(2)))
	got := list(&imap.ListOptions{ReturnChildren: true, ReturnSubscribed: true, ReturnSpecialUse: true, ReturnStatus: &imap.StatusOptions{
		NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true, NumDeleted: true, Size: true, AppendLimit: true, HighestModSeq: true}})
	l := got["Work/Old stuff"]
	if l == nil || l.Status == nil {
		t.Fatalf("LIST gave %v", slices.Sorted(maps.Keys(got)))
	}
	for _, want := range []imap.MailboxAttr{imap.MailboxAttrArchive, imap.MailboxAttrSubscribed, imap.MailboxAttrHasNoChildren} {
		if !slices.Contains(l.Attrs, want) {
			t.Errorf("%s has %v, not %s", l.Mailbox, l.Attrs, want)
		}
	}
	check := func(s *imap.StatusData) {
		t.Helper()
		limit, ok := c.Caps().AppendLimit()
		if !ok || limit == nil || s.AppendLimit == nil || *s.AppendLimit != *limit {
			t.Errorf("APPENDLIMIT is %v and in STATUS %v", limit, s.AppendLimit)
		}
		if *s.NumMessages != 2 || s.UIDNext != 3 || s.UIDValidity == 0 || *s.NumUnseen != 1 || *s.NumDeleted != 1 || *s.Size != size || s.HighestModSeq == 0 {
			t.Errorf("the STATUS of %s is %d messages, UIDNEXT %d, UIDVALIDITY %d, %d unseen, %d deleted, %d bytes, MODSEQ %d", s.Mailbox, *s.NumMessages, s.UIDNext, s.UIDValidity, *s.NumUnseen, *s.NumDeleted, *s.Size, s.HighestModSeq)
		}
	}
	check(l.Status)
	st, err := c.Status("Work/Old stuff", &imap.StatusOptions{
		NumMessages: true, UIDNext: true, UIDValidity: true, NumUnseen: true, NumDeleted: true, Size: true, AppendLimit: true, HighestModSeq: true}).Wait()
	if err != nil {
		t.Fatal(err)
	}
	check(st)
	if !slices.Contains(got["Work"].Attrs, imap.MailboxAttrHasChildren) {
		t.Errorf("Work has %v", got["Work"].Attrs)
	}
	for name := range list(&imap.ListOptions{SelectSpecialUse: true}) {
		if !slices.Contains([]string{"Archive", "Drafts", "Junk", "Sent", "Trash", "Work/Old stuff"}, name) {
			t.Errorf("%s has a special use", name)
		}
	}
	parents, err := c.List("", "%", &imap.ListOptions{SelectSubscribed: true, SelectRecursiveMatch: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(parents, func(l *imap.ListData) bool { return l.Mailbox == "Work" }); i < 0 || parents[i].ChildInfo == nil || !parents[i].ChildInfo.Subscribed {
		t.Errorf("RECURSIVEMATCH tells nothing of what is in Work: %+v", parents)
	}
	if ns, err := c.Namespace().Wait(); err != nil || len(ns.Personal) != 1 || ns.Personal[0].Delim != '/' {
		t.Errorf("NAMESPACE: %+v, %v", ns, err)
	}
	if id, err := c.ID(&imap.IDData{Name: "peer test"}).Wait(); err != nil || !strings.EqualFold(id.Name, "roost") {
		t.Errorf("ID: %+v, %v", id, err)
	}

	// IMAP4rev2, with names in UTF-8, and parts decoded by the server.
	if got, err := c.Enable(imap.CapIMAP4rev2, imap.CapUTF8Accept).Wait(); err != nil || !got.Caps.Has(imap.CapIMAP4rev2) {
		t.Fatalf("ENABLE: %+v, %v", got, err)
	}
	if err := c.Create("Büro & Co", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	text := "From: ann@example.org\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nR3LDvMOfZQ==\r\n"
	appendMessage(t, c, "Büro & Co", text)
	sel, err := c.Select("Büro & Co", nil).Wait()
	if err != nil || sel.NumMessages != 1 || sel.List == nil || sel.List.Mailbox != "Büro & Co" {
		t.Fatalf("SELECT: %+v, %v", sel, err)
	}
	part := &imap.FetchItemBinarySection{Part: []int{1}, Peek: true}
	msgs, err := c.Fetch(all, &imap.FetchOptions{BinarySection: []*imap.FetchItemBinarySection{part}, BinarySectionSize: []*imap.FetchItemBinarySectionSize{{Part: []int{1}}}}).Collect()
	if err != nil || len(msgs) != 1 || string(msgs[0].FindBinarySection(part)) != "Grüße" {
		t.Fatalf("BINARY: %+v, %v", msgs, err)
	}
	if s := msgs[0].BinarySectionSize; len(s) != 1 || s[0].Size != uint32(len("Grüße")) {
		t.Errorf("BINARY.SIZE: %+v", s)
	}
}

// imapclientCompat is what the row of go-imap's client says of one thing.
func imapclientCompat(t *testing.T, what string) {
	t.Helper()
	version := strings.TrimSpace(script(t, "go", "list", "-m", "-f", "{{.Version}}", "github.com/emersion/go-imap/v2"))
	neighbour.Compat(t, "client", "imapclient (Go)", strings.TrimPrefix(version, "v"), what)
}
