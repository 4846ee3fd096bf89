package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/klauspost/compress/flate"
)

// client speaks just enough IMAP to time a server and not itself.
type client struct {
	conn net.Conn
	w    io.Writer
	r    *bufio.Reader
	n    int // commands so far
	read int // bytes so far
}

// dial connects, over TLS where secure, and logs in.
func dial(addr string, secure bool) (*client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	c := &client{conn: conn, w: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	if _, err := c.line(); err != nil {
		conn.Close()
		return nil, err
	}
	if _, err := c.do("LOGIN " + user + " " + password); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// line reads one line; this client asks for no literals.
func (c *client) line() (string, error) {
	l, err := c.r.ReadString('\n')
	c.read += len(l)
	return strings.TrimSuffix(l, "\r\n"), err
}

// do sends a command and returns the untagged lines before its OK.
func (c *client) do(command string) ([]string, error) {
	c.n++
	tag := fmt.Sprintf("a%d", c.n)
	if _, err := fmt.Fprintf(c.w, "%s %s\r\n", tag, command); err != nil {
		return nil, err
	}
	return c.answer(tag, command)
}

// append adds a message.
func (c *client) append(mailbox, text string) error {
	c.n++
	tag := fmt.Sprintf("a%d", c.n)
	if _, err := fmt.Fprintf(c.conn, "%s APPEND %s {%d}\r\n", tag, mailbox, len(text)); err != nil {
		return err
	}
	if l, err := c.line(); err != nil || !strings.HasPrefix(l, "+") {
		return fmt.Errorf("APPEND: %q, %w", l, err)
	}
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", text); err != nil {
		return err
	}
	_, err := c.answer(tag, "APPEND")
	return err
}

// answer reads up to the OK of tag.
func (c *client) answer(tag, command string) ([]string, error) {
	var lines []string
	for {
		l, err := c.line()
		if err != nil {
			return lines, err
		}
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			if !strings.HasPrefix(rest, "OK") {
				return lines, fmt.Errorf("%s: %s", command, rest)
			}
			return lines, nil
		}
		lines = append(lines, l)
	}
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
	if _, err := fmt.Fprintf(c.w, "i IDLE\r\n"); err != nil {
		return err
	}
	for {
		l, err := c.line()
		if err != nil {
			return err
		}
		if strings.HasPrefix(l, "+") {
			return nil
		}
	}
}

// exists reads up to the next EXISTS line.
func (c *client) exists() (n int, err error) {
	for {
		l, err := c.line()
		if err != nil {
			return 0, err
		}
		if _, err := fmt.Sscanf(l, "* %d EXISTS", &n); err == nil && strings.HasSuffix(l, "EXISTS") {
			return n, nil
		}
	}
}

func (c *client) close() { c.conn.Close() }
