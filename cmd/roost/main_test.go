package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// roost runs a command line and gives what it printed.
func roost(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	code = run(t.Context(), env, args)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args   string
		code   int
		stdout string // contained
		stderr string // contained
	}{
		{"", exitUsage, "", "roost: no verb was given"},
		{"-h", exitDone, "usage: roost VERB", ""},
		{"--version", exitDone, "roost devel", ""},
		{"nonsense", exitUsage, "", `unknown verb "nonsense"`},
		{"config", exitUsage, "", "roost config check, roost config show, roost config default"},
		{"help config", exitDone, "config show", ""},
		{"help nonsense", exitUsage, "", "unknown verb"},
		{"config check -h", exitDone, "example:\n  roost config check", ""},
		{"config check --colour", exitUsage, "", "`roost config check -h` shows the flags"},
		{"config check x", exitUsage, "", `nothing is known to do with "x"`},
		{"config check --config /nonexistent/roost.toml", exitUsage, "", "`roost config default` prints one"},
		{"config default", exitDone, "#passwd_file = \"/etc/roost/passwd\"", ""},
	} {
		code, stdout, stderr := roost(t, strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("roost %s: %d\n%s%s", tt.args, code, stdout, stderr)
		}
	}
}

// Every verb says what it does in one sentence, and its example is its own.
func TestVerbs(t *testing.T) {
	for _, v := range verbs() {
		if !strings.HasSuffix(v.about, ".") || !strings.Contains(v.example, "roost "+v.name) || v.setup == nil {
			t.Errorf("%s: %q, example %q", v.name, v.about, v.example)
		}
	}
}

func TestManualIsFresh(t *testing.T) {
	var b bytes.Buffer
	printManual(&b)
	got, err := os.ReadFile("../../docs/roost.md")
	if err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("docs/roost.md is stale: make docs (%v)", err)
	}
}

func TestParseFlags(t *testing.T) {
	for _, tt := range []struct {
		args, rest []string
		x          bool
		y          string
	}{
		{[]string{"a", "-x", "b", "--y", "1", "c"}, []string{"a", "b", "c"}, true, "1"},
		{[]string{"-x", "--", "-y", "a"}, []string{"-y", "a"}, true, ""},
		{nil, nil, false, ""},
	} {
		fs := flag.NewFlagSet("t", flag.ContinueOnError)
		x, y := fs.Bool("x", false, ""), fs.String("y", "", "")
		rest, err := parseFlags(fs, tt.args)
		if err != nil || !slices.Equal(rest, tt.rest) || *x != tt.x || *y != tt.y {
			t.Errorf("%q: %q %v %q, %v", tt.args, rest, *x, *y, err)
		}
	}
}

func TestConfigCheckReportsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roost.toml")
	if err := os.WriteFile(path, []byte("[tls]\ncret = 1\n[log]\nlevel = 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := roost(t, "config", "check", "--config", path)
	want := path + ":2:1: unknown key \"tls.cret\" (did you mean \"tls.cert\"?)\n" + path + ":4:9: log.level is text: write \"7\"\n"
	if code != exitUsage || stdout != want || stderr != "roost: "+path+": 2 problems\n" {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// The demo, looked at by its own client.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server: run without -short")
	}
	code, stdout, stderr := roost(t, "demo", "--check")
	if code != exitDone || !strings.HasSuffix(stdout, "all of it was right\n") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// Interrupted, the demo ends and takes its directory along.
func TestDemoEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Setenv("TMPDIR", t.TempDir())
	r, w := io.Pipe()
	env := &environment{stdin: strings.NewReader(""), stdout: w, stderr: io.Discard, getenv: func(string) string { return "" }}
	done := make(chan int)
	go func() { // ends with ctx
		code := run(ctx, env, []string{"demo", "--every", time.Hour.String()})
		w.Close()
		done <- code
	}()
	text := make([]byte, 4096)
	n, err := r.Read(text) // the settings are printed when it serves
	if err != nil || !strings.Contains(string(text[:n]), "curl --cacert") {
		t.Errorf("%q, %v", text[:n], err)
	}
	cancel()
	io.Copy(io.Discard, r)
	if code := <-done; code != exitDone {
		t.Errorf("exit code %d", code)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
