package attack

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"roost/test/neighbour"
)

// secretOf is a text in a message of bea's that nobody else may see.
const secretOf = "the number of beas account"

// mutf7 spells text as modified UTF-7 with every character in base64, which RFC 9051
// appendix A does not allow.
func mutf7(text string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(text)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return "&" + strings.ReplaceAll(strings.TrimRight(base64.StdEncoding.EncodeToString(b), "="), "/", ",") + "-"
}

// literal is text as a string of IMAP that takes any byte.
func literal(text string) string { return fmt.Sprintf("{%d+}\r\n%s", len(text), text) }

// snapshot lists all files below a directory but those of some user, with their sizes.
func snapshot(t *testing.T, root, but string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(root, func(path string, st os.FileInfo, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if path == but {
			return filepath.SkipDir
		}
		fmt.Fprintln(&b, path, st.Mode(), st.Size()*int64(map[bool]int{true: 0, false: 1}[st.IsDir()]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// No name of a mailbox, however spelled, leads out of the user's tree: nothing outside of it
// is read, made, renamed or removed.
func TestTraversalByName(t *testing.T) {
	for _, config := range []string{
		"", `layout = "fs"`, "layout = \"fs\"\nutf8 = true\nescape = \"backslash\"", "utf8 = true\nseparator = \".\"",
		`escape = "backslash"`, `escape = "courier"`, "layout = \"fs\"\nmail_dir = \"mAiLdIr\"",
	} {
		t.Run(config, func(t *testing.T) {
			s := serve(t, config, nil)
			b := s.login("bea")
			b.ok(fmt.Sprintf("APPEND INBOX {%d+}\r\nSubject: secret\r\n\r\n%s\r\n", len(secretOf)+21, secretOf))
			b.close()
			c := s.login("ann")
			before := snapshot(t, s.dir, s.maildir("ann"))
			mine := filepath.Base(s.dir)
			var names []string
			for _, name := range []string{
				"..", "../../bea/Maildir", "a/../../../bea/Maildir", "..\\..\\bea", "....//....//bea", "./../../bea/Maildir", "INBOX/../../../bea/Maildir",
				s.maildir("bea"), "/" + s.maildir("bea"), "/etc/passwd", "~bea/Maildir", "~/../../bea/Maildir", "file://" + s.maildir("bea"),
				"../new", "new", "cur", "tmp", "cur/x", ".", "./", "a/./b", "a//b", "a/.", "a/..", "..bea", ".bea", "a/.b", "..a", "a..b", "a.b",
				"\x00", "a\x00", "../../bea/Maildir\x00", "a\x00/../../bea", "..\x00", "a\nb", "a\rb", "\xff\xfe", "\xc0\xae\xc0\xae/", "\xe0\x80\xaf", "%2e%2e%2fbea",
				"．．/bea", "‥/bea", "\u2024\u2024/bea", "\u2215etc", "a\u202eb",
				"\\2e\\2e/\\2e\\2e/bea", "\\2e\\2e\\2f\\2e\\2e\\2fbea", "\\00", "&AC4-&AC4-&AC8-&AC4-&AC4-&AC8-bea",
				mutf7(".."), mutf7("../../bea/Maildir"), mutf7("..") + "/" + mutf7("..") + "/bea", mutf7("/etc/passwd"), mutf7("a\x00b"), mutf7("\x00"), mutf7("/"), mutf7("."), "&", "&-", "&AA", "&AAA-", "&2AA-", "&3AA-", "&AC8-",
				"roost.cache", "roost-keywords", "dovecot-uidlist", "dovecot-uidlist.lock", "subscriptions", "maildirfolder", "mAiLdIr", "roost.index/x",
				strings.Repeat("../", 200) + mine, strings.Repeat("a/", 63) + "..", strings.Repeat("é", 200), strings.Repeat("x", 255), strings.Repeat("x", 256),
			} {
				names = append(names, name)
				if !strings.ContainsRune(name, '/') || !strings.Contains(config, `separator = "."`) {
					continue
				}
				names = append(names, strings.ReplaceAll(name, "/", "."))
			}
			for _, name := range names {
				n := literal(name)
				for _, command := range []string{
					"STATUS " + n + " (MESSAGES)", "EXAMINE " + n, "CREATE " + n, "SELECT " + n, "SUBSCRIBE " + n, "UNSUBSCRIBE " + n,
					"RENAME INBOX " + n, "RENAME " + n + " mine", "LIST \"\" " + n, "LIST " + n + " \"*\"", "LIST " + n + " %/%/%", "LSUB " + n + " \"*\"", "XLIST " + n + " \"*\"",
					"APPEND " + n + " {4+}\r\nx: y", "COPY 1 " + n, "MOVE 1 " + n, "GETMETADATA " + n + " /private/comment", "SETMETADATA " + n + " (/private/comment \"x\")",
					"ESEARCH IN (MAILBOXES " + n + ") ALL", "NOTIFY SET (MAILBOXES " + n + " (MessageNew MessageExpunge))", "NOTIFY NONE", "CREATE " + n + " (USE (\\Sent))", "DELETE " + n, "CLOSE", "DELETE mine",
				} {
					untagged, answer := c.do(command)
					if answer == "" || !strings.HasPrefix(answer, "OK") && !strings.HasPrefix(answer, "NO") && !strings.HasPrefix(answer, "BAD") {
						t.Fatalf("%q: answered %q", command, answer)
					}
					if strings.Contains(untagged, secretOf) || strings.Contains(untagged+answer, s.dir) || strings.Contains(untagged, "/bea") && strings.HasPrefix(command, "L") && !strings.Contains(command, "INBOX") && strings.Contains(untagged, "passwd") {
						t.Errorf("%q: %q %q", command, untagged, answer)
					}
					if strings.HasPrefix(command, "EXAMINE") && strings.HasPrefix(answer, "OK") {
						if got := c.ok("UID FETCH 1:* (BODY.PEEK[])"); strings.Contains(got, secretOf) {
							t.Errorf("%q: %q", command, got)
						}
					}
				}
			}
			if after := snapshot(t, s.dir, s.maildir("ann")); withoutLog(after) != withoutLog(before) {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			c.ok("EXAMINE INBOX")
		})
	}
}

// withoutLog leaves out what the server itself keeps, of logins and as caches.
func withoutLog(list string) string {
	var b strings.Builder
	for line := range strings.Lines(list) {
		if !strings.Contains(line, "/server") && !strings.Contains(line, "/roost.") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Somebody with a shell may write in a Maildir: they swap folders, their directories and their
// files for links to what is not theirs, while the server works on them. Nothing outside
// is ever read, written or removed.
func TestLinksThatAreSwappedIn(t *testing.T) {
	for _, config := range []string{"", `layout = "fs"`} {
		t.Run(config, func(t *testing.T) {
			s := serve(t, config, nil)
			s.login("bea").close()
			s.deliver("bea", "1000000000.M1P1.host", "Subject: secret\r\n\r\n"+secretOf+"\r\n")
			outside := filepath.Join(s.dir, "outside")
			for _, dir := range []string{"cur", "new", "tmp"} {
				if err := os.MkdirAll(filepath.Join(outside, dir), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(outside, "cur", "1000000000.M2P1.host:2,S"), []byte("Subject: x\r\n\r\n"+secretOf+"\r\n"), 0o666); err != nil {
				t.Fatal(err)
			}
			if err := neighbour.Own(outside); err != nil { // the server's user could
				t.Fatal(err)
			}
			before := snapshot(t, outside, "") + snapshot(t, s.maildir("bea"), "")
			c := s.login("ann")
			c.ok("CREATE swapped")
			folder := ".swapped"
			if config != "" {
				folder = "swapped"
			}
			// The one who swaps must not be led outside either.
			tree, err := os.OpenRoot(s.maildir("ann"))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			var stop atomic.Bool
			swapped := make(chan int)
			go func() { // ends when the commands are through
				n := 0
				for ; !stop.Load(); n++ {
					swap(tree, folder, outside, s.maildir("bea"), n)
				}
				swapped <- n
			}()
			// How often a command finds the folder whole is for the scheduler to say: on until each
			// has, for one that never works is not attacked.
			worked, tested := map[string]int{}, []string{"APPEND", "SELECT", "FETCH", "STORE", "SEARCH", "COPY", "MOVE", "SETMETADATA", "RENAME"}
			never := func() []string {
				return slices.DeleteFunc(slices.Clone(tested), func(command string) bool { return worked[command] > 0 })
			}
			for i := 0; i < 60 || i < 5000 && len(never()) > 0; i++ {
				for _, command := range []string{
					"CREATE swapped", "CREATE swapped", "APPEND swapped (kw" + fmt.Sprint(i%40) + ") {18+}\r\nSubject: mine\r\n\r\nx", "SELECT swapped", "FETCH 1:* (UID FLAGS BODY.PEEK[])", "STORE 1:* +FLAGS (\\Seen kw)",
					"SEARCH TEXT account", "COPY 1:* INBOX", "MOVE 1 INBOX", "STORE 1 +FLAGS (\\Deleted)", "EXPUNGE", "UNSELECT", "STATUS swapped (MESSAGES SIZE)", "LIST \"\" * RETURN (STATUS (MESSAGES))",
					"SETMETADATA swapped (/private/comment \"x\")", "RENAME swapped other", "RENAME other swapped",
				} {
					untagged, answer := c.do(command)
					if strings.HasPrefix(answer, "OK") {
						worked[strings.Fields(command)[0]]++
					}
					// It may be told BYE, for what it looks at is taken away.
					if answer == "" || strings.Contains(untagged, "* BYE ") {
						if !strings.Contains(untagged, "* BYE ") {
							t.Errorf("%q: dropped after %q", command, untagged)
						}
						c.close()
						c = s.login("ann")
					}
					if strings.Contains(untagged, secretOf) || strings.Contains(untagged, "root:") {
						t.Fatalf("%q: %q", command, untagged)
					}
				}
			}
			stop.Store(true)
			if t.Failed() {
				t.Log(s.Log())
			}
			t.Logf("%d swaps; worked: %v", <-swapped, worked)
			if none := never(); len(none) > 0 {
				t.Errorf("%v never worked: no attack on them", none)
			}
			c.close()
			c = s.login("ann")
			c.ok("SELECT INBOX")
			if got := c.answered("FETCH 1:* (BODY.PEEK[])", "OK", "NO"); strings.Contains(got, secretOf) || strings.Contains(got, "root:") {
				t.Errorf("%q", got)
			}
			if after := snapshot(t, outside, "") + snapshot(t, s.maildir("bea"), ""); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// swap puts links into a folder of a Maildir, and takes them away again.
func swap(tree *os.Root, folder, outside, another string, n int) {
	const aside = "tmp/aside"
	within := func(name string) string { return filepath.Join(folder, name) }
	secret := filepath.Join(outside, "cur", "1000000000.M2P1.host:2,S")
	target := []string{outside, another, "/etc", "../../bea/Maildir"}[n/8%4]
	// instead lets a link stand where something was.
	instead := func(name, target string) {
		if tree.Rename(name, aside) != nil {
			return
		}
		tree.Symlink(target, name)
		if n%3 == 0 {
			time.Sleep(100 * time.Microsecond) // long enough to be walked into
		}
		if st, err := tree.Lstat(name); err == nil && st.Mode()&os.ModeSymlink != 0 {
			tree.Remove(name)
		}
		if tree.Rename(aside, name) != nil {
			tree.RemoveAll(aside)
		}
	}
	switch n % 8 {
	case 0:
		instead(folder, target)
		time.Sleep(2 * time.Millisecond) // else nothing is ever there for long enough
	case 1, 2, 3: // a directory of the folder
		dir := []string{"cur", "new", "tmp"}[n%3]
		instead(within(dir), filepath.Join(target, dir))
	case 4, 5: // its messages
		d, err := tree.Open(within("cur"))
		if err != nil {
			return
		}
		names, _ := d.Readdirnames(3)
		d.Close()
		for _, name := range names {
			instead(within("cur/"+name), secret)
		}
	case 6: // the server's files
		instead(within([]string{"dovecot-uidlist", "dovecot-keywords", "roost.cache", "roost.index", "roost-keywords", "roost-metadata"}[n/8%6]), secret)
	case 7: // a lock, and a message that is a link from the start
		tree.Symlink("/etc/passwd", within(fmt.Sprintf("new/1000000000.M%dP2.host", n)))
		tree.Symlink(secret, within("dovecot-uidlist.lock"))
		tree.Remove(within("dovecot-uidlist.lock"))
		tree.Remove(within(fmt.Sprintf("new/1000000000.M%dP2.host", n)))
	}
}

// Patterns of LIST that have many ways to match, against folders as deep as they may be.
func TestPatternsWithManyWays(t *testing.T) {
	s := serve(t, `layout = "fs"`, nil)
	c := s.login("ann")
	deep := strings.TrimSuffix(strings.Repeat("aaa/", 60), "/")
	c.ok("CREATE " + deep)
	for i := range 300 {
		c.ok(fmt.Sprintf("CREATE aaa/aaa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa%d", i))
	}
	for _, pattern := range []string{"%*", "*%", "*a", "%a", "%/", "*/", "*%*a%/", "**", "a*"} {
		s.linear("LIST "+pattern, 400, func(n int) {
			c.answered("LIST \"\" \""+strings.Repeat(pattern, n/len(pattern))+"b\"", "OK")
		})
		s.attacked("LIST "+pattern, 32<<20, func() {
			c.answered("LIST \"\" \""+strings.Repeat(pattern, 16_000/len(pattern))+"\"", "OK")
		})
	}
	s.attacked("many patterns", 32<<20, func() {
		c.answered("LIST \"\" ("+strings.Repeat("%*%*a ", 2500)+"x)", "OK", "NO [LIMIT]")
		c.answered("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" ("+strings.Repeat("%*%*a ", 2500)+"x) RETURN (CHILDREN STATUS (MESSAGES))", "OK", "NO [LIMIT]")
		c.answered("LSUB \"\" "+strings.Repeat("%*", 8000), "OK")
		c.answered("LSUB \""+strings.Repeat("*", 8000)+"\" "+strings.Repeat("%", 8000), "OK")
	})
}
