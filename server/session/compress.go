package session

import (
	"context"

	"roost/server/deflate"
	"roost/server/wire"
)

// compress makes what follows the answer compressed, both ways. RFC 4978 section 3. Login
// comes first, and STARTTLS before that: neither is there any more.
func (s *session) compress(_ context.Context, _ call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	algorithm, err := s.lex.Keyword()
	if err != nil {
		return "", err
	}
	if err := s.end(); err != nil {
		return "", err
	}
	switch {
	case algorithm != "DEFLATE":
		return "", bad("DEFLATE is the only way to compress here, not %s", shown(algorithm))
	case s.packed != nil:
		return "", no("COMPRESSIONACTIVE", "DEFLATE is active by an earlier COMPRESS")
	}
	s.after = s.pack
	return "DEFLATE active", nil
}

// packing compresses between lexer and encoder on one side and the stream on the other:
// the Tap sees plain text. What it costs while nothing is said, package deflate tells.
type packing struct {
	s   *session
	in  *deflate.Reader
	out *deflate.Writer

	last bool // the next write is the last that is compressed

	// due: a read that the lexer asked for may block; then what the client waits for goes
	// out first. Not in a look ahead, beside which a command runs.
	due bool
}

// pack begins. What is written so far goes out as it is; what the client sent behind its
// COMPRESS is compressed, though it should have waited.
func (s *session) pack() error {
	if err := s.enc.Flush(); err != nil {
		return err
	}
	p := &packing{s: s}
	p.in = deflate.NewReader(packedInput{p}, s.lex.Take())
	p.out = deflate.NewWriter(packedOutput{p})
	s.packed = p
	s.lex.SetRest(nil) // bytes may be left in what unpacks them: see packedInput
	return nil
}

// rest says whether the client may be silent for long.
func (p *packing) rest(resting bool) {
	if p != nil {
		p.in.Rest(resting)
	}
}

func (p *packing) write(b []byte) (int, error) {
	if p.last {
		return p.out.WriteLast(b)
	}
	return p.out.Write(b)
}

// packedInput and packedOutput are the ends of the stream. Each frame that lies under a
// waiting session counts: see Serve.
type packedInput struct{ p *packing }

func (i packedInput) Read(b []byte) (int, error) {
	if i.p.due {
		if err := i.p.s.ready(); err != nil {
			return 0, err
		}
		i.p.due = len(i.p.s.held.list) > 0 // they go out before the next Read blocks
		if r, ok := i.p.s.stream.(wire.Rester); ok {
			if err := r.Rest(); err != nil {
				return 0, err
			}
		}
	}
	n, err := i.p.s.stream.Read(b)
	i.p.s.in.Add(int64(n))
	return n, err
}

type packedOutput struct{ p *packing }

func (o packedOutput) Write(b []byte) (int, error) { return o.p.s.write(b) }
