package test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"roost/config"
	"roost/server/session"
	"roost/test/neighbour"
)

// pages are the README and all of docs, by their path from the top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	out := map[string]string{}
	for _, file := range append(files, "../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(file, "../")] = string(b)
	}
	return out
}

// blocks gives a page's fenced blocks in a language.
func blocks(page, language string) (list []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		list = append(list, m[1])
	}
	return list
}

// Every configuration that the docs show is right, but for files and users that are
// not on this machine.
func TestDocsConfigurations(t *testing.T) {
	elsewhere := regexp.MustCompile(`there is no file|there is no such (user|group)|there is no certificate|may not be read by`)
	seen := 0
	for name, page := range pages(t) {
		for _, text := range blocks(page, "toml") {
			seen++
			c, err := config.Parse(name, text)
			if err == nil {
				err = c.Check(time.Now(), config.Protocol{Filter: session.CheckFilter, Capabilities: session.Capabilities()})
			}
			var problems config.Problems
			if err != nil && !errors.As(err, &problems) {
				t.Errorf("%s: %v", name, err)
			}
			for _, p := range problems {
				if !elsewhere.MatchString(p.Text) {
					t.Errorf("%v, in:\n%s", p, text)
				}
			}
		}
	}
	if seen < 3 {
		t.Errorf("only %d configurations were found", seen)
	}
}

// Each promise of docs/security.md is attacked by a test that there is.
func TestDocsPromises(t *testing.T) {
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`").FindAllStringSubmatch(pages(t)["docs/security.md"], -1)
	if len(named) < 30 {
		t.Fatalf("only %d tests are named", len(named))
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("docs/security.md names %s, which is not there", m[1])
		}
	}
}

// The commands of roost that docs/hardening.md shows are understood.
func TestDocsHardening(t *testing.T) {
	bin, err := neighbour.BuildRoost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, text := range blocks(pages(t)["docs/hardening.md"], "sh") {
		for line := range strings.Lines(text) {
			args, ok := strings.CutPrefix(strings.TrimSpace(line), "sudo roost ")
			if !ok {
				t.Errorf("%q is no command of roost", line)
				continue
			}
			seen++
			if out, err := exec.Command(bin, append(strings.Fields(args), "-h")...).CombinedOutput(); err != nil {
				t.Errorf("roost %s -h: %v\n%s", args, err, out)
			}
		}
	}
	if seen == 0 {
		t.Error("no command was found")
	}
}

// What the docs link to in this tree is there.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for name, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(page, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(name), m[1])); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
	}
}

// The table of dependencies has the modules that go.mod asks for, and no others.
func TestDocsDependencies(t *testing.T) {
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{"honnef.co/go/tools": true} // a tool's module counts as indirect
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllSubmatch(b, -1) {
		name := string(m[1])
		wanted[name] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([a-z]\S*/\S+) \|`).FindAllStringSubmatch(pages(t)["docs/dependencies.md"], -1) {
		if !wanted[m[1]] {
			t.Errorf("docs/dependencies.md has %s, which go.mod does not ask for", m[1])
		}
		delete(wanted, m[1])
	}
	for name := range wanted {
		t.Errorf("docs/dependencies.md says nothing of %s", name)
	}
}

// A change is told in one file: a verb and a title of at most 70 letters, then what was
// wrong and what Roost does now.
func TestDocsChanges(t *testing.T) {
	files, err := filepath.Glob("../docs/changes/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	form := regexp.MustCompile(`\A(New|Fix|Change|Removed|Security): [^\n]{5,70}\n\n([^\n]{1,100}\n)+\z`)
	for _, file := range files {
		if b, err := os.ReadFile(file); err != nil || !form.Match(b) {
			t.Errorf("%s: %v; it is \"New: title\", an empty line, a paragraph", file, err)
		}
	}
}
