package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the tests of one program say becomes one line; a word that is no marker's, and a
// run that left out what the page has, are refused.
func TestCompatibilityPage(t *testing.T) {
	c := compat{}
	for _, e := range []struct{ pkg, test, line string }{
		{"roost/test/peers", "TestMutt", "    mutt_test.go:19: compat: client|Mutt|2.2|read\n"},
		{"roost/test/peers", "TestMuttBatch/Sent", "    x.go:1: compat: client|Mutt|2.2|send\n"},
		{"roost/maildir", "TestTrees", "    x.go:1: compat: tree|Courier|1.0|opened\n"},
	} {
		if err := c.add(e.pkg, e.test, []string{"=== RUN\n", e.line}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := c.write(file, 0, []string{"roost/test/peers TestMutt: mutt is not installed"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, want := range []string{
		"| Mutt | 2.2 | read; send | [TestMuttBatch](../test/peers), [TestMutt](../test/peers) |\n",
		"## Trees\n\n| Made by | Version | Tried | Test |\n|---|---|---|---|\n| Courier | 1.0 | opened | [TestTrees](../maildir) |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Index(page, "## Trees") > strings.Index(page, "## Clients") {
		t.Errorf("trees stand behind clients:\n%s", page)
	}

	if err := c.write(file, 0, []string{"roost/test/peers TestMutt: mutt is not installed"}); err == nil {
		t.Error("a page was made though a test that it names was skipped")
	}
	if err := c.write(file, 0, []string{"roost/maildir TestReflink: no btrfs"}); err != nil {
		t.Error(err)
	}
	if err := c.write(file, 1, nil); err == nil {
		t.Error("a page was made though a test failed")
	}
	if err := (compat{}).write(file, 0, nil); err == nil {
		t.Error("a page was made of nothing")
	}
	for _, line := range []string{"compat: client|Mutt|2.2", "compat: editor|vi|1|typed"} {
		if err := c.add("roost/test", "TestX", []string{line}); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}
