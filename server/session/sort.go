package session

import (
	"context"
	"slices"

	"roost/server/search"
)

// SORT and UID SORT: RFC 5256 section 3, RFC 5957 (DISPLAYFROM, DISPLAYTO), RFC 5267 section 3
// (RETURN), RFC 7162 section 3.1.9 (MODSEQ), RFC 6203 section 6 (RELEVANCY). Search keys and result options are those of
// SEARCH.

// sortKeys are the words of a sort program.
var sortKeys = map[string]search.SortKey{
	"ARRIVAL": search.SortArrival, "DATE": search.SortDate, "SIZE": search.SortSize,
	"SUBJECT": search.SortSubject, "FROM": search.SortFrom, "TO": search.SortTo, "CC": search.SortCc,
	"RELEVANCY": search.SortRelevancy, "DISPLAYFROM": search.SortDisplayFrom, "DISPLAYTO": search.SortDisplayTo,
}

// sort runs both forms.
func (s *session) sort(ctx context.Context, c call) (string, error) {
	p := searchParser{s: s, filters: s.filtersFrom(ctx)}
	return "", s.answerSearch(ctx, c, &p, p.parseSort())
}

// parseSort reads to the end of the command.
func (p *searchParser) parseSort() error {
	lex := p.s.lex
	if err := lex.SP(); err != nil {
		return err
	}
	if c, err := lex.Peek(); err != nil {
		return err
	} else if c != '(' {
		word, err := lex.Keyword()
		if err == nil && word != "RETURN" {
			err = bad("SORT takes RETURN or a list of criteria, not %s", shown(word))
		}
		if err == nil {
			err = p.options()
		}
		if err == nil {
			err = lex.SP()
		}
		if err != nil {
			return err
		}
	}
	if err := p.criteria(); err != nil {
		return err
	}
	return p.charsetAndKeys()
}

// criteria reads the sort program.
func (p *searchParser) criteria() error {
	reverse := false
	err := p.s.lex.List(func() error {
		name, err := p.s.lex.Keyword()
		if err != nil {
			return err
		}
		if name == "REVERSE" && !reverse {
			reverse = true
			return nil
		}
		by, ok := sortKeys[name]
		if !ok {
			return bad("Unknown sort criterion %s", shown(name))
		}
		again := slices.ContainsFunc(p.sortBy, func(c search.Criterion) bool { return c.By == by })
		if again { // what is equal by the first is equal by this one
			reverse = false
			return nil
		}
		p.query.Scored = p.query.Scored || by == search.SortRelevancy
		p.sortBy = append(p.sortBy, search.Criterion{By: by, Reverse: reverse})
		reverse = false
		return nil
	})
	switch {
	case err != nil:
		return err
	case reverse:
		return bad("REVERSE stands before a sort criterion")
	case len(p.sortBy) == 0:
		return bad("SORT needs a criterion")
	}
	return nil
}

// charsetAndKeys reads search-criteria of RFC 5256 section 5, in which the charset must be.
func (p *searchParser) charsetAndKeys() error {
	if err := p.chooseCharset(); err != nil {
		return err
	}
	word, err := p.next()
	if err != nil {
		return err
	}
	if !p.extended {
		p.opt.ReturnAll = true
	}
	return p.keys(word)
}
