package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"roost/server/control"
)

// A running server is asked by root and by its own user, whichever it became.
func TestWhoKickTrace(t *testing.T) {
	extra := ""
	if os.Getuid() == 0 {
		extra = "user = \"nobody\"\n"
	}
	s := startServing(t, extra)
	k, other := s.dial(), s.dial()
	k.say("a LOGIN ann s3cretword\r\n", "a OK")
	k.say("b ID (\"name\" \"\x7fMail\")\r\n", "b OK")
	k.say("c SELECT INBOX\r\n", "c OK")

	code, stdout, stderr := roost(t, "who", "--config", s.conf)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != exitDone || len(lines) != 3 || !strings.HasPrefix(lines[0], "USER ") || !strings.HasPrefix(lines[1], "- ") ||
		strings.Join(append(strings.Fields(lines[2])[:1], strings.Fields(lines[2])[5:8]...), " ") != "ann selected INBOX TLS" || !strings.Contains(lines[2], `\x7fMail`) {
		t.Errorf("who: %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = roost(t, "who", "--json", "--config", s.conf)
	var list []control.Session
	if err := json.Unmarshal([]byte(stdout), &list); code != exitDone || err != nil || len(list) != 2 || list[1].User != "ann" || list[1].State != "selected" {
		t.Errorf("who --json: %d, %v\n%s", code, err, stdout)
	}

	traced := startTrace(t, s, "--lines", "7", "ann")
	k.say("d LOGIN ann s3cretword\r\n", "d BAD")
	k.say("e APPEND INBOX {7+}\r\ns3c:ret\r\n", "e OK")
	got, code := traced()
	for _, want := range []string{" - 1 session of ann now", " - session since ", " C d LOGIN [hidden]\n", " S d BAD [hidden]\n", " C e APPEND INBOX {7+}\n", " C [7 bytes]\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in the trace:\n%s", want, got)
		}
	}
	if code != exitDone || strings.Contains(got, "s3c") || !strings.Contains(got, "roost: the trace ends: 7 lines are shown") {
		t.Errorf("trace: %d\n%s", code, got)
	}

	if code, stdout, stderr = roost(t, "kick", "--config", s.conf, list[0].ID); code != exitDone || stdout != list[0].ID+" - from 127.0.0.1 is told to go\n" {
		t.Errorf("kick of a session: %d\n%s%s", code, stdout, stderr)
	}
	other.until("* BYE Closed by the administrator")
	if code, stdout, _ = roost(t, "kick", "--config", s.conf, "ANN"); code != exitDone || stdout != list[1].ID+" ann from 127.0.0.1 is told to go\n" {
		t.Errorf("kick of a user: %d\n%s", code, stdout)
	}
	k.until("* BYE Closed by the administrator")
	if code, _, stderr = roost(t, "kick", "--config", s.conf, "nobody"); code != exitFailed || !strings.Contains(stderr, "nobody is not on") {
		t.Errorf("kick of nobody: %d\n%s", code, stderr)
	}

	s.signal(syscall.SIGTERM)
	<-s.done
	for _, verb := range []string{"who", "kick x", "trace x"} {
		if code, _, stderr := roost(t, append(strings.Fields(verb), "--config", s.conf)...); code != exitUnreachable || !strings.Contains(stderr, "no server answers there: is Roost running?") {
			t.Errorf("%s of a server that stopped: %d\n%s", verb, code, stderr)
		}
	}
}

// startTrace runs the verb until it ends; what it gives waits for that.
func startTrace(t *testing.T, s *serving, args ...string) func() (printed string, code int) {
	t.Helper()
	r, w := io.Pipe()
	env := &environment{stdout: w, stderr: w, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	code := make(chan int, 1)
	go func() { // ends with the trace or ctx
		code <- run(ctx, env, append([]string{"trace", "--config", s.conf}, args...))
		w.Close()
	}()
	var b bytes.Buffer
	one := make([]byte, 1)
	for !strings.Contains(b.String(), "waiting for more\n") {
		if _, err := r.Read(one); err != nil {
			t.Fatalf("the trace does not begin: %v\n%s", err, b.String())
		}
		b.Write(one)
	}
	return func() (string, int) {
		t.Helper()
		defer cancel()
		io.Copy(&b, r)
		return b.String(), <-code
	}
}

// Without a control socket mail is served, and the log says what is missing and what to do.
func TestServeWithoutAControlSocket(t *testing.T) {
	first := startServing(t, "")
	second := startServing(t, "[control]\nsocket = \""+first.dir+"/run/control\"\n")
	second.wait("give this one a path of its own, control.socket")
	third := startServing(t, "[control]\nsocket = \"/nonexistent/run/control\"\n")
	third.wait("install -d -o ")
	off := startServing(t, "[control]\nsocket = \"off\"\n")
	for _, s := range []*serving{first, second, third, off} {
		s.dial().say("a LOGIN ann s3cretword\r\n", "a OK")
	}
	if log := strings.Join(off.log(), "\n"); strings.Contains(log, "control") {
		t.Errorf("turned off, it says:\n%s", log)
	}
	if code, _, stderr := roost(t, "who", "--config", off.conf); code != exitUnreachable || !strings.Contains(stderr, "turns the control socket off") {
		t.Errorf("%d\n%s", code, stderr)
	}
	// The first one was not disturbed.
	if code, stdout, stderr := roost(t, "who", "--config", first.conf); code != exitDone || strings.Count(stdout, "\n") != 2 {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	// One that was killed leaves its socket, and the next server takes its place.
	first.cmd.Process.Kill()
	<-first.done
	if _, err := os.Lstat(filepath.Join(first.dir, "run", "control")); err != nil {
		t.Fatal(err)
	}
	fourth := startServing(t, "[control]\nsocket = \""+first.dir+"/run/control\"\n")
	if code, stdout, stderr := roost(t, "who", "--config", fourth.conf); code != exitDone || strings.Count(stdout, "\n") != 1 {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

func TestAgo(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for d, want := range map[time.Duration]string{0: "0s", 59 * time.Second: "59s", time.Hour - 1: "59m", 3*time.Hour + 7*time.Minute: "3h07m", 100 * time.Hour: "4d", -time.Hour: "0s"} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := ago(now, time.Time{}); got != "-" {
		t.Error(got)
	}
	for n, want := range map[int64]string{0: "0", 9999: "9999", 10240: "10k", 5 << 30: "5120M", 1 << 60: "1048576T"} {
		if got := bytesOf(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
