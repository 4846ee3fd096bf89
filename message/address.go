package message

import "strings"

// An Address is one entry of an address list as ENVELOPE shows it (RFC 9051
// section 7.5.2). Without Addr it stands for a group: its beginning when Group is
// set and named by Mailbox, its end otherwise.
type Address struct {
	Name    string // display name or else comment; "" for none
	Route   string // "@a,@b": the obsolete source route, "" for none
	Mailbox string
	Host    string
	Kind    AddressKind
}

// AddressKind tells addresses from the marks that stand around a group.
type AddressKind uint8

const (
	Single AddressKind = iota
	GroupStart
	GroupEnd
)

// What stands for the part of an address that is not there: the words that
// Dovecot uses. An empty string would be legal, but clients that do not tell it
// from NIL would see a group begin or end.
const (
	MissingMailbox = "MISSING_MAILBOX"
	MissingDomain  = "MISSING_DOMAIN"
)

// MaxAddresses is how many entries of one list are kept. A header of a megabyte
// could name half a million, each of which takes 30 times its bytes in an answer.
const MaxAddresses = 10_000

// appendAddresses reads an address list (RFC 5322 section 3.4, the obsolete forms of
// section 4.4 too). What cannot be read is passed up to the next comma, and every
// group that begins ends.
func appendAddresses(list []Address, value []byte) []Address {
	p := addressParser{lexer: lexer{b: value}, list: list}
	for !p.end() && len(p.list) < MaxAddresses {
		p.one()
	}
	p.endGroup()
	return p.list
}

type addressParser struct {
	lexer
	list  []Address
	group bool
}

func (p *addressParser) endGroup() {
	if p.group {
		p.list = append(p.list, Address{Kind: GroupEnd})
		p.group = false
	}
}

// word is an atom or a quoted string of a phrase or local part.
type word struct {
	text   string
	joined bool // nothing stands between it and the word before
}

// one reads one address, or the beginning or end of a group.
func (p *addressParser) one() {
	p.comment = ""
	var words []word
	for {
		p.spaced = false
		p.skip()
		joined := !p.spaced
		if p.end() {
			p.bare(words)
			return
		}
		switch p.peek() {
		case ',':
			p.i++
			p.bare(words)
			return
		case ';':
			p.i++
			p.bare(words)
			p.endGroup()
			return
		case ':':
			p.i++
			if len(words) > 0 && !p.group {
				p.list = append(p.list, Address{Kind: GroupStart, Mailbox: phrase(words)})
				p.group = true
				return
			}
		case '<':
			p.i++
			p.angle(words)
			return
		case '@':
			p.i++
			p.spec(words)
			return
		case ')', '>':
			p.i++
		case '"':
			s, _ := p.quoted()
			words = append(words, word{s, joined})
		default:
			words = append(words, word{p.run(`"(),:;<>@`), joined})
		}
	}
}

// bare ends an entry without any address: its words are all that is known.
func (p *addressParser) bare(words []word) {
	if len(words) > 0 {
		p.add(Address{Name: p.comment, Mailbox: phrase(words)})
	}
}

// add takes one address whose missing parts are "".
func (p *addressParser) add(a Address) {
	if a.Host == "" {
		a.Host = MissingDomain
	}
	p.list = append(p.list, a)
}

// phrase joins words by one space where something stood between them.
func phrase(words []word) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && !w.joined {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

// spec reads what follows the @ of an address without angle brackets. Of several
// words only the last, with those that dots tie to it, are the local part.
func (p *addressParser) spec(words []word) {
	first := localStart(words)
	a := Address{Name: phrase(words[:first]), Mailbox: MissingMailbox, Host: p.domain()}
	if first < len(words) {
		a.Mailbox = local(words[first:])
	}
	p.rest()
	if a.Name == "" {
		a.Name = p.comment
	}
	p.add(a)
}

// rest passes what follows an address, up to the comma, or to the semicolon that
// may end a group. A comment in it may be a name.
func (p *addressParser) rest() {
	p.skip()
	if p.past(",;") == ';' {
		p.i--
	}
}

func localStart(words []word) int {
	i := len(words) - 1
	for i > 0 && (words[i].joined || strings.HasPrefix(words[i].text, ".") || strings.HasSuffix(words[i-1].text, ".")) {
		i--
	}
	return max(i, 0)
}

func local(words []word) string {
	if len(words) == 1 {
		return words[0].text
	}
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w.text)
	}
	return b.String()
}

// angle reads what stands between < and >, route and address.
func (p *addressParser) angle(words []word) {
	a := Address{Name: phrase(words), Mailbox: MissingMailbox}
	a.Route = p.route()
	var loc []word
	for {
		p.spaced = false
		p.skip()
		joined := !p.spaced
		c := p.peek()
		if p.end() || c == ',' || c == ';' {
			break
		}
		if c == '"' {
			s, _ := p.quoted()
			loc = append(loc, word{s, joined})
			continue
		}
		if c == '@' {
			p.i++
			a.Host = p.domain()
			break
		}
		if c == '>' {
			break
		}
		if strings.IndexByte(`(),:;<>@`, c) >= 0 {
			p.i++
			continue
		}
		loc = append(loc, word{p.run(`"(),:;<>@`), joined})
	}
	if len(loc) > 0 {
		a.Mailbox = local(loc)
	}
	p.comment = ""
	p.rest()
	if a.Name == "" {
		a.Name = p.comment
	}
	p.add(a)
}

// route reads "@a,@b:" (RFC 5322 section 4.4, obs-route).
func (p *addressParser) route() string {
	start := p.i
	var b strings.Builder
	for {
		p.skip()
		switch p.peek() {
		case ',':
			p.i++
		case '@':
			p.i++
			host := p.domain()
			if host == "" {
				p.i = start
				return ""
			}
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString("@" + host)
		case ':':
			p.i++
			return b.String()
		default:
			p.i = start
			return ""
		}
	}
}

// domain reads a domain or a domain literal; "" when there is none that could be
// one. A literal stays as it was written.
func (p *addressParser) domain() string {
	p.skip()
	if p.peek() == '[' {
		start := p.i
		for p.i++; !p.end(); p.i++ {
			switch p.b[p.i] {
			case '\\':
				p.i++
			case ']':
				p.i++
				return unfold(p.b[start:p.i])
			}
		}
		p.i = len(p.b)
		return ""
	}
	var b strings.Builder
	for {
		p.skip()
		dotted := p.peek() == '.' || strings.HasSuffix(b.String(), ".")
		if b.Len() > 0 && !dotted {
			break
		}
		s := p.run(`"(),:;<>@[]\`)
		if s == "" {
			break
		}
		b.WriteString(s)
	}
	host := b.String()
	if strings.HasPrefix(host, ".") || strings.Contains(host, "..") {
		return ""
	}
	return host
}
