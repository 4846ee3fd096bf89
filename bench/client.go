package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
)

// client speaks just enough IMAP to time a server and not itself: it keeps no lines and
// no literals, but counts and sums what it sees.
type client struct {
	conn   net.Conn
	w      io.Writer
	r      *bufio.Reader
	n      int    // commands so far
	read   int64  // bytes so far
	line   []byte // the last one, where it did not fit into r
	all    []byte // the last answer that was read as a whole
	sums   bool   // literals are summed
	detach func() bool
}

// castagnoli sums what is fetched: processors have it built in.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf a text, to compare it with another server's.
func sumOf(s string) uint32 { return crc32.Checksum([]byte(s), castagnoli) }

// connect dials and reads the greeting. The connection ends with ctx.
func connect(ctx context.Context, addr string, secure bool) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	c := &client{conn: conn, w: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	c.detach = context.AfterFunc(ctx, func() { conn.Close() })
	if _, err := c.readLine(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// dial connects and logs in.
func dial(ctx context.Context, addr string, secure bool, user, password string) (*client, error) {
	c, err := connect(ctx, addr, secure)
	if err != nil {
		return nil, err
	}
	if _, err := c.do("LOGIN %s %s", user, password); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// readLine reads one, without its CRLF. It is valid until the next one is read.
func (c *client) readLine() ([]byte, error) {
	l, err := c.r.ReadSlice('\n')
	c.read += int64(len(l))
	if errors.Is(err, bufio.ErrBufferFull) {
		c.line = c.line[:0]
		for errors.Is(err, bufio.ErrBufferFull) {
			c.line = append(c.line, l...)
			l, err = c.r.ReadSlice('\n')
			c.read += int64(len(l))
		}
		c.line = append(c.line, l...)
		l = c.line
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(l[:len(l)-1], []byte("\r")), nil
}

// answer is what came of a command.
type answer struct {
	rows     int    // FETCH responses
	numbers  uint64 // the sum of their message numbers
	bytes    int64  // of all of it, as sent
	literals int64  // bytes in literals
	sum      uint32 // of the literals' bytes, in their order, where the client sums
	done     string // what follows the tag
	lines    []string
}

// find gives what follows prefix in an untagged line that begins with it.
func (a *answer) find(prefix string) string {
	for _, l := range a.lines {
		if rest, ok := strings.CutPrefix(l, prefix); ok {
			return rest
		}
	}
	return ""
}

// do sends a command and reads up to its OK.
func (c *client) do(format string, args ...any) (*answer, error) {
	tag, err := c.send(format, args...)
	if err != nil {
		return nil, err
	}
	return c.await(tag, nil)
}

// send begins a command and gives its tag.
func (c *client) send(format string, args ...any) (string, error) {
	c.n++
	tag := "a" + strconv.Itoa(c.n)
	_, err := fmt.Fprintf(c.w, tag+" "+format+"\r\n", args...)
	return tag, err
}

// await reads up to the OK of tag. FETCH rows go to each, where given, without what follows
// their first literal; other untagged lines are kept.
func (c *client) await(tag string, each func(row []byte)) (*answer, error) {
	a := &answer{}
	before := c.read
	prefix := []byte(tag + " ")
	for {
		l, err := c.readLine()
		if err != nil {
			return a, fmt.Errorf("the server hung up: %w", err)
		}
		if rest, ok := bytes.CutPrefix(l, prefix); ok {
			a.done, a.bytes = string(rest), c.read-before
			if !strings.HasPrefix(a.done, "OK") {
				return a, errors.New(a.done)
			}
			return a, nil
		}
		if n, ok := fetched(l); ok {
			a.rows++
			a.numbers += n
			if each != nil {
				each(l)
			}
		} else {
			a.lines = append(a.lines, string(l))
		}
		for {
			n, ok := literal(l)
			if !ok {
				break
			}
			if err := c.skip(n, a); err != nil {
				return a, err
			}
			if l, err = c.readLine(); err != nil {
				return a, err
			}
		}
	}
}

// whole sends a command and times the answer until its last byte is here; only then it
// looks at it, as await does. What is timed costs this side no more than reading.
func (c *client) whole(each func(row []byte), format string, args ...any) (*answer, time.Duration, error) {
	began := time.Now()
	tag, err := c.send(format, args...)
	if err != nil {
		return nil, 0, err
	}
	done := []byte("\n" + tag + " ")
	c.all = append(c.all[:0], '\n')
	for {
		if len(c.all)+32<<10 > cap(c.all) {
			c.all = slices.Grow(c.all, 2*len(c.all)+64<<10)
		}
		n, err := c.r.Read(c.all[len(c.all):cap(c.all)])
		c.all = c.all[:len(c.all)+n]
		if err != nil {
			return nil, 0, fmt.Errorf("the server hung up: %w", err)
		}
		if l := c.all; l[len(l)-1] == '\n' {
			last := bytes.LastIndexByte(l[:len(l)-1], '\n')
			if bytes.HasPrefix(l[max(last, 0):], done) {
				break
			}
		}
	}
	took := time.Since(began)
	c.read += int64(len(c.all) - 1)
	read := &client{r: bufio.NewReaderSize(bytes.NewReader(c.all[1:]), 64<<10), sums: c.sums}
	a, err := read.await(tag, each)
	return a, took, err
}

// skip reads a literal and sums it.
func (c *client) skip(n int, a *answer) error {
	a.literals += int64(n)
	c.read += int64(n)
	for n > 0 {
		b, err := c.r.Peek(1)
		if err == nil {
			b, err = c.r.Peek(min(n, c.r.Buffered()))
		}
		if err != nil {
			return err
		}
		if c.sums {
			a.sum = crc32.Update(a.sum, castagnoli, b)
		}
		n -= len(b)
		c.r.Discard(len(b)) // they are there
	}
	return nil
}

// fetched reads "* 12 FETCH (".
func fetched(l []byte) (n uint64, ok bool) {
	rest, ok := bytes.CutPrefix(l, []byte("* "))
	if !ok {
		return 0, false
	}
	i := 0
	for ; i < len(rest) && '0' <= rest[i] && rest[i] <= '9'; i++ {
		n = n*10 + uint64(rest[i]-'0')
	}
	return n, i > 0 && bytes.HasPrefix(rest[i:], []byte(" FETCH "))
}

// literal reads the size of one that l announces at its end.
func literal(l []byte) (n int, ok bool) {
	if len(l) < 3 || l[len(l)-1] != '}' {
		return 0, false
	}
	open := bytes.LastIndexByte(l, '{')
	if open < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(string(l[open+1 : len(l)-1]))
	return n, err == nil
}

// append adds messages by one command, by literals that wait for nobody.
func (c *client) append(mailbox string, texts ...[]byte) error {
	tag, err := c.sendAppend(mailbox, texts...)
	if err != nil {
		return err
	}
	_, err = c.await(tag, nil)
	return err
}

func (c *client) sendAppend(mailbox string, texts ...[]byte) (string, error) {
	c.n++
	tag := "a" + strconv.Itoa(c.n)
	out := []byte(tag + " APPEND " + mailbox)
	for _, text := range texts {
		out = fmt.Appendf(out, " {%d+}\r\n", len(text))
		out = append(out, text...)
	}
	_, err := c.w.Write(append(out, "\r\n"...))
	return tag, err
}

// compress begins to, both ways.
func (c *client) compress() error {
	if _, err := c.do("COMPRESS DEFLATE"); err != nil {
		return err
	}
	// What a thousand clients would hold to compress well is not what is measured.
	c.w, c.r = flate.NewStatelessWriter(c.conn), bufio.NewReader(flate.NewReader(c.r))
	return nil
}

// idle enters IDLE.
func (c *client) idle() error {
	if _, err := io.WriteString(c.w, "i IDLE\r\n"); err != nil {
		return err
	}
	for {
		l, err := c.readLine()
		if err != nil || bytes.HasPrefix(l, []byte("+")) {
			return err
		}
	}
}

// leaveIdle ends it.
func (c *client) leaveIdle() error {
	if _, err := io.WriteString(c.w, "DONE\r\n"); err != nil {
		return err
	}
	_, err := c.await("i", nil)
	return err
}

// exists reads up to the next EXISTS line.
func (c *client) exists() (int, error) {
	for {
		l, err := c.readLine()
		if err != nil {
			return 0, err
		}
		if rest, ok := bytes.CutSuffix(l, []byte(" EXISTS")); ok {
			return strconv.Atoi(string(bytes.TrimPrefix(rest, []byte("* "))))
		}
	}
}

// small makes the connection's buffer fit a line: for who holds ten thousand of them.
func (c *client) small() error {
	if c.r.Buffered() > 0 {
		return errors.New("the server said more than was read")
	}
	c.r = bufio.NewReaderSize(c.conn, 512)
	return nil
}

func (c *client) close() {
	c.detach()
	c.conn.Close()
}
