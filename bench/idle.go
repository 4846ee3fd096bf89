package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// idle measures from the rename into new/ to the EXISTS line at a client that
// idles over TLS. Roost and the machine's own limit take turns, so that what else the
// machine does meets both.
func (r *run) idle() error {
	rounds, each := 40, 25
	if r.quick {
		rounds = 2
	}
	limit, err := r.rawInotify()
	if err != nil {
		return err
	}
	defer limit.close()
	roost, err := r.startRoost("")
	if err != nil {
		return err
	}
	defer roost.Close()
	idling, err := r.idleAt(roost.Addr, "roost")
	if err != nil {
		return fmt.Errorf("roost: %w", err)
	}
	defer idling.close()
	var raw, ours spread
	for range rounds {
		if err := limit.deliver(each, &raw); err != nil {
			return fmt.Errorf("raw inotify: %w", err)
		}
		if err := idling.deliver(each, &ours); err != nil {
			return fmt.Errorf("roost: %w", err)
		}
	}
	out := row{operation: "delivery to EXISTS at an idle client (TLS)", roost: ours.String(), limit: raw.String() + " (raw inotify and a TLS write)"}
	if r.dovecot {
		d, err := r.startDovecot("idle")
		if err != nil {
			return err
		}
		defer d.Close()
		idling, err := r.idleAt(d.TLSAddr, "dovecot")
		if err != nil {
			return fmt.Errorf("dovecot: %w", err)
		}
		defer idling.close()
		var theirs spread
		if err := idling.deliver(40, &theirs); err != nil {
			return fmt.Errorf("dovecot: %w", err)
		}
		out.dovecot = theirs.String()
	}
	r.rows = append(r.rows, out)
	return nil
}

// deliver puts a message into new/ as an MTA does and says when the rename began.
func deliver(maildir string, i int) (time.Time, error) {
	name := fmt.Sprintf("%d.V1I%xM%06d.mail", time.Now().Unix(), i, time.Now().Nanosecond()/1000)
	tmp := filepath.Join(maildir, "tmp", name)
	if err := os.WriteFile(tmp, []byte("Subject: delivery\n\nhello\n"), 0o644); err != nil {
		return time.Time{}, err
	}
	t := time.Now()
	return t, os.Rename(tmp, filepath.Join(maildir, "new", name))
}

// pause lies between two deliveries, so that each is alone.
const pause = 4 * time.Millisecond

// listener is a client that hears of deliveries to one Maildir.
type listener struct {
	maildir string
	n       int          // deliveries so far
	hear    func() error // waits for the next one
	close   func()
}

// deliver adds the times of n deliveries to out.
func (l *listener) deliver(n int, out *spread) error {
	for range n {
		time.Sleep(pause)
		l.n++
		t, err := deliver(l.maildir, l.n)
		if err != nil {
			return err
		}
		if err := l.hear(); err != nil {
			return err
		}
		*out = append(*out, time.Since(t))
	}
	return nil
}

// idleAt is a client that idles in INBOX.
func (r *run) idleAt(addr, server string) (*listener, error) {
	c, err := dial(addr, true)
	if err != nil {
		return nil, err
	}
	if _, err = c.do("SELECT INBOX"); err == nil {
		err = c.idle()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	hear := func() error {
		_, err := c.exists()
		return err
	}
	return &listener{maildir: r.maildir(server), hear: hear, close: c.close}, nil
}

// rawInotify is the least that any server needs: one blocking read of inotify, one
// TLS write of the line, on this machine, in this run.
func (r *run) rawInotify() (*listener, error) {
	if err := r.prepare("limit"); err != nil {
		return nil, err
	}
	dir := r.maildir("limit")
	cert, err := tls.LoadX509KeyPair(filepath.Join(r.dir, "etc", "cert.pem"), filepath.Join(r.dir, "etc", "key.pem"))
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, "new"), unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
		unix.Close(fd)
		return nil, err
	}
	served := make(chan error, 1)
	go func() { // ends when the client is gone
		served <- func() error {
			defer unix.Close(fd)
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			buf := make([]byte, 4096)
			if _, err := conn.Read(buf); err != nil {
				return err
			}
			for {
				if _, err := unix.Read(fd, buf); err != nil {
					return err
				}
				if _, err := conn.Write([]byte("* 1 EXISTS\r\n")); err != nil {
					return err
				}
			}
		}()
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	if _, err := conn.Write([]byte("go\r\n")); err != nil {
		conn.Close()
		return nil, err
	}
	in := bufio.NewReader(conn)
	hear := func() error {
		_, err := in.ReadString('\n')
		return err
	}
	// Two more deliveries let it see that its client is gone.
	stop := func() {
		conn.Close()
		for i := range 100 {
			deliver(dir, -1-i)
			select {
			case <-served:
				return
			case <-time.After(pause):
			}
		}
	}
	return &listener{maildir: dir, hear: hear, close: stop}, nil
}
