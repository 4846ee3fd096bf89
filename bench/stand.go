package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"roost/test/neighbour"
)

// A stand is where one operation meets one side: it gives mailboxes and connections, and
// takes them back when the operation is over.
type stand struct {
	*run
	side     string
	srv      *server // nil at the machine's own
	with     *meeting
	cleanups []func()
}

// meeting is what the sides of one operation know of each other.
type meeting struct {
	bytes int64 // that Roost answered in its last round
}

// cleanup calls f when the operation is over, the last one first.
func (st *stand) cleanup(f func()) { st.cleanups = append(st.cleanups, f) }

func (st *stand) end() {
	for _, f := range slices.Backward(st.cleanups) {
		f()
	}
	st.cleanups = nil
}

// said is the end of what the server has logged: why it failed may stand there.
func (st *stand) said() string {
	if st.srv == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(st.srv.log()), "\n")
	return "; it last logged\n  " + strings.Join(lines[max(0, len(lines)-4):], "\n  ")
}

// dial logs in over TLS.
func (st *stand) dial(user string) (*client, error) {
	return st.dialTo(st.srv.tls, true, user, password)
}

// dialPlain logs in without.
func (st *stand) dialPlain(user string) (*client, error) {
	return st.dialTo(st.srv.addr, false, user, password)
}

func (st *stand) dialTo(addr string, secure bool, user, pass string) (*client, error) {
	c, err := dial(st.ctx, addr, secure, user, pass)
	if err != nil {
		return nil, fmt.Errorf("login of %s: %w", user, err)
	}
	c.sums = st.quick
	st.cleanup(c.close)
	return c, nil
}

// selected is a session that has done so.
func (st *stand) selected(user string) (*client, error) {
	c, err := st.dial(user)
	if err != nil {
		return nil, err
	}
	_, err = c.do("SELECT INBOX")
	return c, err
}

// newUser gives one with an empty Maildir that no server has seen.
func (st *stand) newUser() (string, error) {
	i := st.given[st.side]
	if i >= users && st.srv != nil {
		return "", fmt.Errorf("more than %d users: raise the constant, or take fewer -rounds", users)
	}
	user := userName(i)
	st.given[st.side]++
	return user, makeMaildir(st.maildir(user))
}

// maildir of a user at this side; the machine has its own ones.
func (st *stand) maildir(user string) string {
	return filepath.Join(st.dir, st.side, user, "Maildir")
}

// mailbox gives a user whose INBOX has n messages of the corpus and was never opened.
func (st *stand) mailbox(n int) (string, error) {
	user, err := st.newUser()
	if err != nil {
		return "", err
	}
	return user, st.fill(st.maildir(user), n)
}

// common gives a user of this side that operations share, made when first asked for.
func (st *stand) common(what string, made func() (string, error)) (string, error) {
	key := st.side + " " + what
	user, ok := st.shared[key]
	if !ok {
		var err error
		if user, err = made(); err != nil {
			return "", err
		}
		st.shared[key] = user
	}
	return user, nil
}

// unchanging gives the user of a mailbox that all operations share which change nothing, one
// of each size.
func (st *stand) unchanging(n int) (string, error) {
	return st.common(fmt.Sprint(n), func() (string, error) { return st.mailbox(n) })
}

// opened gives a session in that mailbox.
func (st *stand) opened(n int) (*client, error) {
	user, err := st.unchanging(n)
	if err != nil {
		return nil, err
	}
	return st.selected(user)
}

// anew begins what is done in a session of its own each round, in a mailbox of n messages that
// was opened a moment before and never else.
func anew(n int, do func(st *stand, rec *record, c *client) error) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		return func(rec *record) error {
			user, err := st.mailbox(n)
			if err != nil {
				return err
			}
			c, err := st.selected(user)
			if err != nil {
				return err
			}
			defer c.close()
			return do(st, rec, c)
		}, nil
	}
}

// fill links n messages of the corpus into a Maildir's cur.
func (st *stand) fill(maildir string, n int) error {
	var b strings.Builder
	for i := range n {
		if i%1000 == 0 && st.ctx.Err() != nil {
			return st.ctx.Err()
		}
		m := st.corpus.message(i)
		b.Reset()
		fmt.Fprintf(&b, "%s/cur/%d.M%06dP%d.mail.example.org,S=%d,W=%d:2,%s", maildir, began.Unix()+int64(i)*60, i%1_000_000, 4000+i/1_000_000, m.size, m.crlf, m.flags)
		if err := os.Link(st.corpus.path(i), b.String()); err != nil {
			return err
		}
	}
	if n < 1000 {
		return nil
	}
	// The next fsync of a server would have to write all of these names too.
	d, err := os.Open(maildir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// makeMaildir makes an empty one that belongs to the mail user.
func makeMaildir(dir string) error {
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	return neighbour.Own(filepath.Dir(dir))
}

// echo is what TLS needs to carry what Roost answered: a command, and as many bytes from a
// server that does nothing else.
func echo(secure bool) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		conn, r, err := st.source(secure)
		if err != nil {
			return nil, err
		}
		return func(rec *record) error {
			n := max(st.with.bytes, 1)
			t := time.Now()
			if _, err := fmt.Fprintf(conn, "%d\n", n); err != nil {
				return err
			}
			if _, err := io.CopyN(sink{}, r, n); err != nil {
				return err
			}
			if d := time.Since(t); rec.unit == rate {
				rec.add(float64(n) / d.Seconds())
			} else {
				rec.took(d)
			}
			return nil
		}, nil
	}
}

// sink takes all; it is not io.Discard, which would read by pieces of 8 KiB.
type sink struct{}

func (sink) Write(p []byte) (int, error) { return len(p), nil }

// source is a connection that answers each number with so many bytes.
func (st *stand) source(secure bool) (net.Conn, io.Reader, error) {
	l, err := st.listen(secure)
	if err != nil {
		return nil, nil, err
	}
	go func() { // ends with the connection, or the listener
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		zeros := make([]byte, 64<<10)
		for {
			var n int64
			if _, err := fmt.Fscanf(conn, "%d\n", &n); err != nil {
				return
			}
			for n > 0 {
				k, err := conn.Write(zeros[:min(n, int64(len(zeros)))])
				if err != nil {
					return
				}
				n -= int64(k)
			}
		}
	}()
	conn, err := st.reach(l.Addr().String(), secure)
	return conn, conn, err
}

// listen on loopback until the operation is over, with the servers' own certificate where
// secure.
func (st *stand) listen(secure bool) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	st.closeWith(l)
	if !secure {
		return l, nil
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(st.dir, "etc", "cert.pem"), filepath.Join(st.dir, "etc", "key.pem"))
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), nil
}

// reach connects to what listens, until the operation is over.
func (st *stand) reach(addr string, secure bool) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(st.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	st.closeWith(conn)
	return conn, nil
}

// closeWith closes what may block when the operation is over or the run is interrupted.
func (st *stand) closeWith(c io.Closer) {
	stop := st.onStop(func() { c.Close() })
	st.cleanup(func() { stop(); c.Close() })
}
