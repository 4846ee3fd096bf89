package test

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	cited = regexp.MustCompile(`RFC (\d{4,5})(?:,? [Ss]ections? ([0-9A-Z]+(?:\.[0-9]+)*)(?: and ([0-9]+(?:\.[0-9]+)*))?)?`)
	other = regexp.MustCompile(`RFC ?\d{4,5}(?:,? ?§|#| sec\.)`)
)

// A citation points somewhere: the section exists in the RFC that it names, and
// is written in the one form that can be searched for.
func TestCitations(t *testing.T) {
	f, err := os.Open("testdata/rfc-sections.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sections := map[string]map[string]bool{}
	for in := bufio.NewScanner(f); in.Scan(); {
		words := strings.Fields(in.Text())
		sections[words[0]] = map[string]bool{}
		for _, s := range words[1:] {
			sections[words[0]][s] = true
		}
	}
	n := 0
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(b), "\n") {
			if m := other.FindString(line); m != "" && !strings.Contains(path, "citations_test") {
				t.Errorf("%s:%d: %q: write it as RFC 9051 section 6.4.8", path, i+1, m)
			}
			for _, m := range cited.FindAllStringSubmatch(line, -1) {
				have := sections[m[1]] // nil: a text that the list was not made from
				for _, s := range m[2:] {
					if s != "" && have != nil {
						n++
						if !have[s] {
							t.Errorf("%s:%d: RFC %s has no section %s", path, i+1, m[1], s)
						}
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d citations point somewhere", n)
}
