package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// The units are understood by systemd, and as closed as their heads say.
func TestSystemdUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("needs systemd-analyze: apt-get install systemd")
	}
	units, err := filepath.Glob("../contrib/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		b, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		claim := regexp.MustCompile(`security --offline=true: (\d+\.\d)`).FindSubmatch(b)
		if claim == nil {
			t.Errorf("%s does not say its score", unit)
			continue
		}
		// Only root's system manager is asked by default, and none is needed.
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", unit).CombinedOutput()
		score := regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d)`).FindSubmatch(out)
		if score == nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
			continue
		}
		// Each version of systemd counts a little differently.
		if string(score[1]) > string(claim[1]) && strings.Contains(version(t), "systemd 252") {
			t.Errorf("%s claims %s and has %s\n%s", unit, claim[1], score[1], out)
		}
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "roost")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sockets, _ := filepath.Glob("../contrib/systemd/*.socket")
	args := []string{"verify", "--recursive-errors=no"}
	for _, file := range append(units, sockets...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Where the program is installed is nothing to the syntax.
		unit := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(b), "/usr/local/bin/roost", bin)), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, unit)
	}
	out, _ := exec.Command("systemd-analyze", args...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "roost") {
			t.Error(line)
		}
	}
}

func version(t *testing.T) string {
	out, err := exec.Command("systemd-analyze", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Who took the desk over owns the state directory, and could have root give it, or what is in it, any
// directory of the machine at the next start.
func TestUnitGivesAwayNothingThatTheDeskPutThere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b, err := os.ReadFile("../contrib/systemd/roost-workers.service")
	if err != nil {
		t.Fatal(err)
	}
	before := regexp.MustCompile(`(?m)^ExecStartPre=[-+]*(.*)$`).FindAllSubmatch(b, -1)
	for name, plant := range map[string]func(acme, target string) error{
		"a link":            func(acme, target string) error { return os.Symlink(target, acme) },
		"one of the desk's": func(acme, _ string) error { return os.Mkdir(acme, 0o755) },
		"nothing":           func(string, string) error { return nil },
	} {
		state, target := filepath.Join(t.TempDir(), "roost"), filepath.Join(t.TempDir(), "etc")
		acme := filepath.Join(state, "acme")
		for _, dir := range []string{state, target} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := plant(acme, target); err != nil {
			t.Fatal(err)
		}
		const desk, issuer = 61001, 61002
		if name != "nothing" {
			if err := os.Lchown(acme, desk, desk); err != nil {
				t.Fatal(err)
			}
		}
		for _, line := range before {
			cmd := strings.NewReplacer("/var/lib/roost", state, "roost-auth", fmt.Sprint(desk), "roost-acme", fmt.Sprint(issuer)).Replace(string(line[1]))
			if out, err := exec.Command("sh", "-c", cmd).CombinedOutput(); err != nil {
				t.Errorf("%s there: %s: %v: %s", name, cmd, err, out)
			}
		}
		owned := func(path string, by uint32, mode os.FileMode) {
			t.Helper()
			fi, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != by || mode != 0 && fi.Mode().Perm() != mode {
				t.Errorf("%s there: %s belongs to uid %d, not %d, with mode %v", name, path, uid, by, fi.Mode())
			}
		}
		owned(state, desk, 0o700)
		owned(target, 0, 0o755)
		if name == "nothing" {
			owned(acme, 0, 0o700) // empty and root's: the parent gives it to the issuer
		} else {
			owned(acme, desk, 0)
		}
	}
}
