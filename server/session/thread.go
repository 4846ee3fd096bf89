package session

import (
	"context"

	"roost/server/search"
)

// THREAD and UID THREAD: RFC 5256 section 3. REFS is Dovecot's, which Roundcube asks for first.

// threadAlgorithm makes threads of what was found.
type threadAlgorithm func(context.Context, search.Source, *search.Found) (*search.Threads, error)

var threadAlgorithms = map[string]threadAlgorithm{
	"ORDEREDSUBJECT": search.OrderedSubject,
	"REFERENCES":     search.References,
	"REFS":           search.Refs,
}

// thread runs both forms.
func (s *session) thread(ctx context.Context, c call) (string, error) {
	p := searchParser{s: s, filters: s.filtersFrom(ctx)}
	return "", s.answerSearch(ctx, c, &p, p.parseThread())
}

// parseThread reads to the end of the command.
func (p *searchParser) parseThread() error {
	lex := p.s.lex
	if err := lex.SP(); err != nil {
		return err
	}
	name, err := lex.Keyword()
	if err != nil {
		return err
	}
	if p.threads = threadAlgorithms[name]; p.threads == nil {
		return bad("Unknown threading algorithm %s", shown(name))
	}
	return p.charsetAndKeys()
}

// writeThreads writes the answer of RFC 5256 section 4.
func (s *session) writeThreads(threads *search.Threads, nums []uint32) {
	s.enc.Raw("* THREAD")
	numbered := true // of what stands before
	for at := range threads.Walk() {
		if numbered && at != search.ThreadClose {
			s.enc.SP()
		}
		switch numbered = false; at {
		case search.ThreadOpen:
			s.enc.Raw("(")
		case search.ThreadClose:
			s.enc.Raw(")")
		default:
			s.enc.Number(uint64(nums[at]))
			numbered = true
		}
	}
	s.enc.CRLF()
}
