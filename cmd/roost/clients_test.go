package main

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The example of docs/clients.md, from the mistake to the reload and what follows it.
func TestDocsHidingFromAClient(t *testing.T) {
	page, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	var entries string
	for _, m := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		entries += m[1]
	}
	if strings.Count(entries, "[[client]]") < 3 {
		t.Fatalf("the entries are not found:\n%s", entries)
	}
	entries = strings.ReplaceAll(entries, "192.0.2.17", "127.0.0.1")
	entries = strings.ReplaceAll(entries, "ann@example.org", "ann")
	s := startServing(t, "")
	old := s.dial()
	old.say("a LOGIN ann s3cretword\r\n", "a OK")

	s.write("roost.toml", s.config("one", entries), 0o644)
	s.signal(syscall.SIGHUP)
	s.wait("event=reload ")
	for _, c := range []struct {
		before, after string // ID
		name          string // of the server
		hidden        []string
		who           string
	}{
		{"", "", "mail.example.org", []string{"UNAUTHENTICATE"}, "[client 3]"},
		{`("name" "Example Mail" "version" "2.7")`, "", "mail.example.org", []string{"COMPRESS=DEFLATE", "QRESYNC", "UNAUTHENTICATE"}, "[old phones, client 3]"},
		{"", `("name" "Example Mail" "version" "3.0")`, "mail.example.org", []string{"COMPRESS=DEFLATE", "QRESYNC", "UNAUTHENTICATE"}, "[old phones, client 3]"},
		{`("name" "Example Mail" "version" "3.1")`, "", "old.example.org", []string{"UTF8=ACCEPT", "UNAUTHENTICATE"}, "[client 2, client 3]"},
	} {
		k := s.dialAs(c.name)
		if c.before != "" {
			k.say("i ID "+c.before+"\r\n", "i OK")
		}
		said := k.say("l LOGIN ann s3cretword\r\n", "l OK")
		if c.after != "" {
			said = k.say("j ID "+c.after+"\r\n", "j OK")
		}
		for _, name := range []string{"COMPRESS=DEFLATE", "QRESYNC", "UTF8=ACCEPT", "UNAUTHENTICATE", "IDLE"} {
			is := strings.Contains(said, " "+name+" ")
			want := !strings.Contains(strings.Join(c.hidden, " "), name)
			if is != want {
				t.Errorf("%+v: %s is told: %t", c, name, is)
			}
		}
		if code, stdout, stderr := roost(t, "who", "--config", s.conf); code != exitDone || !strings.Contains(stdout, c.who) {
			t.Errorf("%+v: %d\n%s%s", c, code, stdout, stderr)
		}
		k.say("z LOGOUT\r\n", "z OK")
	}
	old.say("b UNAUTHENTICATE\r\n", "b OK") // it came under the options before
}
