package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"roost/auth"
	"roost/config"
	"roost/events"
	"roost/server/control"
	"roost/server/session"
	"roost/server/workers"
)

// What the configuration can name is what is told of.
func TestEventNames(t *testing.T) {
	for _, name := range []string{auth.EventNewNetwork, auth.EventManyUsers, auth.EventRevokedPassword, auth.EventLocked, eventDeletions} {
		found := false
		for _, n := range config.EventNames {
			found = found || n == name
		}
		if !found || eventSubjects[name] == "" {
			t.Errorf("%s is not known", name)
		}
	}
	if len(eventSubjects) != len(config.EventNames) {
		t.Error(eventSubjects, config.EventNames)
	}
}

// An event is in the history, runs a command, and is in the user's INBOX; the audit log
// says who did it.
func TestEvents(t *testing.T) {
	s := startServing(t, "")
	out, audit := filepath.Join(s.dir, "out"), filepath.Join(s.dir, "audit", "mail.log")
	s.write("alert", "#!/bin/sh\necho \"$ROOST_EVENT $ROOST_USER $ROOST_ADDR $ROOST_CLIENT\" >"+out+".tmp && mv "+out+".tmp "+out+"\n", 0o755)
	if err := os.Mkdir(filepath.Dir(audit), 0o777); err != nil {
		t.Fatal(err)
	}
	s.restart(s.config("one", fmt.Sprintf("[[event]]\nname = \"deletions\"\nrun = [%q]\nmail = true\n[log]\naudit = %q\n[isolation]\nwrite = [%q]\n", filepath.Join(s.dir, "alert"), audit, s.dir)))
	k := s.dial()
	k.say("a LOGIN ann s3cretword\r\n", "a OK")
	var all strings.Builder
	for range manyDeleted {
		all.WriteString("m APPEND Trash (\\Deleted) {6+}\r\na: b\r\n\r\n")
	}
	all.WriteString("b SELECT Trash\r\n")
	k.say(all.String(), "b OK")
	k.say("c EXPUNGE\r\n", "c OK")
	s.wait("event=deletions user=ann addr=127.0.0.1")
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(out); err == nil {
			if !strings.HasPrefix(string(b), "deletions ann 127.0.0.1") {
				t.Errorf("the command saw %q", b)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the command did not run")
		}
	}
	k.say("d SELECT INBOX\r\n", "d OK")
	for answer := ""; !strings.Contains(answer, "SEARCH 1"); {
		k.say("e NOOP\r\n", "e OK")
		answer = k.say("f SEARCH SUBJECT \"Many messages were deleted\"\r\n", "* SEARCH")
		k.until("f OK")
	}
	var list []control.Event
	code, stdout, stderr := roost(t, "auth", "events", "--json", "--config", s.conf, "ANN")
	if err := json.Unmarshal([]byte(stdout), &list); code != exitDone || err != nil || len(list) != 1 || list[0].Name != "deletions" || list[0].Addr != "127.0.0.1" {
		t.Errorf("%d, %v\n%s%s", code, err, stdout, stderr)
	}
	if code, stdout, _ = roost(t, "auth", "events", "--config", s.conf); code != exitDone || !strings.Contains(stdout, "500 messages or more were deleted within 10m") {
		t.Errorf("%d\n%s", code, stdout)
	}
	b, err := os.ReadFile(audit)
	if err != nil || !strings.Contains(string(b), "event=mail_expunge ") || !strings.Contains(string(b), "user=ann addr=127.0.0.1 client=\"\" mailbox=Trash messages=500 uids=1:500\n") {
		t.Errorf("%v\n%s", err, b)
	}
}

// What strangers chose cannot add a header or a line.
func TestEventMail(t *testing.T) {
	w := events.New(events.Options{})
	defer w.Close()
	text := string(eventMail("mail.example.org", "ann", events.Event{Name: auth.EventLocked, Time: time.Unix(0, 0).UTC(), User: "ann", Detail: "user ann is locked", Client: "x"}))
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok || strings.Count(head, "\r\n") != 8 || !strings.Contains(head, "To: <ann@mail.example.org>") || !strings.Contains(body, "user ann is locked") || strings.Contains(strings.ReplaceAll(text, "\r\n", ""), "\n") {
		t.Error(text)
	}
}

// An audit log on a disk that is full is told of once, and again when there was room
// meanwhile.
func TestAuditLogThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	good, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	var a auditLog
	var got []bool
	for _, f := range []*os.File{full, full, good, full} {
		a.log = slog.New(slog.NewTextHandler(f, nil))
		got = append(got, a.write(workers.Session{User: "ann"}, "", session.Brief{What: "expunge"}) != nil)
	}
	if fmt.Sprint(got) != "[true false false true]" {
		t.Error(got)
	}
}

// Whatever a name is made of, a line of the audit log is one line and names one user.
func TestAuditLineCannotBeForged(t *testing.T) {
	quoted := regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	for _, name := range []string{
		"x", "x user=ben", "x\nuser=ben", "x\r\nevent=mail_expunge user=ben", `x" user=ben mailbox="y`, "x\\\" user=ben", "x\u2028user=ben",
		"x\x00 user=ben", "\x1b[2K\ruser=ben", "\xff\xfe user=ben", "user=ben", "=", "", "\u202euser=ben", "x\tuser=ben", "x\u0085user=ben",
	} {
		file := filepath.Join(t.TempDir(), "log")
		a := auditLog{path: file}
		if err := a.reopen(); err != nil {
			t.Fatal(err)
		}
		b := session.Brief{What: "flags", Mailbox: name, To: name, Messages: 1, UIDs: "1", Op: "+", Flags: name}
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		if err := a.write(workers.Session{ID: "s", User: "ann", Login: "ann"}, name, b); err != nil {
			t.Fatal(err)
		}
		a.close()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		line, rest, ok := strings.Cut(string(text), "\n")
		bare := quoted.ReplaceAllString(line, "_")
		if !ok || rest != "" || strings.ContainsAny(line, "\r\x00\x1b\t\u2028\u0085\u202e") || strings.Count(bare, " user=") != 1 || !strings.Contains(bare, " user=ann ") || strings.Count(bare, " event=") != 1 {
			t.Errorf("%q: %q", name, text)
		}
	}
}
