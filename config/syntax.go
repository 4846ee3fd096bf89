package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxSyntax is how many lines that are no TOML are told; after so many it is another
// language.
const maxSyntax = 20

// unreadable names the table that stands in for one whose header cannot be read, so
// that its keys do not fall to the table above.
const unreadable = "roost-unreadable-table"

// parseTOML reads TOML and finds every line that is none: the decoder stops at the
// first, so each is taken out and the rest is read again. It gives the tree of the
// lines that could be read and their text, whose lines are where they were.
func parseTOML(name, text string) (tree map[string]any, rest string, problems Problems) {
	if at := invalidUTF8(text); at >= 0 {
		return nil, text, Problems{{name, posOf(text, at), "this byte is no UTF-8: save the file as UTF-8"}}
	}
	for rest = text; ; {
		tree = nil
		_, err := toml.Decode(rest, &tree)
		if err == nil {
			break
		}
		var p toml.ParseError
		if !errors.As(err, &p) {
			return nil, rest, append(problems, Problem{File: name, Text: err.Error()})
		}
		at := max(0, min(p.Position.Start, len(rest)))
		begin := strings.LastIndexByte(rest[:at], '\n') + 1
		end := begin + strings.IndexByte(rest[begin:]+"\n", '\n')
		line := strings.TrimSpace(rest[begin:end])
		if dovecotLine.MatchString(line) && !strings.HasPrefix(line, "[") {
			return nil, rest, append(problems, Problem{name, posOf(rest, at), "this is Dovecot's language; roost.toml is TOML: `roost config default` prints one, docs/config.md explains its keys"})
		}
		problems = append(problems, Problem{name, posOf(rest, at), strings.TrimSuffix(p.Message, ".") + syntaxHint(line, p.Message)})
		taken := "#"
		if strings.HasPrefix(line, "[") {
			taken = fmt.Sprintf("[%s-%d]", unreadable, len(problems))
		}
		if len(problems) == maxSyntax || rest[begin:end] == taken {
			return nil, rest, problems
		}
		rest = rest[:begin] + taken + rest[end:]
	}
	for n := range problems {
		delete(tree, fmt.Sprintf("%s-%d", unreadable, n+1))
	}
	return tree, rest, problems
}

// posOf is the position of a byte.
func posOf(text string, at int) Pos {
	before := text[:at]
	line := strings.LastIndexByte(before, '\n') + 1
	return Pos{1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[line:])}
}

// invalidUTF8 is where the first byte stands that is no UTF-8, or -1.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return -1
}

var (
	dovecotLine = regexp.MustCompile(`^(\w+\s*=\s*<\S|(passdb|userdb|namespace|protocol|service|mailbox|plugin)\b.*\{)`)
	bareValue   = regexp.MustCompile(`^([\w.-]+)\s*=\s*([^\s"'\[{#][^"'#]*?)\s*(#.*)?$`)
	colonValue  = regexp.MustCompile(`^([\w.-]+)\s*:\s*(\S.*)$`)
)

// syntaxHint says what to write instead of a line, where that can be told.
func syntaxHint(line, message string) string {
	noValue := strings.HasPrefix(message, "expected value") || strings.Contains(message, "to end with a newline")
	if m := bareValue.FindStringSubmatch(line); m != nil && noValue {
		key, value := m[1], strings.Trim(m[2], "“”„‘’«»`")
		switch strings.ToLower(value) {
		case "true", "yes", "on":
			return fmt.Sprintf(": write %s = true", key)
		case "false", "no", "off":
			return fmt.Sprintf(": write %s = false, or %s", key, quote(value))
		case "":
			return fmt.Sprintf(": write %s = \"\"", key)
		}
		return fmt.Sprintf(": text stands in quotes, write %s = %s", key, quote(value))
	}
	if m := colonValue.FindStringSubmatch(line); m != nil {
		value := m[2]
		if !strings.ContainsAny(value[:1], `"'[0123456789`) && value != "true" && value != "false" {
			value = quote(value)
		}
		return fmt.Sprintf(": write %s = %s", m[1], value)
	}
	switch {
	case strings.HasPrefix(line, ";"), strings.HasPrefix(line, "//"), strings.HasPrefix(line, "!"):
		return ": a comment begins with #"
	case strings.Contains(message, "already been defined"):
		return ": write it once, with all that belongs to it"
	case strings.Contains(message, "cannot contain newlines"):
		return `: the closing " is missing`
	case strings.Contains(message, "invalid escape"):
		return `: write \\ for a backslash, or put the text between ' and '`
	case strings.HasPrefix(line, "["):
		return ": a table is [name] on a line of its own, one of several is [[name]]"
	case strings.Contains(message, "to end with a newline"):
		return ": one key stands on a line, and its text in quotes"
	}
	return `: a line is key = "text", key = 7, key = true or [table]`
}
