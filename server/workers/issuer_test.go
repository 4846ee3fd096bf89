package workers

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Each front is told of all certificates that there are, and what it hears has a bound and
// harms nothing else.
func TestIssuerAndFronts(t *testing.T) {
	ours, theirs := mustPair(t, unix.SOCK_SEQPACKET)
	parent, err := newChannel(ours)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	i, err := NewIssuer(theirs, func() { close(gone) })
	if err != nil {
		t.Fatal(err)
	}
	i.Show("a.example.org", []byte("chain a"), []byte("key a"))
	front := func() (*Front, chan string, *os.File) {
		a, b := mustPair(t, unix.SOCK_SEQPACKET)
		shown := make(chan string, 10)
		f := &Front{opt: FrontOptions{Log: slog.New(slog.DiscardHandler), Certificate: func(name string, chain, key []byte) error {
			shown <- fmt.Sprintf("%s: %s, %s", name, chain, key)
			if name == "bad.example.org" {
				return errors.New("bad")
			}
			return nil
		}}}
		go f.take(b)
		return f, shown, a
	}
	for n := range 2 {
		_, shown, a := front()
		if err := parent.send(toIssuer{Front: uint64(n + 1)}, a); err != nil {
			t.Fatal(err)
		}
		a.Close()
		if got := <-shown; got != "a.example.org: chain a, key a" {
			t.Error(got)
		}
		// One that is refused does not keep others away.
		i.Show("bad.example.org", nil, nil)
		i.mu.Lock()
		delete(i.got, "bad.example.org")
		i.mu.Unlock()
		i.Show("a.example.org", []byte("chain a"), []byte("key a"))
		if got := <-shown + <-shown; !strings.HasPrefix(got, "bad.example.org") || !strings.HasSuffix(got, "a.example.org: chain a, key a") {
			t.Error(got)
		}
	}
	// An issuer that was taken over: what is too long ends its channel, not the front.
	f, shown, a := front()
	mallory, err := newChannel(a)
	if err != nil {
		t.Fatal(err)
	}
	defer mallory.close()
	if err := mallory.conn.SetWriteBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := mallory.conn.Write([]byte(`{"Name":"` + strings.Repeat("x", maxMessage) + `"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := mallory.receive(new(issued), 0); err == nil || len(shown) > 0 {
		t.Errorf("%v, %d", err, len(shown))
	}
	// Nor does a front take certificates that nobody asked for.
	f.opt.Certificate = nil
	x, y := mustPair(t, unix.SOCK_SEQPACKET)
	go f.take(y)
	uninvited, err := newChannel(x)
	if err != nil {
		t.Fatal(err)
	}
	defer uninvited.close()
	if err := uninvited.send(issued{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := uninvited.receive(new(issued), 0); err == nil {
		t.Error("it was taken")
	}
	parent.close()
	<-gone
}

// One that ends at once, again and again, fills no log and keeps nobody busy; one that dies
// seldom is back at once.
func TestIssuerThatEndsAtOnceIsLeftAlone(t *testing.T) {
	var pause, all time.Duration
	n := 0
	for ; all < 24*time.Hour; n++ {
		pause = issuerPause(pause, time.Second)
		all += pause
	}
	if n > 160 {
		t.Errorf("it is started %d times a day", n)
	}
	if pause = issuerPause(pause, time.Hour); pause != restartAfter {
		t.Errorf("after an hour it is left alone for %v", pause)
	}
}
