package attack

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"roost/test/neighbour"
)

// zeros are n MiB of them, as a message.
func zeros(w io.Writer, mib int) {
	io.WriteString(w, "Subject: bomb\r\n\r\n")
	block := bytes.Repeat([]byte{'0'}, 1<<20)
	for range mib {
		w.Write(block)
	}
}

// A stream that is a thousand times as long when it is unpacked holds no more memory than
// another, and what is in it counts against the limits as it does elsewhere.
func TestBombInACompressedStream(t *testing.T) {
	s := serve(t, "", nil)
	for _, c := range []struct {
		name, begin string
		mib         int
		want        string
	}{
		{"line", "b ", 300, "* BYE "},
		{"literal", "b APPEND INBOX {1000000000+}\r\n", 300, "* BYE "},
		{"refused command", "b FROB {60000000+}\r\n", 57, "b BAD"},
		{"empty lines", "b NOOP\r\n", 0, "b OK"},
	} {
		s.attacked(c.name, 24<<20, func() {
			cl := s.login("ann")
			defer cl.close()
			cl.ok("COMPRESS DEFLATE")
			var packed bytes.Buffer
			w, err := flate.NewWriter(&packed, 9)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, c.begin)
			fill := byte('0')
			if c.mib == 0 {
				c.mib, fill = 300, '\n'
			}
			block := bytes.Repeat([]byte{fill}, 1<<20)
			for range c.mib {
				w.Write(block)
			}
			io.WriteString(w, strings.Repeat("0", 60_000_000-57<<20)+"\r\nc LOGOUT\r\n")
			w.Flush()
			t.Logf("%s: %d bytes", c.name, packed.Len())
			go cl.conn.Write(packed.Bytes()) // ends when it is written, or the connection ends
			got, _ := io.ReadAll(flate.NewReader(cl.r))
			if !strings.Contains(string(got), c.want) || !strings.Contains(string(got), "* BYE ") {
				t.Errorf("%s: %.200q, want %s", c.name, got, c.want)
			}
		})
	}
	// Streams that are none, and end anywhere.
	for _, text := range []string{"\xff\xff\xff\xff", "\x05\xc0\x81\x00\x00", "\x00\x00\x00\x01\x00", "\x04" + strings.Repeat("\xaa", 1000), strings.Repeat("\x00\x00\x00\xff\xff", 100_000)} {
		cl := s.login("ann")
		cl.ok("COMPRESS DEFLATE")
		cl.send(text)
		cl.conn.(*net.TCPConn).CloseWrite()
		cl.rest()
		cl.close()
	}
}

// Messages that another server left packed, and that are much longer when they are
// unpacked: in little memory, and not at all beyond limits.unpacked.
func TestBombsInPackedMessages(t *testing.T) {
	s := serve(t, "[limits]\nunpacked = \"64MiB\"", nil)
	c := s.login("ann")
	pack := func(name string, mib int) string {
		var b bytes.Buffer
		switch name {
		case "gzip":
			w, _ := gzip.NewWriterLevel(&b, 9)
			zeros(w, mib)
			w.Close()
		case "zstd":
			w, _ := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
			zeros(w, mib)
			w.Close()
		case "bzip2":
			bin, err := neighbour.Find("bzip2", "bzip2")
			if err != nil {
				return ""
			}
			cmd := exec.Command(bin, "-1")
			cmd.Stdout = &b
			in, err := cmd.StdinPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			zeros(in, mib)
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
		}
		return b.String()
	}
	for _, name := range []string{"gzip", "zstd", "bzip2"} {
		for _, size := range []struct {
			mib    int
			served bool
		}{{60, true}, {1000, false}} {
			if name == "bzip2" && size.mib > 100 {
				size.mib = 100
			}
			packed := pack(name, size.mib)
			if packed == "" {
				t.Logf("%s is not installed", name)
				continue
			}
			c.ok("SELECT INBOX")
			c.ok("UID STORE 1:* +FLAGS.SILENT (\\Deleted)")
			c.ok("EXPUNGE")
			s.deliver("ann", "1000000000.M1P1.host", packed)
			c.ok("NOOP")
			for _, command := range []string{
				"FETCH 1 (RFC822.SIZE)", "FETCH 1 (ENVELOPE BODYSTRUCTURE)", "FETCH 1 (BODY.PEEK[])", "FETCH 1 (BODY.PEEK[]<50000000.10> BODY.PEEK[]<10.10> BODY.PEEK[]<40000000.10>)",
				"SEARCH TEXT nowhere", "SORT (SIZE SUBJECT) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "FETCH 1 (PREVIEW)", "SEARCH LARGER 10000000",
			} {
				s.attacked(name+" "+command, 48<<20, func() {
					want := []string{"OK", "NO"}
					if size.served {
						want = want[:1]
					}
					untagged := c.answered(command, want...)
					if strings.HasPrefix(command, "FETCH 1 (RFC822.SIZE)") != true {
						return
					}
					if has := strings.Contains(untagged, "RFC822.SIZE 629"); has != size.served {
						t.Errorf("%s of %d MiB: %.200q", name, size.mib, untagged)
					}
				})
			}
		}
	}
}
