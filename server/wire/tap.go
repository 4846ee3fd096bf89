package wire

import "sync/atomic"

// A Watch is shown the protocol of one connection as it passes, for people who look
// for what goes wrong. It never gets the bytes of a literal that the Lexer reads or
// the Encoder writes as one, only their number; what is handed to Encoder.Write ready
// for the wire may hold literals of its own. Calls come from the goroutines that read
// and that write, and must not block; a slice is good during its call only.
type Watch interface {
	// Begin: a command begins. Command shows the next piece of it, the announcements
	// of literals and the ends of lines included.
	Begin()
	Command(b []byte)
	// CommandLiteral: the next n bytes were those of a literal.
	CommandLiteral(n int64)

	Response(b []byte)
	// ResponseLiteral is called at least once for each literal, behind its announcement.
	ResponseLiteral(n int64)
}

// A Tap is the place on a connection where a Watch can be set and taken away at any
// time. What is under way then is finished unseen: commands are shown from their
// beginning on, responses from the next buffer on. The zero value, and nil, is off,
// which costs a load a command and a buffer. Safe for concurrent use.
type Tap struct {
	watch  atomic.Pointer[Watch]
	follow atomic.Pointer[func(bool)]
}

// Set puts w in place of the Watch before; nil for none, which may be called a last
// time by what is under way.
func (t *Tap) Set(w Watch) {
	if w == nil {
		t.watch.Store(nil)
	} else {
		t.watch.Store(&w)
	}
	if f := t.follow.Load(); f != nil {
		(*f)(w != nil)
	}
}

// Follow lets f know whenever a Watch is set or taken away, and whether one is there now:
// the protocol of the connection is then spoken in another process. f must not block; nil
// ends it.
func (t *Tap) Follow(f func(on bool)) {
	if f == nil {
		t.follow.Store(nil)
		return
	}
	t.follow.Store(&f)
	if t.now() != nil {
		f(true)
	}
}

// Watching is the Watch of now; nil for none.
func (t *Tap) Watching() Watch { return t.now() }

func (t *Tap) now() Watch {
	if t == nil {
		return nil
	}
	if w := t.watch.Load(); w != nil {
		return *w
	}
	return nil
}

// begin lets the Watch of now see the command that begins.
func (l *Lexer) begin() {
	l.told = l.r
	if l.watch = l.hooks.Tap.now(); l.watch != nil {
		l.watch.Begin()
	}
}

// show tells the Watch what was consumed of the buffer since the last time.
func (l *Lexer) show() {
	if l.watch != nil && l.told < l.r {
		l.watch.Command(l.buf[l.told:l.r])
	}
	l.told = l.r
}

// showLiteral tells it of n bytes of a literal.
func (l *Lexer) showLiteral(n int) {
	if l.watch != nil {
		l.watch.CommandLiteral(int64(n))
	}
	l.told = l.r
}

// finish ends the command, and what is seen of it.
func (l *Lexer) finish() {
	l.show()
	l.ended, l.watch = true, nil
}

// show tells the Watch what the buffer got since the last time.
func (e *Encoder) show() {
	if e.buf == nil || e.watch == nil {
		return
	}
	news := (*e.buf)[e.told:]
	switch {
	case e.hidden:
		e.watch.ResponseLiteral(int64(len(news)))
	case len(news) > 0:
		e.watch.Response(news)
	}
	e.told = len(*e.buf)
}

// hide says whether what is appended from here on is a literal.
func (e *Encoder) hide(literal bool) {
	e.show()
	e.hidden = literal
}
