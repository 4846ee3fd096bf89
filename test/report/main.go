// Command report reads `go test -json` and prints what a person wants of it:
// each package's line, the output of what failed, and at the end each skipped
// test with its reason. It exits with 1 when anything failed, and, where
// ROOST_PEERS=required is set, when a test was skipped for another reason than "kernel: ". With -compat FILE it writes what
// the tests tried of other programs as a page (docs/compatibility.md).
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// event is one line of `go doc test2json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

func main() {
	page := flag.String("compat", "", "`file` to write the page of what was tried to")
	flag.Parse()
	var (
		outputs = map[string][]string{} // by package and test
		skipped []string
		failed  []string
		passed  int
		tried   = compat{}
	)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // not JSON: the go tool itself speaks
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			if e.Test == "" {
				if isResult(e.Output) {
					fmt.Print(e.Output)
				} else {
					outputs[key] = append(outputs[key], e.Output)
				}
				continue
			}
			outputs[key] = append(outputs[key], e.Output)
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			failed = append(failed, e.ImportPath+" does not build")
		case "pass":
			if e.Test != "" {
				passed++
				if err := tried.add(e.Package, e.Test, outputs[key]); err != nil {
					failed = append(failed, err.Error())
				}
			}
			delete(outputs, key)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, key+": "+reason(outputs[key]))
			}
			delete(outputs, key)
		case "fail":
			fmt.Print(strings.Join(outputs[key], ""))
			failed = append(failed, key)
		}
	}
	if err := in.Err(); err != nil {
		failed = append(failed, "the report itself: "+err.Error())
	}
	if passed+len(failed)+len(skipped) == 0 {
		failed = append(failed, "no test ran")
	}
	if *page != "" {
		if err := tried.write(*page, len(failed), skipped); err != nil {
			failed = append(failed, err.Error())
		}
	}
	slices.Sort(skipped)
	for _, s := range skipped {
		fmt.Println("skipped:", s)
	}
	for _, f := range failed {
		fmt.Println("FAILED:", f)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, len(failed), len(skipped))
	// No package gives a machine another kernel.
	missing := slices.DeleteFunc(slices.Clone(skipped), func(s string) bool { return strings.Contains(s, "kernel: ") })
	if len(failed) > 0 || len(missing) > 0 && os.Getenv("ROOST_PEERS") == "required" {
		os.Exit(1)
	}
}

// isResult tells the go tool's closing line of a package from what its tests print.
func isResult(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t")
}

// reason is what the test said when it skipped.
func reason(output []string) string {
	var said []string
	for _, l := range output {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "=== ") && !strings.HasPrefix(l, "--- ") {
			said = append(said, l)
		}
	}
	return strings.Join(said, " ")
}
