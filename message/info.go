package message

import "strings"

// Text is the value of a field; Set tells an empty one from one that is not there.
type Text struct {
	Value string
	Set   bool
}

// Info is what the header of a part says of its content, as BODYSTRUCTURE shows
// it (RFC 9051 section 7.5.2). Strings are as they were written, unfolded, RFC 2047 and
// RFC 2231 encodings kept. Of repeated fields the first counts.
type Info struct {
	Type, Subtype string // as written; text/plain where missing or broken
	Params        []Param
	Encoding      string // Content-Transfer-Encoding; "7bit" where missing

	ID, Description, MD5, Location Text

	Disposition       Text
	DispositionParams []Param
	Language          []string

	// Envelope is set where the header is that of a message: of the first part, and
	// of the child of a Message.
	Envelope *Envelope
}

// charset is the charset parameter, "" when there is none.
func (i *Info) charset() string {
	for _, p := range i.Params {
		if strings.EqualFold(p.Name, "charset") {
			return p.Value
		}
	}
	return ""
}

func isMessage(typ, subtype string) bool {
	return strings.EqualFold(typ, "message") &&
		(strings.EqualFold(subtype, "rfc822") || strings.EqualFold(subtype, "global"))
}

// parseInfo reads the content fields of a header. Inside multipart/digest a part
// that says nothing is a message (RFC 2046 section 5.1.5). boundary is set for a
// multipart, and only then is the type multipart.
func parseInfo(header []byte, digest bool) (info *Info, boundary string) {
	info = &Info{Type: "text", Subtype: "plain", Encoding: "7bit"}
	if digest {
		info.Type, info.Subtype = "message", "rfc822"
	}
	var typed, encoded, spoken bool
	for f := range Fields(header) {
		if len(f.Name) < len("content-id") || !strings.EqualFold(string(f.Name[:8]), "content-") {
			continue
		}
		switch strings.ToLower(string(f.Name[8:])) {
		case "type":
			if !typed {
				typed = true
				boundary = info.setType(f.Value)
			}
		case "transfer-encoding":
			if l := (lexer{b: f.Value}); !encoded {
				l.skip()
				if token := l.run(tspecials); token != "" {
					info.Encoding, encoded = token, true
				}
			}
		case "id":
			setOnce(&info.ID, f)
		case "description":
			setOnce(&info.Description, f)
		case "md5":
			setOnce(&info.MD5, f)
		case "location":
			setOnce(&info.Location, f)
		case "disposition":
			if !info.Disposition.Set {
				l := lexer{b: f.Value}
				l.skip()
				info.Disposition = Text{l.run(tspecials), true}
				l.past(";")
				info.DispositionParams = l.params()
			}
		case "language":
			if !spoken {
				spoken = true
				info.Language = languages(f.Value)
			}
		}
	}
	return info, boundary
}

func setOnce(t *Text, f Field) {
	if !t.Set {
		*t = Text{f.Text(), true}
	}
}

// setType reads Content-Type. What cannot be parsed is text/plain (RFC 2045 section 5.2),
// and so is a multipart without a usable boundary, which is as unparsable: so its
// text can be read.
func (i *Info) setType(v []byte) (boundary string) {
	l := lexer{b: v}
	l.skip()
	typ := l.run(tspecials)
	l.skip()
	slash := l.peek() == '/'
	l.i++
	i.Type, i.Subtype, i.Params = "text", "plain", nil
	if !slash {
		return ""
	}
	l.skip()
	sub := l.run(tspecials)
	l.skip()
	if typ == "" || sub == "" || !l.end() && l.peek() != ';' {
		return ""
	}
	params := l.params()
	if strings.EqualFold(typ, "multipart") {
		for _, p := range params {
			if strings.EqualFold(p.Name, "boundary") {
				boundary = strings.TrimRight(p.Value, " \t")
				break
			}
		}
		if boundary == "" || len(boundary) > maxBoundary {
			return ""
		}
	}
	i.Type, i.Subtype, i.Params = typ, sub, params
	return boundary
}

// languages reads the list of Content-Language (RFC 3282); blanks, comments, empty
// items and quotes are passed.
func languages(v []byte) []string {
	var list []string
	l := lexer{b: v}
	for {
		l.skip()
		if l.end() {
			return list
		}
		if tag := l.run(tspecials); tag != "" {
			list = append(list, tag)
		} else {
			l.i++
		}
	}
}
