package peers

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fail2ban finds each refused login with its address, by every mechanism, and nobody
// else's, whatever a client calls itself.
func TestFail2ban(t *testing.T) {
	prog := need(t, "fail2ban-regex", "fail2ban")
	h := newHouse(t)
	dir := filepath.Join(h.dir, "clients")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := clientCertificate(t, dir, "nobody@example.org")
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	h.extra = "[auth.certificate]\nca = \"" + filepath.Join(dir, "ca.pem") + "\"\n"
	r := h.serve(t)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	const user = "ann@example.org"
	var want []string
	n := 0
	// try says what it is given as a client of an address of its own, and gives that.
	try := func(counts bool, answer string, lines ...string) {
		t.Helper()
		n++
		addr := fmt.Sprintf("203.0.113.%d", n)
		if n%2 == 0 {
			addr = fmt.Sprintf("2001:db8::%d", n)
		}
		nc, err := net.Dial("tcp", r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
		defer c.Close()
		in := bufio.NewReader(c)
		until := func(prefixes ...string) string {
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					t.Fatalf("%q: %v\n%s", lines, err, r.Log())
				}
				for _, p := range prefixes {
					if strings.HasPrefix(line, p) {
						return line
					}
				}
			}
		}
		until("* OK")
		fmt.Fprintf(c, "i ID (\"name\" \"x addr=192.0.2.1 event=login_refused user=\" \"x-originating-ip\" %q)\r\n", addr)
		until("i OK")
		for i, line := range lines {
			if strings.Contains(line, "NONCE") { // of the server's first message
				line = b64("c=biws,r=" + lines[i-1] + ",p=" + b64(strings.Repeat("x", 32)))
			}
			fmt.Fprintf(c, "%s\r\n", line)
			got := until("a NO", "a BAD", "a OK", "+")
			if strings.HasPrefix(got, "+") && i+1 < len(lines) && lines[i+1] == "NONCE" {
				msg, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(got[1:]))
				nonce, _, _ := strings.Cut(strings.TrimPrefix(string(msg), "r="), ",")
				lines[i] = nonce
			} else if i+1 == len(lines) && !strings.HasPrefix(got, answer) {
				t.Errorf("%q: %q", lines, got)
			}
		}
		if counts {
			want = append(want, addr)
		}
	}
	try(true, "a NO", "a LOGIN "+user+" wrong1")
	try(true, "a NO", "a LOGIN \"x addr=192.0.2.1 event=login_refused user=\" wrong2")
	try(true, "a NO", "a LOGIN \"x guess=false\" wrong3")
	try(true, "a NO", "a AUTHENTICATE PLAIN "+b64("\x00"+user+"\x00wrong4"))
	try(true, "a NO", "a AUTHENTICATE LOGIN "+b64(user), b64("wrong5"))
	try(true, "a NO", "a AUTHENTICATE SCRAM-SHA-256 "+b64("n,,n="+user+",r=abcdef"), "NONCE")
	try(true, "a NO", "a AUTHENTICATE SCRAM-SHA-1 "+b64("n,,n="+user+",r=abcdef"), "NONCE")
	try(true, "a NO", "a AUTHENTICATE EXTERNAL =")
	try(false, "a OK", "a LOGIN "+user+" "+password)
	try(false, "a BAD", "a LOGIN")
	slices.Sort(want)

	if err := r.Close(); err != nil { // the log comes through a pipe, and is whole then
		t.Fatal(err)
	}
	log := filepath.Join(h.dir, "roost.log")
	text := r.Log()
	// The journal's own beginning, as fail2ban sees it there, and what was no guess.
	text += "mail roost[77]: level=WARN msg=\"login refused\" sess=1 addr=198.51.100.1 event=login_refused user=ann method=OAUTHBEARER reason=\"token expired\" client=\"\"\n" +
		"level=WARN msg=\"login refused\" sess=1 addr=198.51.100.2 event=login_refused user=ann method=PLAIN reason=\"wrong password\" client=\"\" guess=false\n" +
		"level=INFO msg=\"x level=WARN msg=\" addr=198.51.100.3 event=login_refused user=\n"
	if err := os.WriteFile(log, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs("../../contrib/fail2ban")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(prog, "--out", "ip", log, filepath.Join(top, "filter.d", "roost.conf")).CombinedOutput()
	got := strings.Fields(string(out))
	slices.Sort(got)
	all := append(slices.Clone(want), "198.51.100.1")
	slices.Sort(all)
	if err != nil || !slices.Equal(got, all) {
		t.Errorf("fail2ban found (%v)\n%s\nwant\n%s\nin\n%s", err, strings.Join(got, "\n"), strings.Join(all, "\n"), text)
	}

	// The jail beside fail2ban's own.
	client := need(t, "fail2ban-client", "fail2ban")
	conf := filepath.Join(h.dir, "fail2ban")
	if out, err := exec.Command("cp", "-r", "/etc/fail2ban", conf).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"filter.d/roost.conf", "jail.d/roost.conf"} {
		b, err := os.ReadFile(filepath.Join(top, name))
		if err != nil || os.WriteFile(filepath.Join(conf, name), b, 0o644) != nil {
			t.Fatal(err)
		}
	}
	// Debian's own jail wants a log file that not every machine has.
	os.Remove(filepath.Join(conf, "jail.d", "defaults-debian.conf"))
	dump, err := exec.Command(client, "-c", conf, "-d").CombinedOutput()
	for _, part := range []string{"'add', 'roost', 'systemd'", "'addignoreip', '127.0.0.0/8'", "'172.16.0.0/12'", "'addfailregex'", "_SYSTEMD_UNIT=roost.service"} {
		if err != nil || !strings.Contains(string(dump), part) {
			t.Errorf("%v: no %s in\n%s", err, part, dump)
		}
	}
}
