package main

import (
	"net"
	"path/filepath"
	"slices"
	"testing"

	"roost/auth/dovecot"
	"roost/config"
)

// A unix socket that systemd passed is taken for its path; others are somebody else's.
func TestListenAuthTakesWhatSystemdPassed(t *testing.T) {
	dir := t.TempDir()
	ours, theirs, own := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs"), filepath.Join(dir, "own")
	var passed []net.Listener
	for _, path := range []string{ours, theirs} {
		l, err := dovecot.ListenUnix(path, 0o600, -1, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		passed = append(passed, l)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	c := config.Default()
	c.Auth.Listen = []config.AuthListen{{Path: ours}, {Path: own}, {Address: "127.0.0.1:0"}}
	list, rest, err := listenAuth(t.Context(), c, append(passed, tcp))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		defer l.Close()
	}
	if len(list) != 3 || list[0] != passed[0] || list[1].Addr().String() != own || list[2].Addr().Network() != "tcp" {
		t.Errorf("%v", list)
	}
	if len(rest) != 2 || !slices.Contains(rest, net.Listener(tcp)) || !slices.Contains(rest, passed[1]) {
		t.Errorf("given back: %v", rest)
	}
	// All or none.
	c.Auth.Listen = []config.AuthListen{{Address: "127.0.0.1:0"}, {Path: "/nonexistent/auth"}}
	if list, _, err := listenAuth(t.Context(), c, nil); err == nil || list != nil {
		t.Errorf("%v, %v", list, err)
	}
}
