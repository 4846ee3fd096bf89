//go:build !race

// The race detector's frames are larger.

package server

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// What an idle session over TLS costs: its heap and its stack, after collections. A fresh
// one has 4 KiB of stack and 8.5 KiB of heap, with what the model store keeps; TLS's
// buffers would be 3.5 KiB more, the next stack 4. One that has appended and fetched a
// megabyte would have 18 KiB of buffers and more.
func TestIdleSessionMemory(t *testing.T) {
	if addr := os.Getenv("ROOST_TEST_IDLE_CLIENTS"); addr != "" {
		idleClients(t, addr, os.Getenv("ROOST_TEST_IDLE_USED") != "")
		return
	}
	for _, c := range []struct {
		used            bool
		sessions, limit int64
	}{
		{false, 300, 14 << 10},
		{true, 200, 20 << 10}, // many: a quarter of a megabyte of stacks is kept for goroutines to come
	} {
		t.Run(fmt.Sprintf("used=%t", c.used), func(t *testing.T) {
			s := startServer(t, func(o *Options) {
				o.Log = slog.New(slog.DiscardHandler) // lines are kept by the test's
				o.Limits.PerUser, o.Limits.PerUserAddress, o.Limits.PerAddress = 500, 500, 500
			}, Spec{"127.0.0.1:0", Implicit})
			first := s.idleClients(t, 1, c.used)
			before, stack := settledMemory(), stacks()
			all := s.idleClients(t, int(c.sessions), c.used)
			each := int64(settledMemory()-before) / c.sessions
			// The last of them may be on the way to their rest when the clients are ready.
			for n := 0; each > c.limit && n < 200; n++ {
				each = int64(settledMemory()-before) / c.sessions
			}
			t.Logf("%d bytes a session, of which stack %d", each, int64(stacks()-stack)/c.sessions)
			if each > c.limit {
				t.Errorf("%d bytes a session, %d are allowed", each, c.limit)
			}
			all()
			first()
		})
	}
}

// settledMemory is memory after as many collections as a stack needs to shrink.
func settledMemory() (n uint64) {
	for range 5 {
		runtime.GC()
		n = memory()
	}
	return n
}

func stacks() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// idleClients has another process open n sessions that idle, until end is called: what
// clients cost is not counted here.
func (s *testServer) idleClients(t *testing.T, n int, used bool) (end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestIdleSessionMemory$")
	cmd.Env = append(os.Environ(), "ROOST_TEST_IDLE_CLIENTS="+s.listeners[0].Addr().String(), "ROOST_TEST_IDLE_N="+strconv.Itoa(n))
	if used {
		cmd.Env = append(cmd.Env, "ROOST_TEST_IDLE_USED=1")
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		stdin.Close()
		cmd.Wait()
	}
	t.Cleanup(end)
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatal(l, err)
	}
	return end
}

// idleClients is the other process.
func idleClients(t *testing.T, addr string, used bool) {
	n, _ := strconv.Atoi(os.Getenv("ROOST_TEST_IDLE_N"))
	text := strings.Repeat(strings.Repeat("x", 78)+"\r\n", 1<<20/80)
	for range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{nc, t, nil}
		c.tls()
		c.want("* OK ")
		c.do("LOGIN ann secret")
		c.do("SELECT INBOX")
		if used {
			fmt.Fprintf(c, "b APPEND INBOX {%d+}\r\n%s\r\n", len(text), text)
			c.want("b OK")
			fmt.Fprint(c, "f FETCH * BODY[]\r\n")
			for l := ""; !strings.HasPrefix(l, "f OK"); {
				l = c.line()
			}
			c.do("STORE 1:* +FLAGS.SILENT (\\Deleted)")
			c.do("EXPUNGE")
		}
		fmt.Fprint(c, "i IDLE\r\n")
		c.want("+ idling")
		defer c.Close()
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}
