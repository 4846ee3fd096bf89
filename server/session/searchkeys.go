package session

import (
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/encoding"

	"roost/message"
	"roost/server/search"
	"roost/store"
)

// searchParser reads the arguments of SEARCH. Nesting is a stack of its own, so that
// no depth that fits into a command harms (RFC 9051 section 9, search-key).
type searchParser struct {
	s        *session
	query    search.Query
	opt      imap.SearchOptions
	extended bool // RETURN was there
	charset  encoding.Encoding
	open     []joint

	asksModSeq bool

	partial   resultRange
	relevancy bool // RETURN (RELEVANCY)
	fuzzy     int  // how many FUZZY the key being read stands in
	fuzzied   bool // there was one

	filters filterSource

	later *laterSets // of ESEARCH; nil: sets are of the selected mailbox

	limit  string // MESSAGELIMIT that was met, as a response code
	partly bool   // not all messages were looked at

	update update // RETURN (UPDATE)
	hinted bool   // RETURN (CONTEXT)

	sortBy  []search.Criterion // of SORT
	threads threadAlgorithm    // of THREAD
}

// onlyPartial tells that nothing but a range of the results was asked for.
func (p *searchParser) onlyPartial() bool {
	o := p.opt
	return p.partial.text != "" && !p.relevancy && !p.update.wanted && !o.ReturnMin && !o.ReturnMax && !o.ReturnAll && !o.ReturnCount
}

// joint is a key whose operands are being read.
type joint struct {
	op    search.Op // And: a list in parentheses, or the command itself as the first
	count int64     // operands so far
	fuzzy bool      // FUZZY: And of one, which is no key of its own
}

// parse reads to the end of the command.
func (p *searchParser) parse() error {
	lex := p.s.lex
	if err := lex.SP(); err != nil {
		return err
	}
	word, err := p.word()
	if err != nil {
		return err
	}
	return p.parseFrom(word)
}

// parseFrom is parse behind the first word.
func (p *searchParser) parseFrom(word string) (err error) {
	if word == "RETURN" {
		if err := p.options(); err != nil {
			return err
		}
		if word, err = p.next(); err != nil {
			return err
		}
	}
	if word == "CHARSET" {
		if err := p.chooseCharset(); err != nil {
			return err
		}
		if word, err = p.next(); err != nil {
			return err
		}
	}
	if !p.extended {
		p.opt = imap.SearchOptions{ReturnAll: true}
	}
	return p.keys(word)
}

// word reads the word that a key begins with; "" where something else begins.
func (p *searchParser) word() (string, error) {
	c, err := p.s.lex.Peek()
	if err != nil {
		return "", err
	}
	if c == '(' || c == '*' || c == '$' || '0' <= c && c <= '9' {
		return "", nil
	}
	return p.s.lex.Keyword()
}

// next is word behind a space.
func (p *searchParser) next() (string, error) {
	if err := p.s.lex.SP(); err != nil {
		return "", err
	}
	return p.word()
}

// options reads what stands behind RETURN. RFC 4731 section 3.1: none is ALL.
func (p *searchParser) options() error {
	p.extended = true
	if err := p.s.lex.SP(); err != nil {
		return err
	}
	err := p.s.lex.List(func() error {
		name, err := p.s.lex.Keyword()
		if err != nil {
			return err
		}
		return p.option(name)
	})
	if p.partial.text == "" && !p.relevancy && !p.update.wanted && !p.hinted && p.opt == (imap.SearchOptions{}) {
		p.opt.ReturnAll = true
	}
	if err == nil && p.partial.text != "" && p.opt.ReturnAll {
		err = bad("Only one of PARTIAL and ALL can be asked for") // RFC 9394 section 3.1
	}
	return err
}

// option reads what one result option has behind its name.
func (p *searchParser) option(name string) (err error) {
	switch {
	case name == "MIN":
		p.opt.ReturnMin = true
	case name == "MAX":
		p.opt.ReturnMax = true
	case name == "ALL":
		p.opt.ReturnAll = true
	case name == "COUNT":
		p.opt.ReturnCount = true
	case name == "SAVE":
		p.opt.ReturnSave = true
	case name == "CONTEXT":
		p.hinted = true
	case name == "RELEVANCY":
		p.relevancy, p.query.Scored = true, true
	case name == "PARTIAL" && p.partial.text == "":
		p.partial, err = p.s.resultRange()
	case name == "UPDATE" && !p.update.wanted:
		p.update.wanted = true
		err = p.updateItems()
	default:
		err = bad("Unknown or repeated result option %s", shown(name))
	}
	return err
}

// updateItems reads the data items behind UPDATE, or the option that stands there.
func (p *searchParser) updateItems() error {
	if !p.s.lex.Accept(' ') {
		return nil
	}
	c, err := p.s.lex.Peek()
	if err == nil && c == '(' {
		p.update.items, err = parseItems(p.s.lex)
		return err
	}
	name, err := p.s.lex.Keyword()
	if err != nil {
		return err
	}
	return p.option(name) // UPDATE itself is refused now
}

// chooseCharset reads the name behind CHARSET, in which all strings are.
func (p *searchParser) chooseCharset() error {
	if err := p.s.lex.SP(); err != nil {
		return err
	}
	name, err := p.s.lex.AString()
	if err != nil {
		return err
	}
	switch strings.ToUpper(name) {
	case "UTF-8", "UTF8", "US-ASCII":
		// After ENABLE UTF8=ACCEPT too: RFC 6855 section 3 would have it refused because
		// labels could conflict; these do not, and SnappyMail sends them.
		return nil
	}
	if p.s.utf8 && !p.s.rev2 {
		return bad("CHARSET %s has no place after ENABLE UTF8=ACCEPT: strings are UTF-8", shown(name))
	}
	e, ok := message.Charset(name)
	if !ok {
		return no("BADCHARSET (UTF-8 US-ASCII)", "Charset %s is not known", shown(name))
	}
	p.charset = e
	return nil
}

// keys reads the search keys; word is what the first begins with. Each turn reads
// one key and closes what ends with it.
func (p *searchParser) keys(word string) error {
	p.open = append(p.open, joint{op: search.And})
	for {
		opened, err := p.key(word)
		done := false
		if err == nil && !opened {
			done, err = p.close()
		} else if top := p.open[len(p.open)-1]; err == nil && (top.op != search.And || top.fuzzy) {
			err = p.s.lex.SP() // behind NOT, OR and FUZZY, not behind "("
		}
		if err == nil && done && p.query.Scored && !p.fuzzied && len(p.filters.open) == 0 {
			err = bad("RELEVANCY needs a FUZZY key") // RFC 6203 section 4
		}
		if err != nil || done {
			return err
		}
		if word, err = p.word(); err != nil {
			return err
		}
	}
}

// close counts a key that was read to its end, ends what it was the last operand
// of, and goes to the next key. It reports true when the command ends instead.
func (p *searchParser) close() (bool, error) {
	lex := p.s.lex
	for {
		top := &p.open[len(p.open)-1]
		top.count++
		switch {
		case top.fuzzy, top.op == search.Not:
		case top.op == search.Or:
			if top.count < 2 {
				return false, lex.SP()
			}
		case len(p.open) == 1: // the command itself, behind which a space is harmless
			if lex.Accept(' ') && !lex.AtEnd() {
				return false, nil
			}
			if err := lex.End(); err != nil {
				return false, err
			}
		case !lex.Accept(')'):
			if c, err := lex.Peek(); err != nil || c != ' ' {
				return false, lex.Unexpected("a space or ')'")
			}
			return false, lex.SP()
		}
		if top.fuzzy {
			p.fuzzy--
		} else if err := p.add(search.Key{Op: top.op, N: top.count}); err != nil {
			return false, err
		}
		p.open = p.open[:len(p.open)-1]
		if len(p.open) == 0 {
			return true, nil
		}
	}
}

// searchFlags are the keys that ask for one system flag.
var searchFlags = map[string]store.Flags{
	"ANSWERED": store.FlagAnswered, "DELETED": store.FlagDeleted, "DRAFT": store.FlagDraft,
	"FLAGGED": store.FlagFlagged, "SEEN": store.FlagSeen,
}

// key reads one key, or opens one whose operands come next.
func (p *searchParser) key(word string) (opened bool, err error) {
	lex := p.s.lex
	if flag, ok := searchFlags[word]; ok {
		return false, p.add(search.Key{Op: search.Flag, Flags: flag})
	}
	if flag, ok := searchFlags[strings.TrimPrefix(word, "UN")]; ok {
		return false, p.add(search.Key{Op: search.Flag, Flags: flag}, search.Key{Op: search.Not})
	}
	switch word {
	case "":
		if lex.Accept('(') {
			p.open = append(p.open, joint{op: search.And})
			return true, nil
		}
		return false, p.set(false)
	case "NOT":
		p.open = append(p.open, joint{op: search.Not})
		return true, nil
	case "OR":
		p.open = append(p.open, joint{op: search.Or})
		return true, nil
	case "FUZZY": // RFC 6203 section 3
		p.open = append(p.open, joint{op: search.And, fuzzy: true})
		p.fuzzy++
		p.fuzzied = true
		return true, nil
	case "ALL", "SAVEDATESUPPORTED": // RFC 8514 section 4.3: all, where SAVEDATE is known
		return false, p.add(search.Key{Op: search.All})
	case "NEW": // RFC 3501 section 6.4.4, as are OLD and RECENT
		return false, p.add(p.recent(), search.Key{Op: search.Flag, Flags: store.FlagSeen},
			search.Key{Op: search.Not}, search.Key{Op: search.And, N: 2})
	case "OLD":
		return false, p.add(p.recent(), search.Key{Op: search.Not})
	case "RECENT":
		return false, p.add(p.recent())
	}
	if !p.known(word) {
		return false, bad("Unknown search key %s", shown(word))
	}
	if err := lex.SP(); err != nil {
		return false, err
	}
	return false, p.argument(word)
}

// known tells whether argument knows the key.
func (p *searchParser) known(word string) bool {
	switch word {
	case "BCC", "BEFORE", "BODY", "CC", "EMAILID", "FILTER", "FROM", "HEADER", "KEYWORD", "LARGER",
		"MODSEQ", "OLDER", "ON", "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE", "SENTBEFORE", "SENTON",
		"SENTSINCE", "SINCE", "SMALLER", "SUBJECT", "TEXT", "THREADID", "TO", "UID", "UIDAFTER",
		"UIDBEFORE", "UNKEYWORD", "YOUNGER":
		return true
	}
	return false
}

// argument reads what stands behind the word of a key that has one.
func (p *searchParser) argument(word string) error {
	lex := p.s.lex
	switch word {
	case "UID":
		return p.set(true)
	case "FILTER":
		return p.filter()
	case "UIDAFTER", "UIDBEFORE": // RFC 9738 section 3.2
		n, err := lex.NZNumber()
		if err != nil {
			return err
		}
		r := imap.UIDRange{Start: imap.UID(n) + 1, Stop: 1<<32 - 1}
		if word == "UIDBEFORE" {
			r = imap.UIDRange{Start: 1, Stop: imap.UID(n) - 1}
		}
		if n == 1<<32-1 && word == "UIDAFTER" || r.Stop == 0 {
			return p.add(search.Key{Op: search.UIDs})
		}
		return p.add(search.Key{Op: search.UIDs, Set: imap.UIDSet{r}})
	case "KEYWORD", "UNKEYWORD":
		name, err := lex.Atom()
		if err != nil {
			return err
		}
		err = p.add(search.Key{Op: search.Word, Text: name})
		if err == nil && word == "UNKEYWORD" {
			err = p.add(search.Key{Op: search.Not})
		}
		return err
	case "LARGER", "SMALLER":
		n, err := lex.Number64()
		if err != nil {
			return err
		}
		op := search.Larger
		if word == "SMALLER" {
			op = search.Smaller
		}
		return p.add(search.Key{Op: op, N: n})
	case "MODSEQ":
		return p.modSeq()
	case "EMAILID", "THREADID":
		return p.objectKey(word)
	case "OLDER", "YOUNGER":
		n, err := lex.NZNumber()
		if err != nil {
			return err
		}
		then := time.Now().Unix() - int64(n)
		if word == "OLDER" {
			return p.add(search.Key{Op: search.Before, N: then + 1})
		}
		return p.add(search.Key{Op: search.Since, N: then})
	case "BEFORE", "ON", "SINCE", "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE", "SENTBEFORE", "SENTON", "SENTSINCE":
		day, err := lex.Date()
		if err != nil {
			return err
		}
		return p.date(word, day)
	case "HEADER":
		field, err := lex.AString()
		if err == nil {
			err = lex.SP()
		}
		if err != nil {
			return err
		}
		return p.text(search.Key{Op: search.Header, Field: field})
	case "BODY":
		return p.text(search.Key{Op: search.Body})
	case "TEXT":
		return p.text(search.Key{Op: search.Text})
	default: // FROM, TO, CC, BCC, SUBJECT: the fields of ENVELOPE
		return p.text(search.Key{Op: search.Header, Field: word})
	}
}

// modSeq reads [entry-name entry-type] mod-sequence. There is one MODSEQ a message, so
// the entry is passed over. RFC 7162 section 3.1.5.
func (p *searchParser) modSeq() error {
	lex := p.s.lex
	if c, err := lex.Peek(); err != nil {
		return err
	} else if c == '"' {
		entry, err := lex.String()
		if err == nil && !strings.HasPrefix(entry, "/flags/") {
			err = bad("Entry %s is no flag: \"/flags/...\"", shown(entry))
		}
		if err == nil {
			err = lex.SP()
		}
		if err != nil {
			return err
		}
		kind, err := lex.Keyword()
		if err != nil {
			return err
		}
		if kind != "ALL" && kind != "PRIV" && kind != "SHARED" {
			return bad("Entry type %s is none of all, priv, shared", shown(kind))
		}
		if err := lex.SP(); err != nil {
			return err
		}
	}
	n, err := lex.Number64()
	if err != nil {
		return err
	}
	p.asksModSeq = true
	return p.add(search.Key{Op: search.ModSeq, N: n})
}

// date adds a key that asks for a day. INTERNALDATE is compared in UTC, in which FETCH
// shows it; Date is compared as it was written.
func (p *searchParser) date(word string, day time.Time) error {
	from, to := day.Unix(), day.AddDate(0, 0, 1).Unix()
	switch word {
	case "BEFORE":
		return p.add(search.Key{Op: search.Before, N: from})
	case "SINCE":
		return p.add(search.Key{Op: search.Since, N: from})
	case "SAVEDBEFORE": // RFC 8514 section 4.3
		return p.add(search.Key{Op: search.SavedBefore, N: from})
	case "SAVEDSINCE":
		return p.add(search.Key{Op: search.SavedSince, N: from})
	case "SAVEDON":
		return p.add(search.Key{Op: search.SavedSince, N: from}, search.Key{Op: search.SavedBefore, N: to},
			search.Key{Op: search.And, N: 2})
	case "ON":
		return p.add(search.Key{Op: search.Since, N: from}, search.Key{Op: search.Before, N: to},
			search.Key{Op: search.And, N: 2})
	}
	op := map[string]search.Op{"SENTBEFORE": search.SentBefore, "SENTON": search.SentOn, "SENTSINCE": search.SentSince}[word]
	return p.add(search.Key{Op: op, N: search.DayOf(day)})
}

// text reads the string of k and adds it.
func (p *searchParser) text(k search.Key) error {
	text, err := p.s.lex.AString()
	if err != nil {
		return err
	}
	if p.charset != nil {
		decoded, err := p.charset.NewDecoder().String(text)
		if err != nil {
			return bad("String %s is not in the CHARSET of the command", shown(text))
		}
		text = decoded
	} else if !utf8.ValidString(text) {
		return bad("String %s is not UTF-8; name its CHARSET", shown(text))
	}
	k.Text = text
	if p.fuzzy > 0 {
		return limited(p.query.AddFuzzy(k))
	}
	return p.add(k)
}

// add appends keys to the query.
func (p *searchParser) add(keys ...search.Key) error {
	for _, k := range keys {
		if err := limited(p.query.Add(k)); err != nil {
			return err
		}
	}
	return nil
}

// limited makes an answer of what a query refuses.
func limited(err error) error {
	var limit *search.LimitError
	if errors.As(err, &limit) {
		return no("LIMIT", "Search asks too much: %v", err)
	}
	return err
}
