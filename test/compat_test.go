package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/compatibility.md names tests that are there, and each file of tests that says what
// it tried is named by it.
func TestDocsCompatibility(t *testing.T) {
	b, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{} // files
	links := regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`).FindAllStringSubmatch(string(b), -1)
	if len(links) == 0 {
		t.Fatal("no test is named")
	}
	for _, m := range links {
		found := false
		files, err := filepath.Glob(filepath.Join("../docs", m[2], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "func "+m[1]+"(t *testing.T)") {
				found, named[file] = true, true
			}
		}
		if !found {
			t.Errorf("docs/compatibility.md names %s, which is not in %s: run make compat", m[1], m[2])
		}
	}
	files, err := filepath.Glob("../*/*/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "neighbour.Compat(") && !named[file] {
			t.Errorf("%s says what it tried, but docs/compatibility.md names no test of it: run make compat", strings.TrimPrefix(file, "../"))
		}
	}
}
