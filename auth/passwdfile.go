package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A password file has one user a line, in one of two forms that may be mixed:
//
//	user:password:uid:gid:gecos:home:shell:extra fields      Dovecot, htpasswd, passwd(5)
//	user   hash                                              OpenSMTPD credentials
//
// The first of colon and blank that a line has decides. All after user may be missing.
// Lines end with LF or CRLF; empty ones and those that start with # or : are skipped;
// nothing is quoted. Where a user comes twice the first line counts. The eighth field
// is the rest of the line, colons and all: key=value, separated by blanks (fields.go).
// An eighth field that is empty and followed by a ninth is Dovecot's old form, and the
// ninth the mail location.
//
// Dovecot, Apache, OpenSMTPD and Postfix's helpers may read the same file, so lines are
// changed only as far as a command says (edit.go).

const (
	maxFile = 64 << 20 // bytes; half a million users
	maxLine = 64 << 10 // bytes
)

// entry is one user of the file.
type entry struct {
	name string
	line int
	text string // the whole line: what was verified against it is forgotten when it changes

	hash    Hash
	empty   bool   // it has no password, and nothing else is wrong
	refused string // why nobody can log in whatever the password; "" when one can

	uid, gid       uint32
	hasUID, hasGID bool
	home           string

	rules  Rules
	fields map[string]string
}

// table is one version of a file; immutable.
type table struct {
	entries  map[string]*entry
	dummy    Hash // of the most common class: what an unknown user costs
	problems []Problem
}

// Problem is what is wrong with one line of a password file.
type Problem struct {
	Path string
	Line int    // from 1; 0 for the file as a whole
	User string // "" where the line names none
	What string // never contains the hash
	Do   string // what mends it; "" when What says it

	// Damaged: the line is not what somebody meant to write, and a new version of the
	// file that has it does not come into force. Otherwise only this user is concerned.
	Damaged bool
	// Refused: the user cannot log in.
	Refused bool
}

func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Path)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.User != "" {
		fmt.Fprintf(&b, ": user %q", p.User)
	}
	b.WriteString(": " + p.What)
	if p.Do != "" {
		b.WriteString("; " + p.Do)
	}
	return b.String()
}

// splitLine parts a line into user, password and the fields behind. credentials says
// that it has the form of OpenSMTPD.
func splitLine(line string) (name, stored string, rest []string, credentials bool) {
	i := strings.IndexAny(line, ": \t")
	if i < 0 {
		return line, "", nil, false
	}
	if line[i] != ':' {
		return line[:i], strings.TrimSpace(line[i:]), nil, true
	}
	fields := strings.SplitN(line, ":", 8)
	return fields[0], fields[1], fields[2:], false
}

// skipped reports whether a line holds no user.
func skipped(line string) bool {
	return line == "" || line[0] == '#' || line[0] == ':' || strings.TrimSpace(line) == ""
}

// parseTable reads a file. It never fails: what cannot be read is a Problem. lower is
// whether login names are folded. ids finds the number of a user or group that is
// written as a name, kind 'u' or 'g'.
func parseTable(path string, b []byte, lower bool, ids func(kind byte, name string) (uint32, error)) *table {
	t := &table{entries: map[string]*entry{}}
	warned := map[string]bool{}
	number := 0
	for len(b) > 0 {
		raw, rest, whole := bytes.Cut(b, []byte("\n"))
		b = rest
		number++
		line := strings.TrimSuffix(string(raw), "\r")
		report := func(p Problem) {
			p.Path, p.Line = path, number
			t.problems = append(t.problems, p)
		}
		if what := damage(line); what != "" {
			report(Problem{What: what, Damaged: true, Refused: true, Do: "mend or remove the line"})
			continue
		}
		if skipped(line) {
			continue
		}
		e, problems := parseEntry(path, line, lower, ids)
		e.line = number
		for _, p := range problems {
			if p.field != "" {
				if warned[p.field] {
					continue
				}
				warned[p.field] = true
			}
			// A last line without its end that makes no sense was cut off while it was written.
			if p.problem.Refused && !whole {
				p.problem.Damaged = true
			}
			p.problem.User = e.name
			report(p.problem)
		}
		if first := t.entries[e.name]; first != nil {
			report(Problem{User: e.name, What: fmt.Sprintf("is already in line %d, which counts", first.line), Do: "remove one of the two"})
			continue
		}
		t.entries[e.name] = e
	}
	t.dummy = commonest(t.entries)
	return t
}

// damage says why a line cannot be one of a password file.
func damage(line string) string {
	switch {
	case len(line) > maxLine:
		return fmt.Sprintf("the line is longer than %d bytes", maxLine)
	case !utf8.ValidString(line):
		return "the line is not UTF-8"
	case strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		return "the line has control characters"
	}
	return ""
}

// lineProblem is a Problem and, where it is about an extra field that many lines have
// in common, its name: that is reported once a file.
type lineProblem struct {
	problem Problem
	field   string
}

func parseEntry(path, line string, lower bool, ids func(kind byte, name string) (uint32, error)) (*entry, []lineProblem) {
	name, stored, rest, _ := splitLine(line)
	e := &entry{name: name, text: line}
	var problems []lineProblem
	refuse := func(what, do string, damaged bool) {
		if e.refused == "" {
			e.refused = what
		}
		problems = append(problems, lineProblem{problem: Problem{What: what, Do: do, Refused: true, Damaged: damaged}})
	}
	replace := func() string {
		return fmt.Sprintf("replace it with: roost passwd change --file %s %s", shellWord(path), shellWord(name))
	}

	switch folded, err := foldName(name, lower); {
	case err != nil:
		refuse(err.Error(), "rename the user", true)
	case folded != name:
		refuse("login names are folded to lower case, so nobody can log in as this one", "write it as "+strconv.Quote(folded), false)
	}

	var passwordless bool
	if len(rest) > 5 { // uid gid gecos home shell extra
		if mail, old := strings.CutPrefix(rest[5], ":"); old {
			e.fields = map[string]string{"userdb_mail": mail}
		} else {
			e.fields = splitFields(rest[5])
		}
		_, passwordless = e.fields["nopassword"]
		e.rules, problems = parseRules(e.fields, problems)
	}

	switch h, err := parseStored(stored); {
	case passwordless:
		refuse("nopassword would let anybody in", replace(), false)
		e.hash = Hash{Locked: true}
	case stored == "":
		refuse("has no password", "set one with: roost passwd change --file "+shellWord(path)+" "+shellWord(name), false)
		e.hash, e.empty = Hash{Locked: true}, e.refused == "has no password"
	case err != nil:
		refuse(err.Error(), replace(), errors.Is(err, ErrBadHash))
		e.hash = Hash{Locked: true}
	default:
		e.hash = h
	}

	set := func(kind byte, text, field string, number *uint32, has *bool) {
		if v, ok := e.fields[field]; ok {
			text = v
		}
		if text == "" {
			return
		}
		id, err := ids(kind, text)
		if err == nil && kind == 'u' && id == 0 {
			err = errors.New("mail of uid 0 is not served")
		}
		if err != nil {
			refuse(err.Error(), "give the number of an ordinary user or group, or nothing", false)
			return
		}
		*number, *has = id, true
	}
	at := func(i int) string {
		if i < len(rest) {
			return rest[i]
		}
		return ""
	}
	set('u', at(0), "userdb_uid", &e.uid, &e.hasUID)
	set('g', at(1), "userdb_gid", &e.gid, &e.hasGID)
	for _, p := range problems {
		e.empty = e.empty && (!p.problem.Refused || p.problem.What == e.refused)
	}
	e.home = at(3)
	if v, ok := e.fields["userdb_home"]; ok {
		e.home = v
	}
	return e, problems
}

// parseStored is ParseHash plus the old form `hash[13]` of libpam-pwdfile, whose number
// is a length and tells DES crypt, PLAIN-MD5 and DIGEST-MD5 apart.
func parseStored(stored string) (Hash, error) {
	if stored != "" && stored[0] != '{' && stored[0] != '$' {
		for suffix, scheme := range map[string]string{"[13]": "{CRYPT}", "[34]": "{PLAIN-MD5}", "[56]": "{DIGEST-MD5}"} {
			if hash, ok := strings.CutSuffix(stored, suffix); ok {
				return ParseHash(scheme + hash)
			}
		}
	}
	return ParseHash(stored)
}

// commonest gives a hash of the class that most users have, or, for a file without
// hashes, of the class that Roost writes. Of equal ones the first by name, so that one
// file always costs the same.
func commonest(entries map[string]*entry) Hash {
	count := map[string]int{}
	hash := map[string]Hash{}
	for _, e := range entries {
		if !e.hash.Locked {
			count[e.hash.class]++
			hash[e.hash.class] = e.hash
		}
	}
	best := ""
	for class, n := range count {
		if best == "" || n > count[best] || n == count[best] && class < best {
			best = class
		}
	}
	if best == "" {
		return dummyArgon2()
	}
	return hash[best]
}

// systemIDs finds users and groups of this machine.
func systemIDs(kind byte, name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	id, what := "", "user"
	if kind == 'g' {
		what = "group"
		if g, err := user.LookupGroup(name); err == nil {
			id = g.Gid
		}
	} else if u, err := user.Lookup(name); err == nil {
		id = u.Uid
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("this machine has no %s %q", what, name)
	}
	return uint32(n), nil
}

// shellWord quotes what goes into a command that an admin may paste.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/@+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
