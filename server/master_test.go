package server

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"roost/auth"
	"roost/test/talk"
)

// A program that picks SCRAM for a master user is told what to do, and gets in by PLAIN on
// the same connection; fail2ban takes it for no guess.
func TestMasterUserWhoPicksScramIsToldOfPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		users, masters := filepath.Join(dir, "users"), filepath.Join(dir, "masters")
		for file, text := range map[string]string{users: "ann:{PLAIN}secret\n", masters: "root:{PLAIN}master\n"} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		g := newTestGate(t, gateLimits{})
		g.gate.log = slog.New(slog.NewTextHandler(&log, nil))
		var err error
		if g.gate.auth, err = auth.New(auth.Options{File: users, MasterFile: masters, MasterSeparator: "*", NoWatch: true, Log: g.gate.log}); err != nil {
			t.Fatal(err)
		}
		talk.Run(t, `
A< * OK [CAPABILITY ...AUTH=SCRAM-SHA-256...AUTH=PLAIN...] ...
A> a1 AUTHENTICATE SCRAM-SHA-256 `+b64("n,,n=ann*root,r=abc")+`
A< a1 NO [CANNOT] SCRAM-SHA-256 does not do for master users: log in by PLAIN or LOGIN
A> a2 AUTHENTICATE SCRAM-SHA-256
A< + 
A> `+b64("n,a=ann,n=root,r=abc")+`
A< a2 NO [CANNOT] SCRAM-SHA-256 does not do for master users: log in by PLAIN or LOGIN
A> a3 AUTHENTICATE PLAIN `+b64("\x00ann*root\x00master")+`
A< a3 OK [CAPABILITY ...] ...
A> a4 SELECT INBOX
A< ...`, talk.Options{Dial: g.dial, Greeting: true})
		synctest.Wait() // the end of the visit is logged too
		if n := strings.Count(log.String(), "event=login_refused"); n != 2 || strings.Count(log.String(), "guess=false\n") != n {
			t.Errorf("the log:\n%s", &log)
		}
	})
}
