package events

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func quiet(w *strings.Builder) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// A command finds the event in its environment, and what strangers chose is no shell's.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	var log strings.Builder
	w := New(Options{Log: quiet(&log)})
	w.Configure([]Rule{{Name: "new_network", Run: []string{"/bin/sh", "-c", "env >" + out + ".tmp; mv " + out + ".tmp " + out}}, {Name: "other", Run: []string{"/nonexistent"}}})
	w.Note(Event{Name: "new_network", User: "ann$(id)\n\x00x", Addr: "192.0.2.7", Client: "Mail", Detail: "first login\x1b[2J"})
	for {
		if _, err := os.Stat(out); err == nil {
			break
		}
		if w.ctx.Err() != nil {
			t.Fatal("closed")
		}
		time.Sleep(time.Millisecond)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(out)
	for _, want := range []string{"ROOST_EVENT=new_network\n", "ROOST_USER=ann$(id)??x\n", "ROOST_ADDR=192.0.2.7\n", "ROOST_CLIENT=Mail\n", "ROOST_DETAIL=first login?[2J\n", "ROOST_TIME=2"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q in\n%s", want, b)
		}
	}
	if strings.Contains(string(b), "HOME=") {
		t.Errorf("it has the server's environment:\n%s", b)
	}
	if !strings.Contains(log.String(), "event=new_network user=ann$(id)??x addr=192.0.2.7") {
		t.Error(log.String())
	}
	w.Note(Event{Name: "late"}) // harms nothing
}

// A command that hangs is ended with all that it started, and delays nobody.
func TestRunIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	pid := filepath.Join(t.TempDir(), "pid")
	go func() {
		done <- run(ctx, []string{"/bin/sh", "-c", "sleep 1000 & echo $! >" + pid + "; wait"}, Event{})
	}()
	var child string
	for !strings.HasSuffix(child, "\n") {
		b, _ := os.ReadFile(pid)
		child = string(b)
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "it was ended") {
		t.Error(err)
	}
	for { // until the kernel has done it
		b, err := os.ReadFile("/proc/" + strings.TrimSpace(child) + "/stat")
		if err != nil || strings.Contains(string(b), ") Z ") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := run(t.Context(), []string{"/bin/sh", "-c", "echo why; head -c 100000 /dev/zero; exit 3"}, Event{}); err == nil || !strings.Contains(err.Error(), "exit status 3: why") || len(err.Error()) > 2*textSize {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"/nonexistent"}, Event{}); err == nil {
		t.Error("no error")
	}
}

// Whatever strangers cause: each event is told once an hour, commands are few, and noting
// never waits.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var mu sync.Mutex
		mailed, now, most := 0, 0, 0
		hold := make(chan struct{})
		w := New(Options{Log: quiet(&log), Mail: func(ctx context.Context, e Event) error {
			mu.Lock()
			mailed++
			now++
			most = max(most, now)
			mu.Unlock()
			select {
			case <-hold:
			case <-ctx.Done():
			}
			mu.Lock()
			now--
			mu.Unlock()
			return ctx.Err()
		}})
		count := func() int { mu.Lock(); defer mu.Unlock(); return mailed }
		w.Configure([]Rule{{Name: "e", Mail: true}})
		for i := range 10_000 {
			w.Note(Event{Name: "e", User: fmt.Sprint("user", i)})
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		if n := count(); n > running {
			t.Errorf("%d mails begun", n)
		}
		time.Sleep(5 * time.Minute) // each is ended after its time
		synctest.Wait()
		if n := count(); n != aMinute {
			t.Errorf("%d mails of one minute", n)
		}
		close(hold)
		for range 5 {
			w.Note(Event{Name: "e", User: "ann", Addr: "192.0.2.7"})
		}
		synctest.Wait()
		if n := count() - aMinute; n != 1 {
			t.Errorf("%d mails of one event", n)
		}
		time.Sleep(time.Hour)
		w.Note(Event{Name: "e", User: "ann", Addr: "192.0.2.7"})
		w.Close()
		if len(w.told) > known || most > running {
			t.Errorf("%d are remembered, %d mailed at one time", len(w.told), most)
		}
		if !strings.Contains(log.String(), "event=event_skipped") || !strings.Contains(log.String(), "event=event_failed") {
			t.Error("the log says nothing of it")
		}
		if n := strings.Count(log.String(), "event=e user=ann"); n != 2 {
			t.Errorf("told %d times", n)
		}
	})
}

// More at once than can be written down is dropped and told of, and nobody waits.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &heldWriter{hold: make(chan struct{})}
		w := New(Options{Log: slog.New(slog.NewTextHandler(log, nil))})
		w.Note(Event{Name: "e"})
		synctest.Wait() // the loop waits for the log
		for i := range queued + 10 {
			w.Note(Event{Name: "e", User: fmt.Sprint(i)})
		}
		close(log.hold)
		synctest.Wait()
		w.Note(Event{Name: "x"})
		w.Close()
		if !strings.Contains(log.String(), "event=events_dropped events=10") {
			t.Error(log.String())
		}
	})
}

// heldWriter waits before it writes.
type heldWriter struct {
	strings.Builder
	hold chan struct{}
}

func (h *heldWriter) Write(p []byte) (int, error) {
	<-h.hold
	return h.Builder.Write(p)
}

func TestHistory(t *testing.T) {
	dir := t.TempDir()
	h, err := openHistory(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	for i := range 30_000 {
		if err := h.add(Event{Time: at, Name: "e", User: []string{"Ann", "ben"}[i%2], Detail: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if fi, _ := e.Info(); fi.Size() > historySize || fi.Mode() != 0o600 {
			t.Errorf("%s: %d bytes, %v", e.Name(), fi.Size(), fi.Mode())
		}
	}
	if len(entries) != 2 {
		t.Errorf("%d files", len(entries))
	}
	list, err := h.of("ann", 3)
	if err != nil || len(list) != 3 || list[2].Detail != "29998" || list[0].Detail != "29994" || !list[0].Time.Equal(at) {
		t.Errorf("%+v, %v", list, err)
	}
	if list, _ := h.of("", 1_000_000); len(list) < 10_000 || list[len(list)-1].Detail != "29999" {
		t.Errorf("%d of everybody", len(list))
	}
	h.close()

	// A line that was cut off, one that is none, one without end.
	path := filepath.Join(dir, historyName)
	if err := os.WriteFile(path, []byte("{\"event\":\"a\",\"user\":\"zoe\"}\n\x00\x00\n"+strings.Repeat("x", 3*lineSize)+"\n{\"event\":\"b\",\"us"), 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err = openHistory(dir); err != nil {
		t.Fatal(err)
	}
	h.add(Event{Name: "c", User: "zoe"})
	if list, err = h.of("zoe", 10); err != nil || len(list) != 2 || list[0].Name != "a" || list[1].Name != "c" {
		t.Errorf("%+v, %v", list, err)
	}
	h.close()
	if _, err := openHistory(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there is no error")
	}
}

func TestBurst(t *testing.T) {
	b := Burst{Many: 100, Within: 10 * time.Minute}
	now := time.Unix(1_700_000_000, 0)
	for i := range 1000 { // three a minute, for ever, are none
		if b.Add(now.Add(time.Duration(i)*time.Minute), "ann", 3) {
			t.Fatalf("a burst after %d minutes", i)
		}
	}
	now = now.Add(2000 * time.Minute)
	told := 0
	for i := range 200 {
		if b.Add(now.Add(time.Duration(i)*time.Second), "ben", 1) {
			told++
			if i != 99 {
				t.Errorf("told at %d", i+1)
			}
		}
	}
	if told != 1 || !b.Add(now, "cleo", 100) {
		t.Errorf("told %d times", told)
	}
	// Around the middle of the time, too.
	for i := range 11 {
		if got := b.Add(now.Add(time.Duration(i)*time.Minute), "dora", 12); got != (i == 8) {
			t.Errorf("minute %d: %v", i, got)
		}
	}
	for i := range known + 100 {
		b.Add(now, fmt.Sprint(i), 1)
	}
	if len(b.by) > known {
		t.Errorf("%d are remembered", len(b.by))
	}
}
