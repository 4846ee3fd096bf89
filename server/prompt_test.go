package server

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// promptPair is a session's side of a connection over loopback, with TLS or without, what is
// below it, and the client's. What the client does not read soon fills the socket.
func promptPair(t *testing.T, secure bool) (*heardConn, *countedConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours.(*net.TCPConn).SetWriteBuffer(4 << 10)
	theirs.(*net.TCPConn).SetReadBuffer(4 << 10)
	c, counted, client := gatheringOver(t, ours, theirs)
	if !secure {
		below := socketBelow(c.Conn)
		return &heardConn{Conn: below, on: &presence{}}, counted, theirs
	}
	return c, counted, client
}

// writeNow is what a session does with a line.
func writeNow(t *testing.T, c *heardConn, p []byte) (all bool, err error) {
	t.Helper()
	if !c.Gather() {
		t.Fatal("a connection on which nobody writes does not gather")
	}
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
	return c.Send()
}

// line is the i-th of those that a test writes.
func line(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 700+i%100) }

// A client that does not read makes nobody wait who writes now; what it was not sent comes
// first when it reads again.
func TestSendNeverWaits(t *testing.T) {
	for _, secure := range []bool{true, false} {
		c, _, client := promptPair(t, secure)
		var want []byte
		for round := range 3 {
			all := true
			for i := 0; all; i++ {
				var err error
				if all, err = writeNow(t, c, line(i)); err != nil {
					t.Fatal(err)
				}
				want = append(want, line(i)...)
			}
			done := make(chan error, 1)
			go func() { // ends when the client has read
				err := c.Finish()
				if err == nil {
					_, err = c.Write([]byte{'.'})
				}
				done <- err
			}()
			want = append(want, '.')
			got := make([]byte, len(want))
			if _, err := io.ReadFull(client, got); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("secure %t, round %d: other bytes came", secure, round)
			}
			want = want[:0]
		}
		if socketBelow(c.Conn).gathered != nil {
			t.Error("a buffer is kept though all is sent")
		}
	}
}

// Who answers a request of the client for new keys, or closes, may wait for it and holds
// TLS's lock meanwhile.
func TestGatherDoesNotWaitForAnotherWrite(t *testing.T) {
	c, counted, client := promptPair(t, true)
	writing, release := make(chan struct{}), make(chan struct{})
	counted.before = func([]byte) {
		writing <- struct{}{}
		<-release
	}
	other := make(chan error, 1)
	go func() { // ends with release
		_, err := c.Conn.Write([]byte("other "))
		other <- err
	}()
	<-writing
	if c.Gather() {
		t.Error("it gathers though somebody writes")
	}
	close(release)
	if err := <-other; err != nil {
		t.Fatal(err)
	}
	if all, err := writeNow(t, c, []byte("news")); !all || err != nil {
		t.Errorf("Send says %t, %v", all, err)
	}
	got := make([]byte, 10)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "other news" {
		t.Errorf("%q came (%v)", got, err)
	}
}

// What TLS writes by itself while something is left comes behind it, for it was made later.
func TestWriteBehindWhatIsLeft(t *testing.T) {
	c, _, client := promptPair(t, false)
	var want []byte
	for i, all := 0, true; all; i++ {
		var err error
		if all, err = writeNow(t, c, line(i)); err != nil {
			t.Fatal(err)
		}
		want = append(want, line(i)...)
	}
	if _, err := socketBelow(c.Conn).Write([]byte("last")); err != nil { // waits for nobody
		t.Fatal(err)
	}
	want = append(want, "last"...)
	done := make(chan error, 1)
	go func() { done <- c.Finish() }() // ends when the client has read
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes came (%v)", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A connection that failed says so, and takes nothing more.
func TestSendToNobodyFails(t *testing.T) {
	for _, secure := range []bool{true, false} {
		c, _, _ := promptPair(t, secure)
		socketBelow(c.Conn).Conn.Close()
		if all, err := writeNow(t, c, []byte("news")); all || err == nil {
			t.Errorf("Send says %t, %v", all, err)
		}
		if err := c.Finish(); err == nil {
			t.Error("Finish says nothing")
		}
		if _, err := c.Write([]byte("more")); err == nil {
			t.Error("Write says nothing")
		}
	}
}

// What is no socket can only wait.
func TestNoSocketDoesNotGather(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	if c := (&heardConn{Conn: ours, on: &presence{}}); c.Gather() {
		t.Error("a pipe gathers")
	}
}

// Whoever writes beside it, as TLS does when keys change or the connection is closed, nobody
// waits for the other, and each record comes whole and in its turn.
func TestGatherBesideOtherWrites(t *testing.T) {
	c, _, client := promptPair(t, true)
	const lines = 2000
	var wg sync.WaitGroup
	write := func(one func() error) {
		wg.Go(func() {
			for range lines {
				if err := one(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	write(func() error { _, err := c.Conn.Write([]byte("o")); return err })
	write(func() error {
		gathers := c.Gather()
		if _, err := c.Write([]byte("n")); err != nil || !gathers {
			return err
		}
		if all, err := c.Send(); all || err != nil {
			return err
		}
		return c.Finish()
	})
	got := make([]byte, 2*lines)
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if n := bytes.Count(got, []byte("n")); n != lines || bytes.Count(got, []byte("o")) != lines {
		t.Errorf("%d of %d came", n, lines)
	}
	if socketBelow(c.Conn).gathered != nil || len(socketBelow(c.Conn).queued) > 0 {
		t.Error("something is kept though all is sent")
	}
}

// What came while the socket took the rest goes behind it, and none of it is kept.
func TestWhatComesWhileItIsSent(t *testing.T) {
	c, _, client := promptPair(t, false)
	if !c.Gather() {
		t.Fatal("it does not gather")
	}
	if _, err := c.Write([]byte("news ")); err != nil {
		t.Fatal(err)
	}
	below := socketBelow(c.Conn)
	below.queued = []byte("other") // as Write does meanwhile
	all, err := c.Send()
	if err == nil && !all {
		err = c.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "news other" {
		t.Errorf("%q came (%v)", got, err)
	}
	if len(below.queued) > 0 || below.gathered != nil {
		t.Error("something is kept though all is sent")
	}
}
