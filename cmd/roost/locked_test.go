package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"roost/server/control"
)

// A lock outlives the server, shows, and is undone by hand.
func TestAuthLockedAndUnlock(t *testing.T) {
	extra := "[auth.throttle]\nlock_after = 4\n[limits]\ntrusted_networks = []\n"
	s := startServing(t, extra)
	for i := range 2 {
		s.dial().say(fmt.Sprintf("a LOGIN ann s3cretwrong%d\r\n", i), "a NO [AUTHENTICATIONFAILED]")
	}
	if line := s.wait("event=login_locked"); !strings.Contains(line, `what="user ann from 127.0.0.1"`) {
		t.Error(line)
	}
	s.restart(s.config("one", extra))
	state, err := os.ReadFile(filepath.Join(s.dir, "state", "throttle"))
	if err != nil || strings.Contains(string(state), "s3cret") {
		t.Errorf("%v\n%s", err, state)
	}

	s.dial().say("a LOGIN ann s3cretword\r\n", "a NO [UNAVAILABLE]")
	code, stdout, stderr := roost(t, "auth", "locked", "--config", s.conf)
	if lines := strings.Split(stdout, "\n"); code != exitDone || len(lines) < 3 || !strings.HasPrefix(lines[1], "user ann from 127.0.0.1 ") {
		t.Errorf("locked: %d\n%s%s", code, stdout, stderr)
	}
	_, stdout, _ = roost(t, "auth", "locked", "--json", "--config", s.conf)
	var list []control.Locked
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list) < 2 || list[0].User != "ann" || list[0].Network != "127.0.0.1/32" || time.Until(list[0].Until) <= 0 {
		t.Errorf("locked --json: %v\n%s", err, stdout)
	}
	if code, stdout, _ = roost(t, "auth", "unlock", "--config", s.conf, "ann"); code != exitDone || !strings.Contains(stdout, "user ann from 127.0.0.1: ") {
		t.Errorf("unlock: %d\n%s", code, stdout)
	}
	s.dial().say("a LOGIN ann s3cretword\r\n", "a OK")
	if code, _, stderr = roost(t, "auth", "unlock", "--config", s.conf, "ann"); code != exitFailed || !strings.Contains(stderr, "nothing is counted against it") {
		t.Errorf("unlock again: %d\n%s", code, stderr)
	}

	// Two servers do not write one state.
	second := startServing(t, "")
	second.restart(strings.Replace(second.config("one", ""), second.dir+"/state", s.dir+"/state", 1))
	second.wait("give this one a directory of its own, state_dir")
}

// Every command of the pages on throttling and events works as pasted.
func TestThrottlingAndEventsPages(t *testing.T) {
	p := newPatient(t)
	p.serve("")
	if all := p.paste("events.md"); !strings.HasPrefix(all, "TIME  EVENT") {
		t.Error(all)
	}
	if all := p.paste("throttling.md"); !strings.Contains(all, "WHO  FAILURES") || !strings.Contains(all, "192.0.2.7: nothing is counted") {
		t.Error(all)
	}
}

// What listen.proxy and listen.proxy_networks say reaches the sockets.
func TestServeBehindAProxy(t *testing.T) {
	s := startServing(t, "")
	conf := func(networks string) string {
		return strings.Replace(s.config("one", ""), "address = \"127.0.0.1:0\"\n", "address = \"127.0.0.1:0\"\nproxy = true\nproxy_networks = ["+networks+"]\n", 1)
	}
	s.restart(conf(`"127.0.0.1"`))
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, "PROXY TCP4 203.0.113.9 192.0.2.1 4711 993\r\n")
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	k := &talker{t, c, bufio.NewReader(c)}
	k.until("* OK")
	k.say("a LOGIN ann s3cretword\r\n", "a OK")
	if code, stdout, stderr := roost(t, "who", "--config", s.conf); code != exitDone || !strings.Contains(stdout, " 203.0.113.9 ") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	s.restart(conf(`"192.0.2.0/24"`))
	if nc, err = net.Dial("tcp", s.addr); err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s.wait("event=proxy_refused")
	s.write("roost.toml", conf(""), 0o644)
	if code, stdout, stderr := roost(t, "config", "check", "--config", s.conf); code != exitUsage || !strings.Contains(stdout+stderr, "anybody could take any address") {
		t.Errorf("%d\n%s", code, stderr)
	}
}
