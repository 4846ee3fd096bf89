package workers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"roost/auth"
	"roost/store"
)

// A note is given to the user's worker, whose answer is not trusted to come, to end, or to
// be short.
func TestNote(t *testing.T) {
	answers := make(chan func(c net.Conn), 1)
	tb := newTable(t, func(tb *table, _ *Desk) { tb.answers = answers })
	tb.ask(asked{Do: "passwords"}) // it serves
	for _, tt := range []struct{ what, answer, want string }{
		{"delivered", "ok", ""},
		{"refused", "quota", `the process of uid 1000 says: "quota"`},
		{"with a line of its own", "ok\nuser=ben", `the process of uid 1000 says: "ok\nuser=ben"`},
		{"without end", strings.Repeat("x", 1<<20), `the process of uid 1000 says: "` + strings.Repeat("x", answerSize) + `"`},
		{"nothing", "", "the process of uid 1000 ended"},
	} {
		answers <- func(c net.Conn) {
			io.WriteString(c, tt.answer)
			c.Close()
		}
		err := tb.desk.Note(t.Context(), auth.User{Name: "ann", Login: "ann"}, []byte("text"))
		if got := (<-tb.orders); !got.Note || got.Front != 0 || got.UID != 1000 {
			t.Errorf("%s: %+v", tt.what, got)
		} else {
			var job Job
			if err := json.Unmarshal(got.Job, &job); err != nil || job.Login.Who.User != "ann" || string(job.Note) != "text" {
				t.Errorf("%+v, %v", job, err)
			}
		}
		if err == nil && tt.want != "" || err != nil && err.Error() != tt.want {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	// One that says nothing is not waited for.
	ctx, cancel := context.WithCancel(t.Context())
	answers <- func(c net.Conn) { cancel() } // and stays
	if err := tb.desk.Note(ctx, auth.User{Name: "ann"}, []byte("text")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := tb.desk.Note(t.Context(), auth.User{Name: "ann"}, make([]byte, noteSize+1)); err == nil {
		t.Error("a note without end")
	}
}

// The worker answers whether it could, whatever goes wrong.
func TestWorkerDelivers(t *testing.T) {
	for _, tt := range []struct {
		deliver func() error
		want    string
	}{
		{func() error { return nil }, "ok"},
		{func() error { return errors.New(strings.Repeat("e", 1000)) }, strings.Repeat("e", answerSize)},
		{func() error { panic("x") }, "the delivery panicked"},
	} {
		var got string
		w := &Worker{Log: slog.New(slog.DiscardHandler), Deliver: func(_ context.Context, _ store.Store, who store.Identity, text []byte) error {
			got = who.User + " " + string(text)
			return tt.deliver()
		}}
		a, b := mustPair(t, unix.SOCK_STREAM)
		far, err1 := socket(b)
		near, err2 := socket(a)
		s, err3 := newStream(near)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		job := Job{Note: []byte("text")}
		job.Login.Who.User = "ann"
		w.note(t.Context(), s, &job)
		answer, err := io.ReadAll(far)
		if err != nil || string(answer) != tt.want || got != "ann text" {
			t.Errorf("%q, %v, %q", answer, err, got)
		}
		far.Close()
	}
}

// A parent makes for a note what a session has, but for the front's part in it: none is
// needed, and no front gets a link by it.
func TestParentNeedsNoFrontForANote(t *testing.T) {
	ours, theirs := mustPair(t, unix.SOCK_SEQPACKET)
	ch, err1 := newChannel(ours)
	far, err2 := newChannel(theirs)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer far.close()
	defer ch.close()
	w := &worker{uid: 1000, number: 3, ch: ch, ready: make(chan struct{}), linked: 7}
	close(w.ready)
	p := &Parent{MinUID: 1000, MinGID: 1000, Most: 10, workers: map[string]*worker{"1000 1000 [] /home/ann": w}, front: 8}
	o := Order{UID: 1000, GID: 1000, Dirs: []string{"/home/ann"}, Job: json.RawMessage(`{}`)}
	if _, _, _, err := p.session(&o); err == nil {
		t.Error("a session without its front")
	}
	o.Note = true
	_, files, linked, err := p.session(&o)
	if err != nil || linked || len(files) != 1 || w.linked != 7 || w.sessions != 1 {
		t.Fatalf("%v, %v, %d files, %+v", err, linked, len(files), w)
	}
	defer closeAll(files)
	var m toWorker
	got, err := far.receive(&m, 2)
	if err != nil || m.Link || len(got) != 1 || !bytes.Equal(m.Job, o.Job) {
		t.Errorf("%+v, %v, %d files", m, err, len(got))
	}
	closeAll(got)
	for _, bad := range []Order{{UID: 0, GID: 1000}, {UID: 1000, GID: 10}} {
		bad.Note, bad.Dirs = true, o.Dirs
		if _, _, _, err := p.session(&bad); err == nil {
			t.Errorf("%+v", bad)
		}
	}
}
