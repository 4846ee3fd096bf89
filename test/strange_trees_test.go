package test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/test/neighbour"
)

// rawClient talks to a server line by line.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func dialRaw(t *testing.T, r *neighbour.Roost) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", r.PlainAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Minute)) // a watchdog, no measure
	c := &rawClient{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.line()
	c.want("OK", "LOGIN ann secret")
	return c
}

func (c *rawClient) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// do sends a command and gives all that came, literals too, and the tagged answer
// without its tag.
func (c *rawClient) do(command string) (all, tagged string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("a%d", c.n)
	fmt.Fprintf(c.conn, "%s %s\r\n", tag, command)
	var b strings.Builder
	for {
		line := c.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return b.String(), rest
		}
		b.WriteString(line + "\n")
		if i := strings.LastIndexByte(line, '{'); i >= 0 && strings.HasSuffix(line, "}") {
			var n int64
			fmt.Sscanf(line[i:], "{%d}", &n)
			if _, err := io.CopyN(&b, c.r, n); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// want fails unless the tagged answer begins so.
func (c *rawClient) want(prefix, command string) (all, tagged string) {
	c.t.Helper()
	all, tagged = c.do(command)
	if !strings.HasPrefix(tagged, prefix) {
		c.t.Errorf("%s: %s, want %s", command, tagged, prefix)
	}
	return all, tagged
}

// serveTree serves a tree that a test lays out. make is given its root.
func serveTree(t *testing.T, keys string, make func(root string)) (root string, r *neighbour.Roost) {
	t.Helper()
	top, remove, err := neighbour.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	root = filepath.Join(top, "ann", "Maildir")
	for _, d := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	make(root)
	if err := neighbour.Own(filepath.Join(top, "ann")); err != nil {
		t.Fatal(err)
	}
	r, err = neighbour.StartRoost(neighbour.RoostOptions{
		Bin: buildOnce(t), Dir: filepath.Join(top, "roost"), Location: root, Users: map[string]string{"ann": "secret"}, Extra: keys,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", r.Log())
		}
	})
	return root, r
}

func zipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// A client fetches a mailbox in which many things are wrong: it gets all that is right,
// and a NO that says what is not.
func TestStrangeMailboxThroughTheServer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a server: run without -short")
	}
	text := []byte("Subject: fine\r\n\r\ntext\r\n")
	root, r := serveTree(t, "[limits]\nunpacked = \"1MiB\"", func(root string) {
		gz := zipped(bytes.Repeat(text, 100))
		for name, b := range map[string][]byte{
			"1.fine.h:2,": text, "2.crypt.h:2,": []byte("CRYPTED\x03\x07\x02"), "3.gone.h:2,": text, "4.cut.h:2,": gz[:len(gz)/2],
			"5.bomb.h:2,": zipped(make([]byte, 2<<20)), "6.empty.h:2,": nil, "7.zip.h:2,": zipped(text), "8.fine.h,S=3,W=5:2,": text, "9.xz.h:2,": []byte("\xfd7zXZ\x00"),
		} {
			if err := os.WriteFile(filepath.Join(root, "cur", name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{
			syscall.Mkfifo(filepath.Join(root, "cur", "0.fifo.h:2,"), 0o600),
			os.Symlink("/etc/passwd", filepath.Join(root, "cur", "10.link.h:2,")),
			os.Mkdir(filepath.Join(root, "cur", "11.dir.h:2,"), 0o700),
			os.Mkdir(filepath.Join(root, ".Bad"), 0o700),
			os.WriteFile(filepath.Join(root, ".Bad", "cur"), nil, 0o600),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	c := dialRaw(t, r)
	if all, _ := c.want("OK", "SELECT INBOX"); !strings.Contains(all, "* 9 EXISTS") {
		t.Errorf("SELECT: %s", all)
	}
	const items = "(UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])"
	for range 2 {
		all, tagged := c.want("NO [CANNOT] Message is stored with mail_crypt, which is not supported (UID 2)", "FETCH 1:* "+items)
		for _, uid := range []int{1, 3, 6, 7, 8} {
			if !strings.Contains(all, fmt.Sprintf("FETCH (UID %d ", uid)) {
				t.Errorf("UID %d is not answered: %s", uid, tagged)
			}
		}
		if n := strings.Count(all, "RFC822.SIZE 23 "); n != 4 {
			t.Errorf("%d messages of 23 bytes, want 4:\n%s", n, all)
		}
	}
	for uid, want := range map[int]string{
		4: "NO [CORRUPTION] Message is damaged (UID 4)", 5: "NO [LIMIT] Message is compressed, and too big when unpacked (UID 5)",
		9: "NO [CANNOT] Message is stored with xz",
	} {
		c.want(want, fmt.Sprintf("UID FETCH %d %s", uid, items))
		c.want("OK", fmt.Sprintf("UID FETCH %d (UID FLAGS INTERNALDATE)", uid))
	}
	if all, _ := c.want("OK", "UID SEARCH TEXT fine"); !strings.Contains(all, "* SEARCH 1 3 7 8\n") {
		t.Errorf("SEARCH: %s", all)
	}
	c.want("OK", `STORE 1:* +FLAGS.SILENT (\Flagged Work)`)
	c.want("OK", "CREATE Copies")
	c.want("OK", `COPY 1:* Copies`)
	c.want("NO [UNAVAILABLE]", "SELECT Bad")
	c.want("OK", `LIST "" *`)
	c.want("OK", "STATUS Copies (MESSAGES)")
	for _, name := range []string{"2.crypt", "4.cut", "5.bomb", "9.xz", "0.fifo", "10.link", "11.dir"} {
		if n := strings.Count(r.Log(), name); n != 1 {
			t.Errorf("%d lines on %s", n, name)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "cur", "0.fifo.h:2,")); err != nil {
		t.Error(err)
	}
}

// The length of a literal was promised when the file became shorter: the bytes that are
// there come, no others, and the connection ends; the next one gets what is there now.
func TestMessageThatShrinksWhileItIsFetched(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a server: run without -short")
	}
	line := strings.Repeat("x", 78) + "\r\n"
	text := []byte("Subject: big\r\n\r\n" + strings.Repeat(line, 400_000)) // 32 MB: more than any socket's buffer
	root, r := serveTree(t, "", func(root string) {
		if err := os.WriteFile(filepath.Join(root, "cur", "1.big.h:2,"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	c, other := dialRaw(t, r), dialRaw(t, r)
	c.want("OK", "SELECT INBOX")
	fmt.Fprintf(c.conn, "f FETCH 1 (UID BODY.PEEK[])\r\n")
	if first := c.line(); !strings.HasSuffix(first, fmt.Sprintf("{%d}", len(text))) {
		t.Fatalf("%s", first)
	}
	const left = 20 << 20
	if err := os.Truncate(filepath.Join(root, "cur", "1.big.h:2,"), left); err != nil {
		t.Fatal(err)
	}
	other.want("OK", "NOOP")
	got, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) > left || !bytes.HasPrefix(text, got) {
		t.Errorf("%d bytes came that are not those of the file, which has %d now", len(got), left)
	}
	c = dialRaw(t, r)
	c.want("OK", "SELECT INBOX")
	if all, _ := c.want("OK", "FETCH 1 (RFC822.SIZE BODY.PEEK[]<0.20>)"); !strings.Contains(all, fmt.Sprintf("RFC822.SIZE %d ", left)) {
		t.Errorf("%s", all)
	}
	if !strings.Contains(r.Log(), `reason="a message ended before the length that was promised"`) {
		t.Error("the log does not say why the connection ended")
	}
	if n := strings.Count(r.Log(), "1.big.h"); n != 1 {
		t.Errorf("%d lines on the file", n)
	}
}

// A tree that cannot be written is selected READ-ONLY, and read like any other.
func TestReadOnlyTreeThroughTheServer(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a server: run without -short")
	}
	root, r := serveTree(t, "", func(root string) {
		for i := range 3 {
			if err := os.WriteFile(filepath.Join(root, "cur", fmt.Sprintf("%d.m.h:2,", i)), []byte("Subject: s\r\n\r\nbody\r\n"), 0o444); err != nil {
				t.Fatal(err)
			}
		}
		os.Remove(filepath.Join(root, "tmp"))
		for _, d := range []string{"cur", "new", ""} {
			if err := os.Chmod(filepath.Join(root, d), 0o555); err != nil {
				t.Fatal(err)
			}
		}
	})
	defer os.Chmod(root, 0o755)
	c := dialRaw(t, r)
	if all, tagged := c.want("OK [READ-ONLY]", "SELECT INBOX"); !strings.Contains(all, "* 3 EXISTS") || !strings.Contains(all, "[PERMANENTFLAGS ()]") {
		t.Errorf("SELECT: %s%s", all, tagged)
	}
	if all, _ := c.want("OK", "FETCH 1:* (FLAGS BODY[])"); strings.Count(all, "body") != 3 {
		t.Errorf("FETCH: %s", all)
	}
	if all, _ := c.want("OK", "SEARCH BODY body"); !strings.Contains(all, "* SEARCH 1 2 3\n") {
		t.Errorf("SEARCH: %s", all)
	}
	c.want("NO [NOPERM]", `STORE 1 +FLAGS (\Seen)`)
	c.want("NO [NOPERM]", "COPY 1 INBOX")
	c.want("NO", "CREATE New")
	c.want("NO", "EXPUNGE")
	c.want("OK", "NOOP")
}
