package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/test/neighbour"
)

// thunderbirdPrefs are an account, and what keeps the program from asking and from
// calling home. Messages are kept as files, so that they can be compared.
const thunderbirdPrefs = `
user_pref("marionette.port", {port});
user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.accountmanager.localfoldersserver", "server2");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.identity.id1.useremail", "ann@example.org");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.storeContractID", "@mozilla.org/msgstore/maildirstore;1");
user_pref("mail.server.server1.using_subscription", false);
user_pref("mail.server.server1.check_new_mail", false);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server2.type", "none");
user_pref("mail.server.server2.userName", "nobody");
user_pref("mail.server.server2.hostname", "Local Folders");
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mailnews.start_page.enabled", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("app.update.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "http://127.0.0.1:9/");
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("mail.biff.show_alert", false);
user_pref("mail.biff.play_sound", false);
`

// thunderbirdTools are what the scripts have in common.
const thunderbirdTools = `
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
const root = MailServices.accounts.accounts[0].incomingServer.rootFolder;
const inbox = root.getChildNamed("INBOX");
const until = async what => { while (!what()) await new Promise(resolve => setTimeout(resolve, 20)); };
const url = start => new Promise((resolve, reject) => start({
	OnStartRunningUrl() {},
	OnStopRunningUrl(url, status) { status ? reject(new Error(url.spec + ": " + status.toString(16))) : resolve(); },
	QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
}));
const copied = start => new Promise((resolve, reject) => start({
	onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() { return null; },
	onStopCopy(status) { status ? reject(new Error("copy: " + status.toString(16))) : resolve(); },
	QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
}));
const update = folder => url(listener => folder.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, listener));
const message = (folder, subject) => [...folder.messages].find(m => m.mime2DecodedSubject == subject);
`

// thunderbirdSync brings all mailboxes over and says what is there. The first contact only
// finds out which mailboxes there are.
const thunderbirdSync = thunderbirdTools + `
await update(inbox);
await until(() => root.getChildNamed("Ümläut")?.getChildNamed("Ünder")); // the last
const all = {};
for (const folder of root.descendants) {
	if (folder.flags & Ci.nsMsgFolderFlags.ImapNoselect) continue;
	await update(folder);
	const missing = () => [...folder.messages].some(m => m.messageSize && !folder.hasMsgOffline(m.messageKey));
	if (missing()) await url(listener => folder.downloadAllForOffline(listener, null));
	await until(() => !missing());
	all[folder.onlineName] = [...folder.messages].map(m => ({
		UID: m.messageKey, Seen: m.isRead, Flagged: m.isFlagged,
		Answered: !!(m.flags & Ci.nsMsgMessageFlags.Replied),
		Keywords: m.getStringProperty("keywords"),
		File: folder.hasMsgOffline(m.messageKey) ? PathUtils.join(folder.filePath.path, "cur", m.getStringProperty("storeToken")) : "",
	}));
}
return all;
`

// tbMessage is a message as Thunderbird keeps it.
type tbMessage struct {
	UID                     imap.UID
	Seen, Flagged, Answered bool
	Keywords                string
	File                    string
}

// thunderbird starts it, without a window, in a profile of its own.
func (g *guest) thunderbird(prog string, r *record) (*marionette, <-chan struct{}) {
	t := g.t
	t.Helper()
	port, err := neighbour.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	g.write("profile/user.js", strings.ReplaceAll(thunderbirdPrefs, "{port}", strconv.Itoa(port))+g.settings("thunderbird", r))
	cmd := g.command(prog, "--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", g.path("profile"))
	out, err := os.Create(g.path(fmt.Sprintf("thunderbird.%d.log", port)))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	ended := background(t, cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Thunderbird says:\n%s", read(t, out.Name()))
		}
	})
	return connectMarionette(t, fmt.Sprintf("127.0.0.1:%d", port), ended), ended
}

// Thunderbird brings a tree over that Dovecot made, every message of it as a file, with
// its flags and tags; what is done in it is done on disk, what comes shows by itself, and
// the next start fetches no message again.
func TestThunderbird(t *testing.T) {
	prog := need(t, "thunderbird", "thunderbird")
	h := newHouse(t)
	far := h.maildir("ann")
	if err := os.MkdirAll(filepath.Dir(far), 0o755); err != nil {
		t.Fatal(err)
	}
	script(t, "tar", "-xzf", "../../maildir/testdata/dovecot23-maildirpp/Maildir.tar.gz", "-C", filepath.Dir(far))
	if err := neighbour.Own(h.mail); err != nil {
		t.Fatal(err)
	}
	h.serve(t)
	r := h.tap(t)
	neighbour.Compat(t, "client", "Thunderbird", version("thunderbird"), "a tree brought over whole; flags, tags, copy, move, delete, mailboxes; new mail while idle; nothing moves twice")
	c := login(t, h.roost.Addr, "ann", nil)
	if err := c.Create("Neu", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	g := h.guest(t)
	m, ended := g.thunderbird(prog, r)
	m.run(thunderbirdTools+`
const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("imap://localhost", null, "imap://localhost", "ann@example.org", "`+password+`", "", "");
await Services.logins.addLoginAsync(login);`, nil)
	var near map[string][]tbMessage
	m.run(thunderbirdSync, &near)
	if n := sameAsThunderbird(t, c, near); n < 100 {
		t.Errorf("only %d messages came over", n)
	}
	if len(r.said(`COMPRESS DEFLATE`)) == 0 {
		t.Error("it did not ask for COMPRESS")
	}
	if len(r.said(moving)) == 0 {
		t.Fatal("the first start moved nothing that this test understands")
	}

	// What it does is done on disk.
	for n := range 6 {
		appendMessage(t, c, "Neu", sample(n))
	}
	m.run(thunderbirdTools+`
await update(inbox);
root.createSubfolder("Mühle & Söhne", null);
await until(() => root.getChildNamed("Mühle & Söhne"));
const neu = root.getChildNamed("Neu"), made = root.getChildNamed("Mühle & Söhne");
await update(neu);
const [read, flagged, tagged, copiedOne, moved, gone] = [0, 1, 2, 3, 4, 5].map(n => message(neu, "message " + n));
neu.markMessagesRead([read], true);
neu.markMessagesFlagged([flagged], true);
neu.addKeywordsToMessages([tagged], "$label4");
await copied(listener => MailServices.copy.copyMessages(neu, [copiedOne], made, false, listener, null, false));
await copied(listener => MailServices.copy.copyMessages(neu, [moved], made, true, listener, null, false));
await copied(listener => neu.deleteMessages([gone], null, false, false, listener, false));
await update(neu);`, nil)
	same(t, "Neu", letters(t, far+"/.Neu"), []string{"message 0 S", "message 1 F", "message 2 a", "message 3 "})
	same(t, "Mühle & Söhne", letters(t, far+"/.M&APw-hle &- S&APY-hne"), []string{"message 3 ", "message 4 "})
	if k := read(t, far+"/.Neu/dovecot-keywords"); k != "0 $label4\n" {
		t.Errorf("Neu's dovecot-keywords is %q", k)
	}
	if trash := letters(t, far+"/.Trash"); !slices.Contains(trash, "message 5 ") {
		t.Errorf("message 5 is not in Trash: %q", trash)
	}

	// What others do shows by itself.
	m.run(thunderbirdTools+`await update(inbox);`, nil)
	for n := 7; n < 10; n++ {
		r.idling("INBOX")
		h.deliver(t, "ann", sample(n))
		m.run(thunderbirdTools+fmt.Sprintf(`await until(() => message(inbox, "message %d"));`, n), nil)
	}
	r.idling("INBOX")
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	data, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "message 9"}}}, nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(data.AllUIDs()...), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	m.run(thunderbirdTools+`await until(() => message(inbox, "message 9").isFlagged);`, nil)

	m.run(thunderbirdSync, &near)
	sameAsThunderbird(t, c, near)
	m.call("Marionette:Quit", map[string]any{"flags": []string{"eForceQuit"}})
	<-ended

	r.next()
	m, _ = g.thunderbird(prog, r)
	m.run(thunderbirdSync, &near)
	sameAsThunderbird(t, c, near)
	for _, l := range r.said(moving) {
		t.Errorf("on its second start Thunderbird said %q", l)
	}
}

// mozillaStatus is what Thunderbird writes above a message for itself.
var mozillaStatus = regexp.MustCompile(`\AX-Mozilla-Status: \S+\r?\nX-Mozilla-Status2: \S+\r?\n`)

// sameAsThunderbird compares what Thunderbird has with what the server has, and counts
// the messages. What is \Deleted it does not show.
func sameAsThunderbird(t *testing.T, c *imapclient.Client, near map[string][]tbMessage) (count int) {
	t.Helper()
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if slices.Contains(l.Attrs, imap.MailboxAttrNoSelect) || slices.Contains(l.Attrs, imap.MailboxAttrNonExistent) {
			continue
		}
		msgs, ok := near[l.Mailbox]
		if !ok {
			t.Errorf("%s did not come over", l.Mailbox)
			continue
		}
		sel, err := c.Select(l.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait()
		if err != nil {
			t.Fatal(err)
		}
		if sel.NumMessages == 0 {
			continue
		}
		whole := &imap.FetchItemBodySection{Peek: true}
		there, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{whole}}).Collect()
		if err != nil {
			t.Fatal(err)
		}
		visible := slices.DeleteFunc(there, func(m *imapclient.FetchMessageBuffer) bool { return slices.Contains(m.Flags, imap.FlagDeleted) })
		if len(visible) != len(msgs) {
			t.Errorf("%s: %d messages came over, want %d", l.Mailbox, len(msgs), len(visible))
		}
		for _, want := range visible {
			i := slices.IndexFunc(msgs, func(m tbMessage) bool { return m.UID == want.UID })
			if i < 0 {
				t.Errorf("%s: UID %d did not come over", l.Mailbox, want.UID)
				continue
			}
			got := msgs[i]
			count++
			has := func(f imap.Flag) bool { return slices.Contains(want.Flags, f) }
			if got.Seen != has(imap.FlagSeen) || got.Flagged != has(imap.FlagFlagged) || got.Answered != has(imap.FlagAnswered) {
				t.Errorf("%s UID %d: %+v, but the server says %v", l.Mailbox, got.UID, got, want.Flags)
			}
			for _, f := range want.Flags {
				if f[0] != '\\' && f != "$Forwarded" && f != "$MDNSent" && !slices.Contains(strings.Fields(got.Keywords), strings.ToLower(string(f))) {
					t.Errorf("%s UID %d has the tags %q, but the server says %v", l.Mailbox, got.UID, got.Keywords, want.Flags)
				}
			}
			if len(want.FindBodySection(whole)) == 0 {
				continue
			}
			if got.File == "" {
				t.Errorf("%s UID %d is not kept", l.Mailbox, got.UID)
				continue
			}
			a, b := mozillaStatus.ReplaceAllString(read(t, got.File), ""), string(want.FindBodySection(whole))
			if strings.ReplaceAll(a, "\r\n", "\n") != strings.ReplaceAll(b, "\r\n", "\n") {
				t.Errorf("%s UID %d: %d bytes are kept, %d are on the server:\n%.200q\n%.200q", l.Mailbox, got.UID, len(a), len(b), a, b)
			}
		}
	}
	return count
}
