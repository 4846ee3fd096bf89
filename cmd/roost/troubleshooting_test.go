package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Every command of the page for those for whom it does not work is run, as pasted, beside
// a server with a user who is on.
func TestTroubleshootingPage(t *testing.T) {
	p := newPatient(t)
	const user = "ann@example.org"
	p.put("passwd", strings.Replace(healthyUser, "ann", user, 1), 0o640)
	p.serve("")
	c, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(p.ports[0])), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := &talker{t, c, bufio.NewReader(c)}
	k.until("* OK")
	k.say("a LOGIN "+user+" testpass\r\n", "a OK")

	all := p.paste("troubleshooting.md")
	for _, want := range []string{"looked at 1 user, 1 mailbox", "the login would succeed", "1 session of " + user + " now", "USER ", " from 127.0.0.1 is told to go", "is all right"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in what the steps printed:\n%s", want, all)
		}
	}
	k.until("* BYE Closed by the administrator")
}

// paste runs every command that a page of the docs shows, and gives what they printed.
func (p *patient) paste(name string) string {
	t := p.t
	t.Helper()
	page, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.put("bin/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755)
	// The last --for counts: nobody waits for two minutes.
	p.put("bin/roost", "#!/bin/sh\nexport "+asProgram+"=1\ncase $1 in trace) set -- \"$@\" --for 1s ;; esac\nexec "+self+" \"$@\" --config "+p.conf+"\n", 0o755)
	var all strings.Builder
	steps := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllSubmatch(page, -1)
	for _, step := range steps {
		cmd := exec.Command("bash", "-euc", string(step[1]))
		cmd.Env = append(os.Environ(), "PATH="+p.bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s%v\n%s", step[1], err, out)
		}
		all.Write(out)
	}
	return all.String()
}
