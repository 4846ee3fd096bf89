package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
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
