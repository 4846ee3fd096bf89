package peers

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// screen is a guest's terminal with a program in it. tmux draws it, and says when something
// on it has changed.
type screen struct {
	*guest
	tmux    string
	socket  string
	changed chan struct{} // holds one when there is something new
	ended   chan struct{} // closed when the program has ended
}

// newScreen starts a program in a terminal of 120 columns and 40 lines.
func (g *guest) screen(prog string, args ...string) *screen {
	t := g.t
	t.Helper()
	g.screens++
	s := &screen{guest: g, tmux: need(t, "tmux", "tmux"), socket: g.path(fmt.Sprintf("tmux%d", g.screens)), changed: make(chan struct{}, 1), ended: make(chan struct{})}
	control := g.command(s.tmux, append([]string{"-C", "-S", s.socket, "-f", "/dev/null", "new-session", "-x", "120", "-y", "40", prog}, args...)...)
	in, err := control.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := control.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := control.Start(); err != nil {
		t.Fatal(err)
	}
	go s.listen(out) // ends with tmux
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", s.picture())
		}
		in.Close() // detaches
		exec.Command(s.tmux, "-S", s.socket, "kill-server").Run()
		<-s.ended
		control.Wait()
	})
	return s
}

// listen turns tmux's notifications into a bit.
func (s *screen) listen(out io.Reader) {
	defer close(s.ended)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "%output ") {
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
	}
}

// picture is what stands on the screen now.
func (s *screen) picture() string {
	out, err := exec.Command(s.tmux, "-S", s.socket, "capture-pane", "-p").Output()
	if err != nil {
		return fmt.Sprintf("(the program has ended: %v)", err)
	}
	return strings.TrimRight(string(out), "\n")
}

// keys presses keys: names as tmux has them, or text.
func (s *screen) keys(keys ...string) {
	s.t.Helper()
	if out, err := exec.Command(s.tmux, append([]string{"-S", s.socket, "send-keys"}, keys...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("keys %q: %v: %s", keys, err, out)
	}
}

// see waits until the screen shows all patterns, and gives it.
func (s *screen) see(patterns ...string) string {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		picture, missing := s.picture(), ""
		for _, p := range patterns {
			if !regexp.MustCompile("(?m)" + p).MatchString(picture) {
				missing = p
			}
		}
		if missing == "" {
			return picture
		}
		select {
		case <-s.changed:
		case <-s.ended:
			s.t.Fatalf("the program ended; the screen never showed %q", missing)
		case <-deadline:
			s.t.Fatalf("the screen never showed %q", missing)
		}
	}
}

// end waits until the program has ended.
func (s *screen) end() {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatal("the program did not end")
	}
}
