package neighbour

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"roost/server/deflate"
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

// Line is what one side said, without CRLF and compression. Literals come as the lines
// they hold.
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
		talk := &talk{conn: n}
		both.Go(func() { t.pass(server, client, talk, true) }) // each ends with either connection
		both.Go(func() { t.pass(client, server, talk, false) })
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

// talk is what one connection says; Tap.mu guards it.
type talk struct {
	conn     int
	compress string        // the tag of a COMPRESS
	packed   [2]*inflation // of server and client, when that was granted
}

// inflation takes compressed bytes as they come.
type inflation struct {
	in  bytes.Buffer
	out *deflate.Reader
}

var errDry = errors.New("nothing more is here")

func (i *inflation) Read(p []byte) (int, error) {
	if i.in.Len() == 0 {
		return 0, errDry
	}
	return i.in.Read(p)
}

// plain gives what b says.
func (i *inflation) plain(b []byte) []byte {
	i.in.Write(b)
	all, _ := io.ReadAll(i.out)
	return all
}

// said notes the lines of what came, and gives the rest.
func (t *Tap) said(k *talk, client bool, line, news []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	side := 0
	if client {
		side = 1
	}
	if p := k.packed[side]; p != nil {
		news = p.plain(news)
	}
	line = append(line, news...)
	for {
		before, after, whole := bytes.Cut(line, []byte("\n"))
		if !whole {
			return line
		}
		text := string(bytes.TrimSuffix(before, []byte("\r")))
		t.lines = append(t.lines, Line{k.conn, client, time.Now(), text})
		line = after
		close(t.more)
		t.more = make(chan struct{})

		tag, rest, _ := strings.Cut(text, " ")
		switch {
		case client && strings.EqualFold(rest, "COMPRESS DEFLATE"):
			k.compress = tag
		case !client && tag == k.compress && strings.HasPrefix(rest, "OK") && k.packed[0] == nil:
			for i := range k.packed {
				k.packed[i] = new(inflation)
				k.packed[i].out = deflate.NewReader(k.packed[i], nil)
			}
			line = k.packed[0].plain(line)
		}
	}
}

// pass passes bytes on, and notes each whole line before the other side has it.
func (t *Tap) pass(to, from *tls.Conn, k *talk, client bool) {
	var line []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		line = t.said(k, client, line, buf[:n])
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
