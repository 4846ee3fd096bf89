package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultPath is where the configuration is when nobody says otherwise.
const DefaultPath = "/etc/roost/roost.toml"

// source is the file that a Config came from.
type source struct {
	name   string
	places map[string]place
}

// at is the place of a path's value, or of the nearest table above it.
func (s *source) at(path string) Pos {
	for s != nil && path != "" {
		if p, ok := s.places[path]; ok {
			return p.value
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return Pos{}
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File string
	Pos  Pos    // the zero Pos: the file as a whole
	Text string // what is wrong, and what to do
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Pos.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Pos.Line, p.Pos.Col, p.Text)
}

// Problems is everything that is wrong with a configuration, in the order of the
// file. As an error it is one line each.
type Problems []Problem

func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// sorted brings the problems into the order of the file.
func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	return p
}

// Default is the configuration of an empty file.
func Default() *Config {
	c := &Config{Listen: slices.Clone(defaultListen)}
	c.Mail.Folder = slices.Clone(defaultFolders)
	v := reflect.ValueOf(c).Elem()
	for _, k := range keys {
		if !arrayTable(sectionOf(k.name)) {
			field(v, k.name).Set(reflect.ValueOf(k.value).Convert(field(v, k.name).Type()))
		}
	}
	c.Hostname, _ = os.Hostname()
	return c
}

// Load reads a configuration file. Errors of its content are Problems; those of
// reading it wrap the operating system's. What needs the disk is Check's to find.
func Load(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; `roost config default` prints one to start from, --config names another", err)
	}
	if err != nil {
		return nil, err
	}
	return Parse(path, string(b))
}

// Parse reads a configuration from text; name stands for the file in problems.
// All that is wrong is reported at once, lines that are no TOML included.
func Parse(name, text string) (*Config, error) {
	tree, text, problems := parseTOML(name, text)
	if tree == nil && problems != nil {
		return nil, problems
	}
	d := &decoder{src: &source{name, locate(text)}, problems: problems}
	c := Default()
	c.src = d.src
	if _, ok := tree["listen"]; ok {
		c.Listen = nil
	}
	if mail, ok := tree["mail"].(map[string]any); ok && mail["folder"] != nil {
		c.Mail.Folder = nil
	}
	if auth, ok := tree["auth"].(map[string]any); ok && auth["source"] != nil {
		c.Auth.PasswdFile = "" // unless it is written too
	}
	d.table(reflect.ValueOf(c).Elem(), tree, "")
	if c.Hostname == "" {
		c.Hostname = Default().Hostname
	}
	if len(d.problems) > 0 {
		return nil, d.problems.sorted()
	}
	return c, nil
}

// decoder pours TOML's tree into the struct and collects what does not fit.
type decoder struct {
	src      *source
	problems Problems
}

// wrong notes a problem with the value of path.
func (d *decoder) wrong(path, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.src.name, d.src.at(path), fmt.Sprintf(format, args...)})
}

// table fills a struct from a table.
func (d *decoder) table(dst reflect.Value, tree map[string]any, path string) {
	for name, value := range tree {
		at := join(path, name)
		f, ok := fieldNamed(dst, name)
		if !ok {
			p := d.src.places[at]
			d.problems = append(d.problems, Problem{d.src.name, p.key, unknown(path, name, value)})
			continue
		}
		switch {
		case f.Kind() == reflect.Struct:
			if sub, ok := value.(map[string]any); ok {
				d.table(f, sub, at)
			} else {
				d.wrong(at, "%s is a table: write [%s] and its keys below it", at, at)
			}
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			d.tables(f, value, at)
		default:
			d.value(f, value, at)
		}
	}
}

// tables fills a slice of structs from an array of tables.
func (d *decoder) tables(dst reflect.Value, value any, path string) {
	var list []map[string]any
	switch v := value.(type) {
	case []map[string]any:
		list = v
	case []any: // listen = [{...}, {...}]
		for _, e := range v {
			sub, ok := e.(map[string]any)
			if !ok {
				list = nil
				break
			}
			list = append(list, sub)
		}
		if len(v) > 0 && list == nil {
			d.wrong(path, "%s is an array of tables: write [[%s]] before each", path, path)
			return
		}
	default:
		d.wrong(path, "%s is an array of tables: write [[%s]], with two brackets", path, path)
		return
	}
	out := reflect.MakeSlice(dst.Type(), len(list), len(list))
	for i, sub := range list {
		for j := range out.Index(i).NumField() { // as outside of arrays, a list that is not written is empty
			if f := out.Index(i).Field(j); f.Type() == reflect.TypeFor[[]string]() {
				f.Set(reflect.ValueOf([]string{}))
			}
		}
		d.table(out.Index(i), sub, fmt.Sprintf("%s[%d]", path, i))
	}
	dst.Set(out)
}

// value sets one key.
func (d *decoder) value(dst reflect.Value, value any, path string) {
	k, _ := lookup(path)
	switch dst.Interface().(type) {
	case string:
		s, ok := value.(string)
		if !ok {
			d.wrong(path, "%s is text: write %s", path, quote(fmt.Sprint(value)))
			return
		}
		if k.oneOf != nil && !slices.Contains(k.oneOf, s) {
			d.wrong(path, "%s cannot be %s%s; %s", path, quote(s), didYouMean(s, k.oneOf), k.choices())
			return
		}
		dst.SetString(s)
	case bool:
		b, ok := value.(bool)
		if !ok {
			d.wrong(path, "%s is true or false, not %s", path, kindOf(value))
			return
		}
		dst.SetBool(b)
	case int:
		n, ok := value.(int64)
		switch {
		case !ok:
			d.wrong(path, "%s is a whole number, not %s", path, kindOf(value))
		case n < 0 || n > 1<<31-1:
			d.wrong(path, "%s cannot be %d; 0 is the default", path, n)
		case n != 0:
			dst.SetInt(n)
		}
	case []string:
		list, ok := value.([]any)
		if !ok {
			d.wrong(path, "%s is a list: write [%s]", path, quote(fmt.Sprint(value)))
			return
		}
		out := make([]string, 0, len(list))
		for i, e := range list {
			s, ok := e.(string)
			if !ok {
				d.wrong(fmt.Sprintf("%s[%d]", path, i), "%s is a list of texts: write %s", path, quote(fmt.Sprint(e)))
				continue
			}
			out = append(out, s)
		}
		dst.Set(reflect.ValueOf(out))
	case time.Duration:
		t, err := parseDuration(value, k.off)
		if err != nil {
			d.wrong(path, "%s %v", path, err)
		} else if t != 0 {
			dst.SetInt(int64(t))
		}
	case Size:
		n, err := parseSize(value, k.off)
		if err != nil {
			d.wrong(path, "%s %v", path, err)
		} else if n != 0 {
			dst.SetInt(int64(n))
		}
	}
}

// parseDuration reads "90s", "1h30m", 0, and "off" where that is a value.
func parseDuration(value any, off bool) (time.Duration, error) {
	switch v := value.(type) {
	case string:
		if v == "off" && off {
			return Off, nil
		}
		t, err := time.ParseDuration(v)
		switch {
		case v == "off":
			return 0, errors.New("cannot be turned off")
		case err != nil:
			return 0, fmt.Errorf(`is a duration such as "90s", "2m" or "1h30m", not %s`, quote(v))
		case t < 0:
			return 0, fmt.Errorf("cannot be negative")
		}
		return t, nil
	case int64:
		if v == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf(`needs a unit: write "%ds" or "%dm"`, v, v)
	}
	return 0, fmt.Errorf(`is a duration such as "90s", "2m" or "1h30m", not %s`, kindOf(value))
}

// parseSize reads 65536, "64KiB", "64k", and "off" where that is a value.
func parseSize(value any, off bool) (Size, error) {
	switch v := value.(type) {
	case int64:
		if v < 0 {
			return 0, errors.New("cannot be negative")
		}
		return Size(v), nil
	case string:
		if v == "off" && off {
			return Off, nil
		}
		if v == "off" {
			return 0, errors.New("cannot be turned off")
		}
		digits := strings.TrimRight(v, "kKMGTiB ")
		n, err := strconv.ParseInt(digits, 10, 64)
		unit, ok := map[string]Size{"": 1, "B": 1, "K": kib, "M": mib, "G": 1 << 30, "T": 1 << 40}[strings.ToUpper(
			strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(v[len(digits):]), "B"), "i"))]
		if err != nil || !ok || n < 0 || n > int64(1<<62/unit) {
			return 0, fmt.Errorf(`is a size in bytes such as 65536, "64KiB" or "64MiB", not %s`, quote(v))
		}
		return Size(n) * unit, nil
	}
	return 0, fmt.Errorf(`is a size in bytes such as 65536, "64KiB" or "64MiB", not %s`, kindOf(value))
}

// kindOf names a TOML value for people.
func kindOf(value any) string {
	switch v := value.(type) {
	case string:
		return "the text " + quote(v)
	case bool:
		return fmt.Sprintf("%v", v)
	case int64, float64:
		return fmt.Sprintf("the number %v", v)
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	}
	return "a table"
}

// choices names the values of a key that has few.
func (k key) choices() string {
	var quoted []string
	for _, v := range k.oneOf {
		quoted = append(quoted, quote(v))
	}
	return "it is one of " + strings.Join(quoted, ", ")
}

// unknown says what is wrong with a key of a table that does not exist.
func unknown(table, leaf string, value any) string {
	section := withoutIndexes(table)
	name := join(section, leaf)
	_, isTable := value.(map[string]any)
	if list, ok := value.([]map[string]any); ok && len(list) > 0 {
		isTable = true
	}
	if isTable {
		if m := didYouMean(name, tableNames()); m != "" {
			return "unknown table " + shown(name) + m
		}
		return fmt.Sprintf("unknown table %s; the tables are %s", shown(name), strings.Join(tableNames(), ", "))
	}
	var known, here []string
	for _, k := range keys {
		known = append(known, k.name)
		if k.leaf() == leaf { // right key, wrong table
			return fmt.Sprintf("unknown key %s (did you mean %q?)", shown(name), k.name)
		}
	}
	if m := didYouMean(name, known); m != "" {
		return "unknown key " + shown(name) + m
	}
	for _, k := range keysOf(section) {
		here = append(here, k.leaf())
	}
	return fmt.Sprintf("unknown key %s; the keys here are %s", shown(name), strings.Join(here, ", "))
}

// shown puts a key into quotes, unless it has its own.
func shown(name string) string {
	if strings.Contains(name, `"`) {
		return name
	}
	return `"` + name + `"`
}

func tableNames() (names []string) {
	for _, s := range sections {
		if s.name != "" {
			names = append(names, s.name)
		}
	}
	return names
}

// didYouMean gives the nearest of a list when it is near enough to be meant.
func didYouMean(s string, list []string) string {
	best, at := "", 1+max(1, len(s)/3)
	for _, c := range list {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < at && c != "" {
			best, at = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance counts the edits from a to b: inserted, removed, changed, swapped bytes.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	before, prev, row := rows[0], rows[1], rows[2]
	for j := range row {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j]+cost, prev[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
