package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// countedConn counts writes, tells of each before it is made, and fails those behind the
// first few where it shall.
type countedConn struct {
	net.Conn
	before func(p []byte) // nil: nobody

	mu     sync.Mutex // guards what follows
	writes int
	most   int // nil error for so many; 0: all
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	failed := c.most > 0 && c.writes > c.most
	c.mu.Unlock()
	if c.before != nil {
		c.before(p)
	}
	if failed {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

func (c *countedConn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// gatheringPair is a session's side of a TLS connection whose handshake is done, and the
// client's.
func gatheringPair(t *testing.T) (*heardConn, *countedConn, *tls.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	return gatheringOver(t, ours, theirs)
}

func gatheringOver(t testing.TB, ours, theirs net.Conn) (*heardConn, *countedConn, *tls.Conn) {
	t.Helper()
	dir := t.TempDir()
	writePair(t, dir+"/cert.pem", dir+"/key.pem", "localhost")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	counted := &countedConn{Conn: ours}
	below := &restingConn{Conn: counted}
	if sc, ok := ours.(*net.TCPConn); ok {
		below.raw, _ = sc.SyscallConn()
	}
	server := tls.Server(below, &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
	client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }() // ends with the handshake
	if err := errors.Join(server.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return &heardConn{Conn: server, on: &presence{}}, counted, client
}

// What a session writes at once is one write below TLS, and what is small is not held back.
func TestRecordsAreGathered(t *testing.T) {
	c, counted, client := gatheringPair(t)
	text := make([]byte, 300_000)
	for i := range text {
		text[i] = byte(i * i >> 8)
	}
	want, got := bytes.Clone(text), make([]byte, len(text))
	done := make(chan error, 1)
	go func() { // ends with the text, or the connection
		_, err := io.ReadFull(client, got)
		done <- err
	}()
	writes := counted.count()
	for _, size := range []int{100, 64 << 10, 16 << 10, 40_000, 150_000} {
		if _, err := c.Write(text[:size]); err != nil {
			t.Fatal(err)
		}
		n := counted.count() - writes
		if most := (size + 64<<10 - 1) / (64 << 10); n != most {
			t.Errorf("%d bytes were %d writes, not %d", size, n, most)
		}
		writes += n
		text = text[size:]
	}
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !bytes.Equal(got, want) {
		t.Errorf("another text came (%v)", err)
	}
}

// Behind a write that failed nothing is sent: the client would take it for a forged record.
func TestNothingFollowsAFailedWrite(t *testing.T) {
	c, counted, client := gatheringPair(t)
	go io.Copy(io.Discard, client) // ends with the connection
	counted.mu.Lock()
	counted.most = counted.writes
	counted.mu.Unlock()
	if n, err := c.Write(make([]byte, 64<<10)); err == nil || n != 0 {
		t.Errorf("a write that failed said %d, %v", n, err)
	}
	counted.mu.Lock()
	counted.most = 0
	writes := counted.writes
	counted.mu.Unlock()
	for _, size := range []int{10, 64 << 10} {
		if _, err := c.Write(make([]byte, size)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%d bytes behind it: %v", size, err)
		}
	}
	if n := counted.count(); n != writes {
		t.Errorf("%d writes were made behind it", n-writes)
	}
}

// A client that does not read keeps nobody from closing its connection.
func TestCloseEndsAGatheredWrite(t *testing.T) {
	c, counted, _ := gatheringPair(t)
	stuck := make(chan struct{})
	counted.before = func(p []byte) {
		if len(p) > 60_000 {
			close(stuck)
		}
	}
	done := make(chan error, 1)
	go func() { // ends by Close
		_, err := c.Write(make([]byte, 64<<10))
		done <- err
	}()
	<-stuck
	c.Close()
	if err := <-done; err == nil {
		t.Error("the write says it succeeded")
	}
}

// 64 KiB over TLS and loopback, a call for each record and one for all.
func BenchmarkTLSWrite(b *testing.B) {
	for _, gathered := range []bool{false, true} {
		b.Run(map[bool]string{false: "Records", true: "Gathered"}[gathered], func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			theirs, ours := dialed(b, l)
			c, _, client := gatheringOver(b, ours, theirs)
			go io.Copy(io.Discard, client) // ends with the connection
			var w io.Writer = c
			if !gathered {
				w = c.Conn
			}
			text := make([]byte, 64<<10)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := w.Write(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
