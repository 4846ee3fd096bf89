package session

import (
	"context"
	"strings"

	"roost/server/wire"
)

// id answers who we are and logs who the client says it is. RFC 2971.
func (s *session) id(_ context.Context, _ call) (string, error) {
	client, err := ReadID(s.lex)
	if err != nil {
		return "", err
	}
	if len(client) > 0 {
		all := strings.Join(client, " ")
		s.log.Info("client", "event", "client", "client", all)
		s.client = all[:min(len(all), idShown)] // kept as long as the session
		name := ClientName(client)
		s.login.Client = name[:min(len(name), idShown)]
	}
	WriteID(s.enc, s.opt.Product)
	// Who says who it is may be one that something must be hidden from.
	if len(client) > 0 && s.know() {
		return okCode("CAPABILITY "+s.capabilities(), "ID completed"), nil
	}
	return "", nil
}

// Bounds of ID. RFC 2971 section 3.3.
const (
	idPairs = 30
	idKey   = 30
	idValue = 1024
	idShown = 200 // bytes of it in Activity
)

// ReadID reads the arguments of ID, which is valid before login too, to the end of
// the command: names and values in turn, "" for a value of NIL.
func ReadID(l *wire.Lexer) ([]string, error) {
	if err := l.SP(); err != nil {
		return nil, err
	}
	var out []string
	if c, err := l.Peek(); err != nil {
		return nil, err
	} else if c != '(' {
		if _, ok, err := l.NString(); err != nil {
			return nil, err
		} else if ok {
			return nil, bad("ID takes NIL or a list of names and values")
		}
		return nil, l.End()
	}
	err := l.List(func() error {
		s, _, err := l.NString()
		if err != nil {
			return err
		}
		limit := idKey
		if len(out)%2 == 1 {
			limit = idValue
		}
		if len(s) > limit {
			return bad("ID has a name or value longer than %d bytes", limit)
		}
		if len(out) >= 2*idPairs {
			return bad("ID has more than %d fields", idPairs)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out)%2 == 1 {
		return nil, bad("ID has a name without a value")
	}
	return out, l.End()
}

// WriteID writes the answer to ID; product is names and values in turn.
func WriteID(e *wire.Encoder, product []string) {
	e.Raw("* ID (")
	for i, s := range product {
		if i > 0 {
			e.SP()
		}
		e.String(s)
	}
	e.Raw(")\r\n")
}
