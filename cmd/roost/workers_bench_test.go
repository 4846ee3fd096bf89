package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkLogin is what a user waits for at LOGIN and SELECT, in one process and with a
// process of the user's own, which is there ("worker") or has to be started ("start").
func BenchmarkLogin(b *testing.B) {
	const conf = "[isolation]\nmode = \"user\"\n"
	login := func(b *testing.B, k *talker) {
		k.say("a LOGIN ann s3cretword\r\n", "a OK")
		k.say("b SELECT INBOX\r\n", "b OK")
	}
	for _, way := range []struct {
		name string
		open func(b *testing.B) *serving
	}{
		{"one", func(b *testing.B) *serving { return startServing(b, conf) }},
		{"worker", func(b *testing.B) *serving { return startWorkers(b, "") }},
		{"start", func(b *testing.B) *serving { return startWorkers(b, "idle = \"1ns\"\n[log]\nlevel = \"debug\"\n") }},
	} {
		b.Run(way.name, func(b *testing.B) {
			s := way.open(b)
			if way.name != "start" {
				login(b, s.dial()) // stays
			}
			for b.Loop() {
				b.StopTimer()
				k := s.dial()
				b.StartTimer()
				login(b, k)
				b.StopTimer()
				s.mu.Lock()
				s.lines = nil
				s.mu.Unlock()
				k.say("c LOGOUT\r\n", "c OK")
				k.Close()
				if way.name == "start" {
					s.wait("event=isolation_worker_end")
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkFetch is how fast the bodies of big messages come over TLS, in one process and
// by way of the front; server-ms/op is the time of processors that the server's processes
// take for it, which the client's own work on the same machine has no part in.
func BenchmarkFetch(b *testing.B) {
	const messages, size = 32, 1 << 20
	for _, way := range []struct {
		name string
		open func(b *testing.B) *serving
	}{
		{"one", func(b *testing.B) *serving { return startServing(b, "[isolation]\nmode = \"user\"\n") }},
		{"workers", func(b *testing.B) *serving { return startWorkers(b, "") }},
	} {
		b.Run(way.name, func(b *testing.B) {
			s := way.open(b)
			k := s.dial()
			k.say("a LOGIN ann s3cretword\r\n", "a OK")
			text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", size/72)
			for range messages {
				k.say(fmt.Sprintf("b APPEND INBOX {%d+}\r\n%s\r\n", len(text), text), "b OK")
			}
			k.say("c SELECT INBOX\r\n", "c OK")
			buf := make([]byte, 256<<10)
			fetch := func() {
				fmt.Fprint(k, "d FETCH 1:* BODY.PEEK[]\r\n")
				for total := 0; ; {
					n, err := k.in.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					if total += n; total > messages*len(text) && bytes.Contains(buf[:n], []byte("\nd OK")) {
						return
					}
				}
			}
			fetch()
			b.SetBytes(int64(messages * len(text)))
			before := s.processors(b)
			for b.Loop() {
				k.SetDeadline(time.Now().Add(patience))
				fetch()
			}
			b.ReportMetric(float64((s.processors(b)-before).Milliseconds())/float64(b.N), "server-ms/op")
		})
	}
}

// proc reads a file of /proc of each process of a server.
func (s *serving) proc(b *testing.B, file string) (texts []string) {
	b.Helper()
	pids := []int{s.cmd.Process.Pid}
	for _, pid := range s.processes() {
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			b.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	return texts
}

// processors adds up the processors' time of the processes of a server.
func (s *serving) processors(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, text := range s.proc(b, "stat") {
		var user, system int64 // in hundredths of a second
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		fmt.Sscan(fields[11], &user)
		fmt.Sscan(fields[12], &system)
		sum += time.Duration(user+system) * 10 * time.Millisecond
	}
	return sum
}

// BenchmarkIdleMemory is what the processes of a server take together (PSS: what is shared
// is counted once) for users with five idle sessions each.
func BenchmarkIdleMemory(b *testing.B) {
	const users, each = 20, 5
	for _, mode := range []string{"user", "workers"} {
		b.Run(mode, func(b *testing.B) {
			for b.Loop() {
				if os.Getuid() != 0 {
					b.Skip("needs root: processes become other users")
				}
				s := startServing(b, fmt.Sprintf("[isolation]\nmode = %q\nfront_user = \"%d\"\nauth_user = \"%d\"\n", mode, frontUID, authUID))
				var list strings.Builder
				for i := range users {
					home := filepath.Join(s.dir, "home", fmt.Sprint(i))
					if err := os.MkdirAll(home, 0o755); err != nil {
						b.Fatal(err)
					}
					if err := os.Chown(home, 61000+i, 61000+i); err != nil {
						b.Fatal(err)
					}
					fmt.Fprintf(&list, "u%d:{PLAIN}s3cretword:%d:%d::%s::\n", i, 61000+i, 61000+i, home)
				}
				s.write("next", list.String(), 0o644)
				if err := os.Rename(filepath.Join(s.dir, "next"), filepath.Join(s.dir, "passwd")); err != nil {
					b.Fatal(err)
				}
				before := s.pss(b)
				for i := range users * each {
					k := s.dial()
					k.say(fmt.Sprintf("a LOGIN u%d s3cretword\r\n", i%users), "a OK")
					k.say("b SELECT INBOX\r\n", "b OK")
					k.say("c IDLE\r\n", "+ ")
				}
				after := s.pss(b)
				b.ReportMetric(float64(before), "KiB-empty")
				b.ReportMetric(float64(after-before)/users, "KiB/user")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// pss adds up what the processes of a server take, in KiB.
func (s *serving) pss(b *testing.B) (sum int) {
	b.Helper()
	for _, text := range s.proc(b, "smaps_rollup") {
		for line := range strings.Lines(text) {
			var kib int
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
				sum += kib
			}
		}
	}
	return sum
}
