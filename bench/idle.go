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
// idles over TLS.
func (r *run) idle() error {
	n := 1000
	if r.quick {
		n = 50
	}
	limit, err := r.rawInotify(n)
	if err != nil {
		return err
	}
	roost, err := r.startRoost("")
	if err != nil {
		return err
	}
	ours, err := deliveries(roost.Addr, r.maildir("roost"), n)
	roost.Close()
	if err != nil {
		return fmt.Errorf("roost: %w", err)
	}
	out := row{operation: "delivery to EXISTS at an idle client (TLS)", roost: ours.String(), limit: limit.String() + " (raw inotify and a TLS write)"}
	if r.dovecot {
		d, err := r.startDovecot("idle")
		if err != nil {
			return err
		}
		theirs, err := deliveries(d.TLSAddr, r.maildir("dovecot"), min(n, 40))
		d.Close()
		if err != nil {
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

func deliveries(addr, maildir string, n int) (spread, error) {
	c, err := dial(addr, true)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if _, err := c.do("SELECT INBOX"); err != nil {
		return nil, err
	}
	if err := c.idle(); err != nil {
		return nil, err
	}
	var out spread
	for i := range n {
		time.Sleep(pause)
		t, err := deliver(maildir, i)
		if err != nil {
			return nil, err
		}
		if _, err := c.exists(); err != nil {
			return nil, err
		}
		out = append(out, time.Since(t))
	}
	return out, nil
}

// rawInotify is the least that any server needs: one blocking read of inotify, one
// TLS write of the line, on this machine, in this run.
func (r *run) rawInotify(n int) (spread, error) {
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
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, "new"), unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { // ends after n events
		served <- func() error {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			buf := make([]byte, 4096)
			if _, err := conn.Read(buf); err != nil {
				return err
			}
			for range n {
				if _, err := unix.Read(fd, buf); err != nil {
					return err
				}
				if _, err := conn.Write([]byte("* 1 EXISTS\r\n")); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	defer conn.Close()
	if _, err := conn.Write([]byte("go\r\n")); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	var out spread
	for i := range n {
		time.Sleep(pause)
		t, err := deliver(dir, i)
		if err != nil {
			return nil, err
		}
		if _, err := in.ReadString('\n'); err != nil {
			return nil, err
		}
		out = append(out, time.Since(t))
	}
	return out, <-served
}
