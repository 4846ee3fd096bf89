package neighbour

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Tap stands between a client and an IMAPS server, with the server's own
// certificate, and writes down what both say.
type Tap struct {
	Addr string

	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards everything below
	lines []Line
	more  chan struct{} // closed, and made anew, when there are more lines
	conns map[*tls.Conn]struct{}
	ended bool
}

// Line is what one side said, without CRLF. Literals come as the lines they hold.
type Line struct {
	Conn   int  // connections are counted from 1
	Client bool // who said it
	At     time.Time
	Text   string
}

// StartTap taps the IMAPS server at addr, whose cert.pem and key.pem are in certDir.
func StartTap(addr, certDir string) (*Tap, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(certDir, "cert.pem"), filepath.Join(certDir, "key.pem"))
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return nil, err
	}
	t := &Tap{Addr: l.Addr().String(), listener: l, server: addr, more: make(chan struct{}), conns: map[*tls.Conn]struct{}{}}
	t.wg.Go(t.accept) // ends with the listener, in Close
	return t, nil
}

func (t *Tap) accept() {
	for n := 1; ; n++ {
		c, err := t.listener.Accept()
		if err != nil {
			return
		}
		client := c.(*tls.Conn)
		server, err := tls.Dial("tcp", t.server, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			client.Close()
			continue
		}
		if !t.keep(client, server) {
			return
		}
		var both sync.WaitGroup
		both.Go(func() { t.pass(server, client, n, true) }) // each ends with either connection
		both.Go(func() { t.pass(client, server, n, false) })
		t.wg.Go(func() {
			both.Wait()
			t.drop(client, server)
		})
	}
}

// keep remembers two connections for Close, or closes them when that was called already.
func (t *Tap) keep(client, server *tls.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		client.Close()
		server.Close()
		return false
	}
	t.conns[client], t.conns[server] = struct{}{}, struct{}{}
	return true
}

func (t *Tap) drop(client, server *tls.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range []*tls.Conn{client, server} {
		c.Close()
		delete(t.conns, c)
	}
}

// pass passes bytes on, and notes each whole line before the other side has it.
func (t *Tap) pass(to, from *tls.Conn, conn int, client bool) {
	var line []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		line = append(line, buf[:n]...)
		t.mu.Lock()
		for {
			before, after, whole := bytes.Cut(line, []byte("\n"))
			if !whole {
				break
			}
			t.lines = append(t.lines, Line{conn, client, time.Now(), string(bytes.TrimSuffix(before, []byte("\r")))})
			line = after
			close(t.more)
			t.more = make(chan struct{})
		}
		t.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err == nil {
			err = werr
		}
		if errors.Is(err, io.EOF) {
			to.CloseWrite()
			return
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// Lines is what was said since the first so many lines.
func (t *Tap) Lines(since int) []Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines[since:])
}

// More is closed when something is said that Lines, called later, gives.
func (t *Tap) More() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.more
}

// Close ends all connections and waits.
func (t *Tap) Close() error {
	err := t.listener.Close()
	t.mu.Lock()
	t.ended = true
	for c := range t.conns {
		c.Close()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return err
}
