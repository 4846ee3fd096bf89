package server

import (
	"compress/flate"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"roost/server/control"
	"roost/server/session"
)

// controlled is a server with a control socket.
type controlled struct {
	*testServer
	t      *testing.T
	socket string
}

func startControlled(t *testing.T) *controlled {
	t.Helper()
	s := &controlled{startServer(t, nil, Spec{"127.0.0.1:0", Implicit}, Spec{"127.0.0.1:0", Plaintext}), t, filepath.Join(t.TempDir(), "control")}
	l, err := control.Listen(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { // joined in the cleanup
		done <- l.Serve(ctx, s.Control(func() control.Status { return control.Status{Version: "test"} }))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask asks and gathers what is answered.
func (s *controlled) ask(q control.Request) (list []control.Reply, done string, err error) {
	s.t.Helper()
	done, err = control.Ask(s.t.Context(), s.socket, q, func(r control.Reply) error {
		list = append(list, r)
		return nil
	})
	return list, done, err
}

// client is a real one, logged in as ben over TLS.
func (s *controlled) client() *imapclient.Client {
	s.t.Helper()
	c, err := imapclient.DialTLS(s.listeners[0].Addr().String(), &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if err := c.Login("ben", "s3cretword").Wait(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// must fails the test with the error of a command.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestWho(t *testing.T) {
	s := startControlled(t)
	before := time.Now().Add(-time.Second)
	idler, reader, guest := s.client(), s.client(), s.dial(t, 1)
	must[*imap.IDData](t)(idler.ID(&imap.IDData{Name: "Mail \x1b", Version: "7"}).Wait())
	must[*imap.SelectData](t)(idler.Select("INBOX", nil).Wait())
	idle := must[*imapclient.IdleCommand](t)(idler.Idle())
	must[*imap.SelectData](t)(reader.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait())
	plain := s.dial(t, 1)
	plain.do("LOGIN ann secret")
	plain.do("NOOP") // so that the bytes of the answer before are counted

	list, done, err := s.ask(control.Request{Do: "who"})
	if err != nil || done != "4 connections" || len(list) != 4 {
		t.Fatalf("%d, %q, %v", len(list), done, err)
	}
	for i, want := range []string{
		"|||not logged in||false||",
		"ann|||authenticated||false||",
		"ben||TLS 1.3|idle|INBOX|false|name Mail |version 7",
		"ben||TLS 1.3|selected|INBOX|true||",
	} {
		got := list[i].Session
		client := strings.ReplaceAll(got.Client, "\x1b version", "|version")
		if client == "" {
			client = "|"
		}
		if text := fmt.Sprintf("%s|%s|%s|%s|%s|%v|%s", got.User, got.Login, got.TLS, got.State, got.Mailbox, got.ReadOnly, client); text != want {
			t.Errorf("%s, want %s", text, want)
		}
		loggedIn := got.User != ""
		if got.ID == "" || got.Addr != "127.0.0.1" || got.Connected.Before(before) || got.Since.After(before) != loggedIn ||
			got.Heard.After(before) != loggedIn || got.Out > 0 != loggedIn {
			t.Errorf("%+v", got)
		}
	}
	if len(list) == 4 && list[3].Session.In == 0 {
		t.Error("nothing came in")
	}
	guest.do("NOOP")

	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := idler.UnselectAndExpunge().Wait(); err != nil {
		t.Fatal(err)
	}
	list, _, _ = s.ask(control.Request{Do: "who"})
	if got := list[2].Session; got.State != "authenticated" || got.Mailbox != "" || got.Client == "" {
		t.Errorf("after CLOSE: %+v", got)
	}
	st, _, err := s.ask(control.Request{Do: "status"})
	if err != nil || len(st) != 1 || st[0].Status.Connections != 4 || st[0].Status.Sessions != 3 || st[0].Status.Version != "test" {
		t.Errorf("%+v, %v", st, err)
	}
	if _, _, err := s.ask(control.Request{Do: "dance"}); err == nil || !strings.Contains(err.Error(), `does not know "dance"`) {
		t.Error(err)
	}
}

// Whose account cannot be opened is not on, though the connection is.
func TestWhoIsNotOn(t *testing.T) {
	s := startControlled(t)
	opt := s.opt
	opt.Runner = runnerFunc(func(_ context.Context, stream net.Conn, in *session.Login) (*session.Outcome, error) {
		fmt.Fprintf(stream, "%s NO [UNAVAILABLE] later\r\n", in.Tag)
		return &session.Outcome{Unauthenticated: true}, nil
	})
	s.Reconfigure(opt)
	c := s.dial(t, 1)
	fmt.Fprint(c, "a LOGIN ann secret\r\n")
	c.want("a NO")
	c.do("NOOP")
	if list, _, err := s.ask(control.Request{Do: "who"}); err != nil || len(list) != 1 || list[0].Session.State != "not logged in" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestKick(t *testing.T) {
	s := startControlled(t)
	one, two, guest := s.dial(t, 1), s.dial(t, 0), s.dial(t, 1)
	one.do("LOGIN ann secret")
	two.do("LOGIN Ann secret")
	two.do("SELECT INBOX")
	fmt.Fprint(two, "i IDLE\r\n")
	two.want("+ ")
	other := s.dial(t, 1)
	other.do("LOGIN ben s3cretword")

	if list, done, err := s.ask(control.Request{Do: "kick", User: "ANN"}); len(list) != 2 || done != "2 connections" || err != nil {
		t.Errorf("%v, %q, %v", list, done, err)
	}
	for _, c := range []*client{one, two} {
		c.want("* BYE Closed by the administrator")
		c.end()
	}
	var list []control.Reply
	for end := time.Now().Add(5 * time.Minute); len(list) != 2; time.Sleep(time.Millisecond) { // until the two have gone
		var err error
		if list, _, err = s.ask(control.Request{Do: "who"}); err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", list, err)
		}
	}
	for _, r := range list {
		if r.Session.User == "" { // one that has not logged in goes too
			if _, _, err := s.ask(control.Request{Do: "kick", Session: r.Session.ID}); err != nil {
				t.Error(err)
			}
		}
	}
	guest.want("* BYE Closed by the administrator")
	guest.end()
	other.do("NOOP")
	for _, q := range []control.Request{{User: "nobody"}, {Session: "12345678"}, {}, {User: "ben", Session: "1"}} {
		q.Do = "kick"
		if _, _, err := s.ask(q); err == nil {
			t.Errorf("%+v is no error", q)
		}
	}
	other.do("NOOP")
	if log := s.log.String(); strings.Count(log, "event=kick") != 3 {
		t.Errorf("log:\n%s", log)
	}
}

// reading is a trace that runs.
type reading struct {
	t     *testing.T
	lines chan control.Line
	done  chan string
	err   error // readable after done
	stop  context.CancelFunc
}

// trace begins one and waits until it runs.
func (s *controlled) trace(q control.Request) *reading {
	s.t.Helper()
	q.Do = "trace"
	ctx, cancel := context.WithCancel(s.t.Context())
	r := &reading{t: s.t, lines: make(chan control.Line, 10000), done: make(chan string, 1), stop: cancel}
	go func() { // ends with the trace or ctx
		done, err := control.Ask(ctx, s.socket, q, func(rep control.Reply) error {
			r.lines <- *rep.Line
			return nil
		})
		r.err = err
		close(r.lines)
		r.done <- done
	}()
	if l := <-r.lines; !strings.Contains(l.Text, "waiting for more") {
		s.t.Fatalf("%+v", l)
	}
	return r
}

// until gives what is shown up to a line that contains text.
func (r *reading) until(text string) string {
	r.t.Helper()
	var b strings.Builder
	for l := range r.lines {
		fmt.Fprintf(&b, "%s: %s\n", l.From, l.Text)
		if strings.Contains(l.Text, text) {
			return b.String()
		}
	}
	r.t.Fatalf("the trace ended (%v) before %q:\n%s", r.err, text, b.String())
	return ""
}

// A trace has the login, and neither the password nor its base64 in whatever form it was sent.
func TestTraceOfALogin(t *testing.T) {
	s := startControlled(t)
	r := s.trace(control.Request{User: "ben"})
	plain := base64.StdEncoding.EncodeToString([]byte("\x00ben\x00s3cretword"))
	wrong := base64.StdEncoding.EncodeToString([]byte("\x00ben\x00s3cretwrong"))
	word := base64.StdEncoding.EncodeToString([]byte("s3cretword"))
	var all strings.Builder
	for _, text := range []string{
		"a LOGIN ben s3cretword\r\n",
		"a LOGIN \"ben\" \"s3cretword\"\r\n",
		"a LOGIN {3+}\r\nben {10+}\r\ns3cretword\r\n",
		"a AUTHENTICATE PLAIN " + plain + "\r\n",
		"a AUTHENTICATE PLAIN\r\n" + plain + "\r\n",
		"a AUTHENTICATE LOGIN\r\n" + base64.StdEncoding.EncodeToString([]byte("ben")) + "\r\n" + word + "\r\n",
		"x s3cretword\r\na LOGIN BEN s3cretword\r\n",
		"s3cretword\r\na LOGIN ben s3cretword\r\n",
		"a AUTHENTICATE PLAIN " + wrong + "\r\na LOGIN ben s3cretword\r\n",
	} {
		c := s.dial(t, 0)
		io.WriteString(c, text+"b NOOP\r\nc LOGOUT\r\n")
		for !strings.HasPrefix(c.line(), "c OK") {
		}
		got := r.until("session ended")
		all.WriteString(got)
		for _, want := range []string{"-: connection from 127.0.0.1, imaps\n", "S: * OK [CAPABILITY ", "C: a ", "S: a OK [CAPABILITY ", "C: b NOOP\n", "S: b OK NOOP completed\n", "C: c LOGOUT\n", "S: * BYE "} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in the trace of %q:\n%s", want, text, got)
			}
		}
	}
	if strings.Count(all.String(), "C: a AUTHENTICATE PLAIN [hidden]\n") != 2 || !strings.Contains(all.String(), "S: a NO [AUTHENTICATIONFAILED] [hidden]") {
		t.Errorf("%s", all.String())
	}
	for _, secret := range []string{"s3cret", "S3CRET", plain, wrong, word, plain[8:20], word[:6]} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("the trace has %q:\n%s", secret, all.String())
		}
	}
}

// A trace goes on behind STARTTLS, and has what a sniffer could not see.
func TestTraceThroughSTARTTLS(t *testing.T) {
	s := startControlled(t)
	r := s.trace(control.Request{User: "ben"})
	c := s.dial(t, 1)
	c.do("STARTTLS")
	c.tls()
	c.do("ID (\"name\" \"Mail\")")
	c.do("LOGIN ben s3cretword")
	if list, _, err := s.ask(control.Request{Do: "who"}); err != nil || len(list) != 1 || list[0].Session.TLS != "TLS 1.3" {
		t.Errorf("%+v, %v", list, err)
	}
	c.do("LOGOUT")
	got := r.until("session ended")
	for _, want := range []string{"C: x STARTTLS\n", "S: x OK Begin TLS now\n", "C: x ID (\"name\" \"Mail\")\n", "C: x LOGIN [hidden]\n", "S: x OK [CAPABILITY "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in it:\n%s", want, got)
		}
	}
	if strings.Contains(got, "s3cret") {
		t.Errorf("%s", got)
	}
}

// Logins that fail are in the trace of the user whom they name, and in no other's.
func TestTraceOfALoginThatFails(t *testing.T) {
	s := startControlled(t)
	r, other := s.trace(control.Request{User: "ann"}), s.trace(control.Request{User: "carl"})
	c := s.dial(t, 1)
	fmt.Fprint(c, "a LOGIN ben wrong\r\n")
	c.want("a NO")
	fmt.Fprint(c, "b LOGIN ann wrong\r\n")
	c.want("b NO")
	fmt.Fprint(c, "c LOGIN ben s3cretword\r\n")
	c.want("c OK")
	fmt.Fprint(c, "d LOGOUT\r\n")
	c.end()
	c = s.dial(t, 1)
	fmt.Fprint(c, "e LOGIN ann secret\r\nf LOGOUT\r\n")
	c.end()
	got := r.until("session ended")
	if strings.Contains(got, "C: a ") || strings.Contains(got, " d ") {
		t.Errorf("what was said as ben is in it:\n%s", got)
	}
	if !strings.Contains(got, "C: b LOGIN [hidden]\n") || !strings.Contains(got, "S: b NO [AUTHENTICATIONFAILED]") || !strings.Contains(got, "S: e OK ") {
		t.Errorf("%s", got)
	}
	other.stop()
	<-other.done
	for l := range other.lines {
		t.Errorf("carl's trace has %+v", l)
	}
}

// A session that is there already is traced from its next command on, with no byte of mail.
func TestTraceOfASession(t *testing.T) {
	s := startControlled(t)
	c := s.client()
	mail := "Subject: ^secret^\r\n\r\n^secret^ {5}\r\n* 1 FETCH (x \"^\")\r\n"
	put := func() {
		t.Helper()
		cmd := c.Append("INBOX", int64(len(mail)), nil)
		if _, err := io.WriteString(cmd, mail); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Close(); err != nil {
			t.Fatal(err)
		}
		must[*imap.AppendData](t)(cmd.Wait())
	}
	get := func() {
		t.Helper()
		must[[]*imapclient.FetchMessageBuffer](t)(c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{
			Envelope: true, InternalDate: true, Flags: true, BodySection: []*imap.FetchItemBodySection{{Peek: true}},
			BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		}).Collect())
	}
	day := time.Now().UTC().Format("_2-Jan-2006 ")
	put()
	if now := time.Now().UTC().Format("_2-Jan-2006 "); now != day { // it was midnight
		day = ""
	}
	must[*imap.SelectData](t)(c.Select("INBOX", nil).Wait())
	r := s.trace(control.Request{User: "ben"})
	get()
	put()
	if err := c.Logout().Wait(); err != nil {
		t.Fatal(err)
	}
	got := r.until("session ended")
	for _, want := range []string{"-: session since ", ", selected in INBOX\n", " FETCH 1 ", "S: * 1 FETCH (", "INTERNALDATE \"" + day, "] {", fmt.Sprintf("C: [%d bytes]\n", len(mail)), "APPENDUID", "S: * 2 EXISTS\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in it:\n%s", want, got)
		}
	}
	if strings.ContainsAny(got, "^") {
		t.Errorf("there is mail in it:\n%s", got)
	}
	// When the last trace has gone nobody looks at anything.
	r.stop()
	<-r.done
	c2 := s.client()
	c2.Noop().Wait()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) { // and the server has noticed
		list, _, err := s.ask(control.Request{Do: "who"})
		if err != nil || time.Now().After(end) {
			t.Fatalf("%+v, %v", list, err)
		}
		if len(list) == 1 { // the first has gone
			break
		}
	}
	for end := time.Now().Add(5 * time.Minute); s.traces.running.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the trace does not end with its reader")
		}
	}
	for _, p := range s.on.list() {
		p.mu.Lock()
		if p.mask != nil || p.traces != nil || p.held != nil {
			t.Errorf("%+v is still traced", p)
		}
		p.mu.Unlock()
	}
}

// What is compressed is traced as what it says.
func TestTraceOfACompressedSession(t *testing.T) {
	s := startControlled(t)
	r := s.trace(control.Request{User: "ann"})
	c := s.dial(t, 1)
	c.do("LOGIN ann secret")
	c.do("COMPRESS DEFLATE")
	w, err := flate.NewWriter(c, 6)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "x1 SELECT INBOX\r\nx2 LOGOUT\r\n")
	w.Flush()
	got := r.until("session ended")
	for _, want := range []string{" COMPRESS DEFLATE\n", "S: x1 OK ", "C: x2 LOGOUT\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in it:\n%s", want, got)
		}
	}
}

// A trace ends by itself.
func TestTraceEnds(t *testing.T) {
	s := startControlled(t)
	c := s.dial(t, 1)
	c.do("LOGIN ann secret")
	r := s.trace(control.Request{User: "ann", Lines: 5})
	for range 10 {
		c.do("NOOP")
	}
	if done := <-r.done; !strings.HasPrefix(done, "5 lines are shown") {
		t.Errorf("%q, %v", done, r.err)
	}
	r = s.trace(control.Request{User: "ann", Seconds: 1})
	if done := <-r.done; done != "1s are over" {
		t.Errorf("%q, %v", done, r.err)
	}
	var all []*reading
	for range maxTraces {
		all = append(all, s.trace(control.Request{User: "ann"}))
	}
	if _, _, err := s.ask(control.Request{Do: "trace", User: "ann"}); err == nil || !strings.Contains(err.Error(), "4 traces run") {
		t.Error(err)
	}
	if _, _, err := s.ask(control.Request{Do: "trace"}); err == nil {
		t.Error("a trace of nobody is no error")
	}
	c.do("NOOP") // all see it
	for _, r := range all {
		r.until("NOOP completed")
	}
}

// Who traces and does not read slows nobody down, and is told what was dropped.
func TestTraceThatNobodyReads(t *testing.T) {
	s := startControlled(t)
	c := s.dial(t, 1)
	c.do("LOGIN ann secret")
	nc, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintln(nc, `{"do":"trace","user":"ann"}`)
	for s.traces.running.Load() == 0 {
		time.Sleep(time.Millisecond) // nothing tells when
	}
	long := strings.Repeat("x", 800)
	const n = 6000
	go func() { // ends with the last answer
		for i := range n {
			fmt.Fprintf(c, "a%d STATUS %s (MESSAGES)\r\n", i, long)
		}
	}()
	for i := range n {
		c.want(fmt.Sprintf("a%d NO", i))
	}
	var dropped, lines int
	for dec := json.NewDecoder(nc); ; lines++ {
		var r control.Reply
		if err := dec.Decode(&r); err != nil || r.Line == nil {
			t.Fatalf("%+v, %v", r, err)
		}
		if dropped += r.Line.Dropped; dropped > 0 {
			break
		}
		if lines > 2*n {
			t.Fatal("nothing was dropped")
		}
		if lines%100 == 0 {
			c.do("NOOP") // something must come after what was dropped
		}
	}
	if dropped > 2*n+100 || lines < traceQueue {
		t.Errorf("%d lines, %d dropped", lines, dropped)
	}
}
