package talk

import (
	"fmt"
	"regexp"
	"strings"
)

type op int

const (
	opSend op = iota
	opPipe
	opRaw
	opExpect
	opHook
)

// step is one thing that happens: a line sent, a set of lines awaited, a hook.
type step struct {
	line   int
	client string
	op     op
	text   string
	wait   bool // opSend: no set follows
	want   expectation
}

type pattern struct {
	text  string
	group int // counts the "then" above it
}

type expectation struct {
	patterns []pattern
	never    []string
	open     bool // further untagged lines are allowed
	eof      bool
}

// answers reports whether a pattern speaks of the tagged line itself.
func (e expectation) answers(tag string) bool {
	for _, p := range e.patterns {
		if strings.HasPrefix(p.text, tag+" ") {
			return true
		}
	}
	return false
}

// asksMore reports whether a continuation is part of the set.
func (e expectation) asksMore() bool {
	for _, p := range e.patterns {
		if strings.HasPrefix(p.text, "+") {
			return true
		}
	}
	return false
}

// rest lists what has not come.
func (e expectation) rest(matched []int) string {
	var out []string
	for i, p := range e.patterns {
		if matched[i] == 0 && p.text != "..." {
			out = append(out, fmt.Sprintf("%q", p.text))
		}
	}
	if e.eof {
		out = append(out, "EOF")
	}
	if len(out) == 0 {
		return "nothing more"
	}
	return strings.Join(out, ", ")
}

var lineForm = regexp.MustCompile(`^([A-Z][A-Za-z0-9]*)(>>|>\||>|!<|<)(?: (.*))?$`)

// parse reads a script into steps.
func parse(script string) ([]step, error) {
	var steps []step
	group := 0
	for i, raw := range strings.Split(script, "\n") {
		line := strings.TrimRight(raw, "\r")
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "! "); ok {
			steps = append(steps, step{line: i + 1, op: opHook, text: rest})
			continue
		}
		m := lineForm.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d: %q is no line of a dialogue", i+1, line)
		}
		name, sign, text := m[1], m[2], m[3]
		switch sign {
		case ">":
			steps = append(steps, step{line: i + 1, client: name, op: opSend, text: text, wait: true})
		case ">|":
			steps = append(steps, step{line: i + 1, client: name, op: opPipe, text: text})
		case ">>":
			steps = append(steps, step{line: i + 1, client: name, op: opRaw, text: text})
		default:
			n := len(steps)
			if n == 0 || steps[n-1].op != opExpect || steps[n-1].client != name {
				if n > 0 && steps[n-1].client == name && steps[n-1].op == opSend {
					steps[n-1].wait = false
				}
				steps = append(steps, step{line: i + 1, client: name, op: opExpect, text: text})
				group = 0
			}
			want := &steps[len(steps)-1].want
			switch {
			case sign == "!<":
				want.never = append(want.never, text)
				want.open = true
				if len(want.patterns) == 0 {
					want.patterns = append(want.patterns, pattern{text: "..."})
				}
			case text == "then":
				group++
			case text == "EOF":
				want.eof = true
			case text == "...":
				if !want.open {
					want.open = true
					want.patterns = append(want.patterns, pattern{"...", group})
				}
			default:
				want.patterns = append(want.patterns, pattern{text, group})
			}
		}
	}
	return steps, nil
}

// splitWords parts a line at blanks, keeping what stands between double quotes.
func splitWords(s string) ([]string, error) {
	var words []string
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		if s[0] != '"' {
			w, rest, _ := strings.Cut(s, " ")
			words, s = append(words, w), rest
			continue
		}
		w, rest, ok := strings.Cut(s[1:], `"`)
		if !ok {
			return nil, fmt.Errorf("%q lacks its closing quote", s)
		}
		words, s = append(words, w), rest
	}
	return words, nil
}
