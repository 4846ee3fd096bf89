package workers

import "roost/server/wire"

// show repeats a call that was made in another process.
func (s *seen) show(w wire.Watch) {
	switch s.Kind {
	case 'B':
		w.Begin()
	case 'C':
		w.Command(s.Bytes)
	case 'L':
		w.CommandLiteral(s.N)
	case 'R':
		w.Response(s.Bytes)
	case 'H':
		w.ResponseLiteral(s.N)
	}
}

// teller is the wire.Watch of a worker: it tells the front, which knows what must be hidden
// and who looks. What the front does not take in time is lost.
type teller struct {
	link *link
	id   string
}

func (t teller) tell(s seen) {
	const most = 48 << 10
	for len(s.Bytes) > most {
		t.link.post(linked{ID: t.id, Seen: &seen{Kind: s.Kind, Bytes: append([]byte(nil), s.Bytes[:most]...)}})
		s.Bytes = s.Bytes[most:]
	}
	s.Bytes = append([]byte(nil), s.Bytes...) // good during the call only
	t.link.post(linked{ID: t.id, Seen: &s})
}

func (t teller) Begin()                  { t.tell(seen{Kind: 'B'}) }
func (t teller) Command(b []byte)        { t.tell(seen{Kind: 'C', Bytes: b}) }
func (t teller) CommandLiteral(n int64)  { t.tell(seen{Kind: 'L', N: n}) }
func (t teller) Response(b []byte)       { t.tell(seen{Kind: 'R', Bytes: b}) }
func (t teller) ResponseLiteral(n int64) { t.tell(seen{Kind: 'H', N: n}) }
