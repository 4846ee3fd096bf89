package config

import (
	"crypto/md5"  // #nosec G501 -- Dovecot's %M and %N spread directories by it
	"crypto/sha1" // #nosec G505 -- as md5
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// Person is who a path is made for.
type Person struct {
	Name string // as logged in
	Home string // absolute; "" where none is known
}

// Template is a path with variables, in either of Dovecot's spellings.
//
// Up to 2.3: %[[-][0]OFFSET.][0]WIDTH[MODIFIERS]LETTER with letters u n d h, or
// {user} {username} {domain} {home} in their place, and modifiers L (small
// letters) U (capitals) R (reversed) T (trimmed) M (MD5 in hex) N (32 bits of
// the MD5, modulo WIDTH, in hex of OFFSET digits) H (the same of an older hash).
//
// Since 2.4: %{VARIABLE | FILTER | FILTER}, with the filters of the table below
// and "% NUMBER" behind one.
//
// "%%" is a percent sign. A leading "~" is the home directory.
type Template struct {
	text  string
	parts []part
}

// part is literal text, or a variable and what is done to it.
type part struct {
	literal  string
	variable string // "user", "username", "domain", "home"; "" for literal text
	steps    []step
}

// step changes a value on its way.
type step func(text) (text, error)

// text is a value: characters, or the bytes of a digest, which show as hex.
type text struct {
	s      string
	binary bool
}

func (t text) show() string {
	if t.binary {
		return hex.EncodeToString([]byte(t.s))
	}
	return t.s
}

// variables by letter and by name.
var variables = map[string]string{
	"u": "user", "n": "username", "d": "domain", "h": "home",
	"user": "user", "username": "username", "domain": "domain", "home": "home",
}

// ParseTemplate reads a template; errors name the part that is wrong.
func ParseTemplate(s string) (*Template, error) {
	t := &Template{text: s}
	rest := s
	if rest == "~" || strings.HasPrefix(rest, "~/") {
		t.parts = append(t.parts, part{variable: "home"})
		rest = rest[1:]
	} else if strings.HasPrefix(rest, "~") {
		return nil, fmt.Errorf("%q: only one's own home can be meant by ~", s)
	}
	for rest != "" {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			i = len(rest)
		}
		if i > 0 {
			t.parts = append(t.parts, part{literal: rest[:i]})
			rest = rest[i:]
			continue
		}
		p, n, err := parseVariable(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		t.parts = append(t.parts, p)
		rest = rest[n:]
	}
	if s == "" {
		return nil, errors.New("is empty; a path starts with /, ~ or %h")
	}
	for i, p := range t.parts {
		if strings.IndexByte(p.literal, 0) >= 0 {
			return nil, fmt.Errorf("%q: a path cannot hold a NUL", s)
		}
		if i == 0 && !strings.HasPrefix(p.literal, "/") && p.variable != "home" {
			return nil, fmt.Errorf("%q: a path starts with /, ~ or %%h", s)
		}
	}
	return t, nil
}

// parseVariable reads what starts with "%"; n is its length.
func parseVariable(s string) (p part, n int, err error) {
	if strings.HasPrefix(s, "%%") {
		return part{literal: "%"}, 2, nil
	}
	if strings.HasPrefix(s, "%{") {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return p, 0, fmt.Errorf("%q has no }", s)
		}
		p, err = parsePipe(s[2:end])
		return p, end + 1, err
	}
	form, modifiers, i, err := parseForm(s)
	if err != nil {
		return p, 0, err
	}
	name := ""
	switch {
	case i == len(s):
		return p, 0, fmt.Errorf("%q ends before its variable; write %%%% for a percent sign", s)
	case s[i] == '{':
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			return p, 0, fmt.Errorf("%q has no }", s)
		}
		name = s[i+1 : i+end]
		i += end + 1
	default:
		name = s[i : i+1]
		i++
	}
	v, ok := variables[name]
	if !ok {
		return p, 0, fmt.Errorf("unknown variable %q in %q; there are %%u %%n %%d %%h, and %%%% for a percent sign", name, s[:i])
	}
	p.variable = v
	for _, m := range modifiers {
		p.steps = append(p.steps, form.modifier(m))
	}
	p.steps = append(p.steps, form.cut)
	return p, i, nil
}

// form is the offset and width of a 2.3 variable. A hash uses them up.
type form struct {
	offset, width int
	pad           bool
}

// parseForm reads offset, width and modifiers; n is where the variable starts.
func parseForm(s string) (f *form, modifiers string, n int, err error) {
	f = &form{}
	i := 1
	number := func() (value int, pad, ok bool) {
		start := i
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		value, err := strconv.Atoi(s[start:i])
		return value, i > start && s[start] == '0', err == nil && value < 1<<16
	}
	negative := i < len(s) && s[i] == '-'
	if negative {
		i++
	}
	start, ok := i, true
	f.width, f.pad, ok = number()
	if i > start && !ok {
		return nil, "", 0, fmt.Errorf("a number in %q is too large", s)
	}
	if i < len(s) && s[i] == '.' {
		i++
		f.offset, f.pad = f.width, false
		if negative {
			f.offset = -f.offset
		}
		start = i
		f.width, f.pad, ok = number()
		if i > start && !ok {
			return nil, "", 0, fmt.Errorf("a number in %q is too large", s)
		}
	} else if negative {
		return nil, "", 0, fmt.Errorf("%q: a width cannot be negative", s)
	}
	start = i
	for i < len(s) && strings.IndexByte("LURTMNH", s[i]) >= 0 {
		i++
	}
	return f, s[start:i], i, nil
}

// modifier gives what a letter does.
func (f *form) modifier(m rune) step {
	switch m {
	case 'L':
		return filterLower
	case 'U':
		return filterUpper
	case 'R':
		return filterReverse
	case 'T':
		return func(t text) (text, error) { return text{s: strings.TrimRight(t.s, " \t\r\n")}, nil }
	case 'M':
		return func(t text) (text, error) {
			sum := md5.Sum([]byte(t.s)) // #nosec G401 -- it spreads directories, as Dovecot's
			return text{s: hex.EncodeToString(sum[:])}, nil
		}
	}
	offset, width := f.offset, f.width
	f.offset, f.width, f.pad = 0, 0, false // what follows is not cut by them
	return func(t text) (text, error) {
		var h uint64
		if m == 'N' {
			sum := md5.Sum([]byte(t.s)) // #nosec G401 -- it spreads directories, as Dovecot's
			for _, b := range sum[:8] {
				h = h<<8 | uint64(b)
			}
		} else {
			h = uint64(elfHash(t.s))
		}
		if width > 0 {
			h %= uint64(width)
		}
		return text{s: fmt.Sprintf("%0*x", max(offset, 0), uint32(h))}, nil
	}
}

// elfHash is the hash of the System V object format, which Dovecot's older
// hashed directories use.
func elfHash(s string) (h uint32) {
	for i := range len(s) {
		h = h<<4 + uint32(s[i])
		if g := h & 0xf0000000; g != 0 {
			h ^= g >> 24
			h ^= g
		}
	}
	return h
}

// cut takes the piece of the value that offset and width name.
func (f *form) cut(t text) (text, error) {
	s := t.show()
	switch {
	case f.offset < 0:
		s = s[max(0, len(s)+f.offset):]
	case f.offset > 0:
		s = s[min(f.offset, len(s)):]
	}
	switch {
	case f.width == 0:
	case f.pad: // pads and does not cut
		s = strings.Repeat("0", max(0, f.width-len(s))) + s
	default:
		s = s[:min(f.width, len(s))]
	}
	return text{s: s}, nil
}

// parsePipe reads the inside of "%{...}".
func parsePipe(s string) (p part, err error) {
	stages := strings.Split(s, "|")
	name := strings.TrimSpace(stages[0])
	name, modulo, err := cutModulo(name)
	if err != nil {
		return p, err
	}
	v, ok := variables[name]
	if !ok || len(name) == 1 {
		return p, fmt.Errorf("unknown variable %q in \"%%{%s}\"; there are user, username, domain, home", name, s)
	}
	p.variable = v
	if modulo != nil {
		p.steps = append(p.steps, modulo)
	}
	for _, stage := range stages[1:] {
		call, modulo, err := cutModulo(strings.TrimSpace(stage))
		if err != nil {
			return p, err
		}
		do, err := parseFilter(call)
		if err != nil {
			return p, err
		}
		p.steps = append(p.steps, do)
		if modulo != nil {
			p.steps = append(p.steps, modulo)
		}
	}
	return p, nil
}

// cutModulo parts "md5 % 256" into its filter and the step that the rest is.
func cutModulo(s string) (call string, modulo step, err error) {
	call, number, ok := strings.Cut(s, "%")
	if !ok {
		return s, nil, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 32)
	if err != nil || n == 0 {
		return "", nil, fmt.Errorf("%q is no number to divide by", strings.TrimSpace(number))
	}
	return strings.TrimSpace(call), func(t text) (text, error) {
		v, err := uint64(0), error(nil)
		if t.binary {
			// A digest counts as the number that its last eight bytes are.
			for i := max(0, len(t.s)-8); i < len(t.s); i++ {
				v = v<<8 | uint64(t.s[i])
			}
		} else if v, err = strconv.ParseUint(t.s, 10, 63); err != nil {
			return t, fmt.Errorf("%q is no number", t.s)
		}
		return text{s: strconv.FormatUint(v%n, 10)}, nil
	}, nil
}

// filters of 2.4 that take no arguments; those that do are in parseFilter.
var filters = map[string]step{
	"lower":    filterLower,
	"upper":    filterUpper,
	"reverse":  filterReverse,
	"username": func(t text) (text, error) { return text{s: localPart(t.s)}, nil },
	"domain":   func(t text) (text, error) { return text{s: domainPart(t.s)}, nil },
	"md5":      func(t text) (text, error) { b := md5.Sum([]byte(t.s)); return text{string(b[:]), true}, nil },  // #nosec G401 -- it spreads directories, as Dovecot's
	"sha1":     func(t text) (text, error) { b := sha1.Sum([]byte(t.s)); return text{string(b[:]), true}, nil }, // #nosec G401 -- as md5
	"sha256":   func(t text) (text, error) { b := sha256.Sum256([]byte(t.s)); return text{string(b[:]), true}, nil },
	"sha512":   func(t text) (text, error) { b := sha512.Sum512([]byte(t.s)); return text{string(b[:]), true}, nil },
}

// parseFilter reads one filter with its arguments.
func parseFilter(s string) (step, error) {
	name, list, called := strings.Cut(s, "(")
	name = strings.TrimSpace(name)
	var args []int
	if called {
		list, ok := strings.CutSuffix(strings.TrimSpace(list), ")")
		if !ok {
			return nil, fmt.Errorf("filter %q has no )", s)
		}
		for a := range strings.SplitSeq(list, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(a))
			if err != nil || n < -1<<16 || n > 1<<16 {
				return nil, fmt.Errorf("%q in filter %q is no number that can be meant", strings.TrimSpace(a), s)
			}
			args = append(args, n)
		}
	}
	if do, ok := filters[name]; ok && args == nil {
		return do, nil
	}
	switch {
	case name == "substr" && len(args) == 1:
		return func(t text) (text, error) { return substr(t, args[0], nil) }, nil
	case name == "substr" && len(args) == 2:
		return func(t text) (text, error) { return substr(t, args[0], &args[1]) }, nil
	case name == "truncate" && len(args) == 1 && args[0] >= 0:
		return func(t text) (text, error) { return text{t.s[:min(args[0], len(t.s))], t.binary}, nil }, nil
	case name == "hex" && len(args) <= 1:
		return func(t text) (text, error) { return hexNumber(t, args) }, nil
	case name == "hexlify" && len(args) <= 1:
		return func(t text) (text, error) {
			s := hex.EncodeToString([]byte(t.s))
			if len(args) == 1 && args[0] > 0 {
				s = strings.Repeat("0", max(0, args[0]-len(s))) + s
				s = s[:args[0]]
			}
			return text{s: s}, nil
		}, nil
	}
	return nil, fmt.Errorf("unknown filter %q; there are lower, upper, reverse, username, domain, substr(offset, length), truncate(length), "+
		"md5, sha1, sha256, sha512, hex(width), hexlify(width), and %% number", s)
}

// substr takes length bytes from offset; negative ones count from the end.
func substr(t text, offset int, length *int) (text, error) {
	if offset < 0 {
		offset += len(t.s)
	}
	end := len(t.s)
	if length != nil && *length < 0 {
		end += *length
	} else if length != nil {
		end = offset + *length
	}
	if offset < 0 || offset > len(t.s) || end > len(t.s) || end < offset {
		return t, fmt.Errorf("substr leaves %q", t.show())
	}
	return text{t.s[offset:end], t.binary}, nil
}

// hexNumber writes a number in hex. A width pads, or keeps the last digits; a
// negative one pads behind, or keeps the first.
func hexNumber(t text, width []int) (text, error) {
	n, err := strconv.ParseUint(t.s, 10, 64)
	if err != nil || t.binary {
		return t, fmt.Errorf("%q is no number that hex could write", t.show())
	}
	s := strconv.FormatUint(n, 16)
	if len(width) == 1 && width[0] != 0 {
		if w := width[0]; w > 0 {
			s = strings.Repeat("0", max(0, w-len(s))) + s
			s = s[len(s)-w:]
		} else {
			s += strings.Repeat("0", max(0, -w-len(s)))
			s = s[:-w]
		}
	}
	return text{s: s}, nil
}

// Dovecot's case is that of ASCII alone: other bytes of a name stay.
func filterLower(t text) (text, error) {
	return text{mapASCII(t.s, 'A', 'Z', 'a'-'A'), t.binary}, nil
}

func filterUpper(t text) (text, error) {
	return text{mapASCII(t.s, 'a', 'z', 'A'-'a'), t.binary}, nil
}

func mapASCII(s string, from, to byte, by int) string {
	b := []byte(s)
	for i, c := range b {
		if from <= c && c <= to {
			b[i] = byte(int(c) + by)
		}
	}
	return string(b)
}

func filterReverse(t text) (text, error) {
	b := []byte(t.s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return text{string(b), t.binary}, nil
}

func localPart(user string) string {
	local, _, _ := strings.Cut(user, "@")
	return local
}

func domainPart(user string) string {
	_, domain, _ := strings.Cut(user, "@")
	return domain
}

// Expand gives the path for one person: absolute, clean, and nowhere but where
// the template says. A name that holds '/', NUL or another control character,
// or that would make a component "." or "..", is refused, and so is one that
// leaves the end of the path empty.
func (t *Template) Expand(who Person) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.variable == "" {
			b.WriteString(p.literal)
			continue
		}
		v, err := p.expand(who)
		if err != nil {
			return "", fmt.Errorf("%q for user %q: %w", t.text, who.Name, err)
		}
		b.WriteString(v)
	}
	out := b.String()
	for component := range strings.SplitSeq(out, "/") {
		if component == "." || component == ".." {
			return "", fmt.Errorf("%q for user %q: %q cannot be part of a path", t.text, who.Name, component)
		}
	}
	if strings.HasSuffix(out, "/") && !strings.HasSuffix(t.text, "/") || !strings.HasPrefix(out, "/") {
		return "", fmt.Errorf("%q for user %q gives %q: no variable may be empty there", t.text, who.Name, out)
	}
	return path.Clean(out), nil
}

// Prefix is the directory that every path of the template is in, whoever it is made for:
// what stands before its first variable, up to the last slash. "" where it starts at the
// home directory.
func (t *Template) Prefix() string {
	if len(t.parts) > 0 && t.parts[0].variable != "" {
		return ""
	}
	if len(t.parts) == 1 {
		return path.Clean(t.parts[0].literal)
	}
	dir, _ := path.Split(t.parts[0].literal)
	return path.Clean(dir)
}

// expand gives the value of a variable.
func (p part) expand(who Person) (string, error) {
	var v text
	switch p.variable {
	case "user":
		v.s = who.Name
	case "username":
		v.s = localPart(who.Name)
	case "domain":
		v.s = domainPart(who.Name)
	case "home":
		if !path.IsAbs(who.Home) {
			return "", fmt.Errorf("no home directory is known; give one in the passwd file or set mail.home")
		}
		v.s = strings.TrimRight(path.Clean(who.Home), "/")
	}
	for _, do := range p.steps {
		var err error
		if v, err = do(v); err != nil {
			return "", err
		}
	}
	out := v.show()
	for i := range len(out) {
		if c := out[i]; c < ' ' || c == 0x7f || c == '/' && p.variable != "home" {
			return "", fmt.Errorf("the character %q cannot be part of a path", c)
		}
	}
	return out, nil
}
