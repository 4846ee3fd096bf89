package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"roost/server/search"
	"roost/server/wire"
	"roost/store"
)

// Filters are searches that have a name: RFC 5466. They are annotations of the server, looked
// at when they are set (metadata.go) and put in place of the key FILTER (searchkeys.go).

// Where filters are kept: the user's own hide those of all.
const (
	privateFilters = "/private/filters/values"
	sharedFilters  = "/shared/filters/values"
)

// Bounds on filters that name each other.
const (
	maxFilterDepth = 10      // RFC 5466 section 3.1 wants three at least
	maxFilterBytes = 1 << 20 // of all that one command puts in place
)

// filterSource gives filters to a search, which asks when it meets the first.
type filterSource struct {
	load func() ([]store.Annotation, error) // of the server; nil: only the syntax counts
	list []store.Annotation
	open []string // those being read, the outermost first
	size int
}

// filtersFrom is where the searches of a session find their filters.
func (s *session) filtersFrom(ctx context.Context) filterSource {
	return filterSource{load: func() ([]store.Annotation, error) { return s.annotations(ctx, "") }}
}

// get gives the search behind a name.
func (f *filterSource) get(name string) (string, error) {
	if f.list == nil {
		list, err := f.load()
		if err != nil {
			return "", err
		}
		f.list = append([]store.Annotation{}, list...)
	}
	loops := slices.ContainsFunc(f.open, func(open string) bool { return strings.EqualFold(open, name) })
	for _, in := range []string{privateFilters, sharedFilters} {
		i := slices.IndexFunc(f.list, func(a store.Annotation) bool {
			rest, ok := store.EntryBelow(in, a.Entry)
			return ok && strings.EqualFold(rest, name)
		})
		if i >= 0 && !loops && len(f.open) < maxFilterDepth {
			return string(f.list[i].Value), nil
		}
	}
	return "", no("UNDEFINED-FILTER "+name, "There is no such filter, or it leads to itself")
}

// filter reads the name of a filter and then, in its place, the search that it stands
// for: one key, as if in parentheses, so that NOT and OR take all of it.
func (p *searchParser) filter() error {
	name, err := p.s.lex.Atom()
	if err != nil {
		return err
	}
	if strings.Contains(name, "/") {
		return bad("Filter %s is none: names have no /", shown(name))
	}
	if p.charset != nil {
		return reply{"BAD", "BADCHARSET (UTF-8 US-ASCII)", "FILTER means UTF-8: RFC 5466 section 3.1"}
	}
	f := &p.filters
	if f.load == nil {
		return p.add(search.Key{Op: search.All})
	}
	text, err := f.get(name)
	if err != nil {
		return err
	}
	if f.size += len(text); f.size > maxFilterBytes {
		return no("LIMIT", "Filters of one search are longer than %d bytes", maxFilterBytes)
	}
	f.open = append(f.open, name)
	err = p.inPlace(text)
	f.open = f.open[:len(f.open)-1]
	var syntax *wire.SyntaxError
	var limit *wire.LimitError
	var r reply
	if errors.As(err, &syntax) || errors.As(err, &limit) || errors.As(err, &r) && r.kind == "BAD" {
		err = no("CANNOT", "Filter %s is no search: %v", name, brief(err))
	}
	return err
}

// inPlace reads the keys of a text as operands of one.
func (p *searchParser) inPlace(text string) error {
	if text == "" || text[0] == '\r' || text[0] == '\n' {
		return bad("it begins with no key")
	}
	lex, open := p.s.lex, p.open
	defer func() { p.s.lex, p.open = lex, open }()
	p.s.lex, p.open = filterLexer(text), nil
	word, err := "", p.s.lex.Wait()
	if err == nil {
		word, err = p.word()
	}
	if err == nil {
		err = p.keys(word)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return bad("it ends too early")
	case err == nil && p.s.lex.Pending() > 0:
		return bad("it has a further line")
	}
	return err
}

// filterLexer reads a text as the end of a command. The end is one byte, so that a literal
// which takes it for its own leaves none.
func filterLexer(text string) *wire.Lexer {
	return wire.NewLexer(strings.NewReader(""), []byte(text+"\n"), wire.Limits{}, wire.Hooks{})
}

// brief is an error of the syntax without its frame.
func brief(err error) string {
	var r reply
	if errors.As(err, &r) {
		return r.text
	}
	return err.Error()
}

// CheckFilter reports what is wrong with a filter: its name, or its search. Filters in it
// need not be there yet (RFC 5466 section 3.2).
func CheckFilter(name, text string) error {
	if n, err := filterLexer(name).Atom(); err != nil || n != name || strings.Contains(name, "/") {
		return fmt.Errorf("%q cannot be the name of a filter", name)
	}
	if !utf8.ValidString(text) {
		return errors.New("it is not UTF-8")
	}
	probe := &session{opt: new(Options).WithDefaults(), utf8: true, rev2: true, sel: &selected{}}
	p := searchParser{s: probe}
	if err := p.inPlace(text); err != nil {
		return errors.New(brief(err))
	}
	return nil
}

// checkFilter refuses an annotation of the account that would be no filter.
func checkFilter(a *store.Annotation) error {
	name, ok := store.EntryBelow(privateFilters, a.Entry)
	if !ok || a.Value == nil {
		return nil
	}
	if err := CheckFilter(name, string(a.Value)); err != nil {
		return no("CANNOT", "Filter %s is no search: %v", shown(name), err)
	}
	return nil
}
