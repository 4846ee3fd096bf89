package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// marker stands before what a test says of another program (neighbour.Compat):
// kind|name|version|what was done with it.
const marker = "compat: "

// kind is a table of the page.
type kind struct{ name, title, column string }

// kinds are the tables of docs/compatibility.md, in their order.
var kinds = []kind{
	{"tree", "Trees", "Made by"},
	{"delivery", "Delivery beside Roost", "Delivered by"},
	{"client", "Clients", "Program"},
}

// row is one line of a table: what all tests that passed say of one program.
type row struct {
	kind, name, version string
	what, tests         []string
}

// compat gathers the rows from the output of the tests that passed.
type compat map[string]*row

// add looks for markers in what a test of a package has printed.
func (c compat) add(pkg, test string, output []string) error {
	for _, line := range output {
		_, said, ok := strings.Cut(line, marker)
		if !ok {
			continue
		}
		fields := strings.Split(strings.TrimSpace(said), "|")
		if len(fields) != 4 || !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == fields[0] }) {
			return fmt.Errorf("%s says %q; it is %skind|name|version|what, and the kind tree, delivery or client", test, said, marker)
		}
		key := strings.Join(fields[:3], "|")
		r := c[key]
		if r == nil {
			r = &row{kind: fields[0], name: fields[1], version: fields[2]}
			c[key] = r
		}
		top, _, _ := strings.Cut(test, "/")
		link := fmt.Sprintf("[%s](../%s)", top, strings.TrimPrefix(pkg, "roost/"))
		if !slices.Contains(r.tests, link) {
			r.tests = append(r.tests, link)
		}
		if !slices.Contains(r.what, fields[3]) {
			r.what = append(r.what, fields[3])
		}
	}
	return nil
}

// page is docs/compatibility.md.
func (c compat) page() []byte {
	var b strings.Builder
	b.WriteString(`# What has Roost been tried with?

Each line is a test that passed, and that ran the real program or opened a tree that it had
made: this page is made from the tests by ` + "`make compat`" + `. What a client must be told is in [clients](clients.md).
`)
	for _, k := range kinds {
		var rows []*row
		for _, r := range c {
			if r.kind == k.name {
				rows = append(rows, r)
			}
		}
		if len(rows) == 0 {
			continue
		}
		slices.SortFunc(rows, func(a, b *row) int {
			return cmp.Or(strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name)), strings.Compare(a.version, b.version))
		})
		fmt.Fprintf(&b, "\n## %s\n\n| %s | Version | Tried | Test |\n|---|---|---|---|\n", k.title, k.column)
		for _, r := range rows {
			slices.Sort(r.tests)
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.version, strings.Join(r.what, "; "), strings.Join(r.tests, ", "))
		}
	}
	return []byte(b.String())
}

// write makes the page, but not of a run in which a test failed, or one was skipped that
// the page names.
func (c compat) write(file string, failed int, skipped []string) error {
	if failed > 0 {
		return fmt.Errorf("%s is left as it is: %d tests failed", file, failed)
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, key := range skipped {
		_, rest, _ := strings.Cut(key, " ")
		test, _, _ := strings.Cut(rest, ":")
		if strings.Contains(string(before), "["+test+"]") {
			return fmt.Errorf("%s is left as it is: %s was skipped", file, test)
		}
	}
	if len(c) == 0 {
		return errors.New("no test said what it tried")
	}
	return os.WriteFile(file, c.page(), 0o644)
}
