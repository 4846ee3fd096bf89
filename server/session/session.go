package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"roost/server/deflate"
	"roost/server/wire"
	"roost/store"
)

// session is one logged-in connection. Its fields belong to the goroutine of
// serve; while the client idles, sel and enc belong to the pusher (push.go).
type session struct {
	login  *Login
	opt    *Options
	log    *slog.Logger
	stream Stream
	prompt Prompt // the stream; nil: it can only wait
	lex    *wire.Lexer
	enc    *wire.Encoder
	acct   store.Account
	sep    byte

	rev2 bool // ENABLE IMAP4rev2
	utf8 bool // ENABLE UTF8=ACCEPT, or rev2: names and strings are UTF-8

	condstore bool // a CONDSTORE enabling command was given
	qresync   bool // ENABLE QRESYNC
	uidOnly   bool // ENABLE UIDONLY: no sequence number is told or taken (uidonly.go)

	annotated store.AnnotationWatch // ENABLE METADATA or NOTIFY; nil: nobody asked
	metadata  bool                  // ENABLE METADATA: all changes of annotations are told

	tag      string    // of the command at hand
	progress *progress // nil: it is not one that takes long

	sel  *selected // nil: no mailbox is selected
	push pusher

	notify    *notify // nil: NOTIFY was never given
	listening bool    // the pusher writes though the client does not idle

	held     heldAppends  // APPENDs that are not answered yet
	after    func() error // what the command at hand begins behind its answer
	expunged bool         // the command at hand expunged messages and ends with the new cursor

	closing bool       // LOGOUT, or a hold that died: no further command
	reason  string     // why, for Outcome
	departs *departure // UNAUTHENTICATE

	hiding  *Hiding // from this client; nil: nothing
	client  string  // what ID told
	noticed struct {
		sel    *selected
		idle   bool
		client string
		hiding *Hiding
		packed bool
	}

	idling bool // no deadline, and the pusher writes: Fill must not flush
	idled  call // the IDLE that was not answered yet; its cmd is nil for none
	in     atomic.Int64
	out    int64    // bytes given to the stream; the encoder's owner counts
	packed *packing // nil: nothing is compressed
	dead   deadline
}

// deadline sets the stream's read deadline, which an ended context overrides.
type deadline struct {
	mu    sync.Mutex // guards ended, and the order of calls
	ended bool
}

func newSession(stream Stream, in *Login, opt *Options) *session {
	opt = opt.WithDefaults()
	s := &session{login: in, opt: opt, stream: stream, sep: in.Who.Sep()}
	s.know()
	s.log = opt.Log.With("sess", in.ID, "user", in.Who.User)
	s.prompt, _ = stream.(Prompt)
	s.enc = wire.NewEncoder(output{s})
	if opt.Tap != nil {
		s.enc.Tap = opt.Tap(in.ID)
	}
	hooks := wire.Hooks{Fill: s.fill, Invite: s.invite, Tap: s.enc.Tap}
	hooks.Rest, _ = stream.(wire.Rester)
	hooks.Hurry, _ = stream.(wire.Hurrier)
	s.lex = wire.NewLexer(input{s}, in.Input, wire.Limits{
		Command: opt.Limits.CommandBytes,
		Swallow: opt.Limits.AppendBytes + opt.Limits.CommandBytes,
	}, hooks)
	return s
}

// input and output are the ends of the stream for lexer and encoder.
type input struct{ s *session }

func (i input) Read(p []byte) (int, error) {
	if i.s.packed != nil {
		n, err := i.s.packed.in.Read(p)
		i.s.packed.due = false
		return n, err
	}
	return i.s.read(p)
}

type output struct{ s *session }

func (o output) Write(p []byte) (int, error) {
	if o.s.packed != nil {
		return o.s.packed.write(p)
	}
	return o.s.write(p)
}

// read counts what comes.
func (s *session) read(p []byte) (int, error) {
	n, err := s.stream.Read(p)
	s.in.Add(int64(n))
	return n, err
}

// write counts what goes, and gives each write its time.
func (s *session) write(p []byte) (int, error) {
	if d := s.departs; d != nil {
		d.output = append(d.output, p...)
		return len(p), nil
	}
	if !s.push.gathers {
		if err := s.stream.SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout)); err != nil {
			return 0, err
		}
	}
	n, err := s.stream.Write(p)
	s.out += int64(n)
	return n, err
}

// fill runs before each read that may block: whatever the client waits for goes out.
func (s *session) fill() error {
	if s.packed != nil {
		s.packed.due = true // there may be commands in what was read
		return nil
	}
	return s.ready()
}

// ready is fill where the read may block indeed.
func (s *session) ready() error {
	if s.idling || s.listening {
		return nil
	}
	if err := s.settleFirst(); err != nil {
		return err
	}
	s.readWithin(s.opt.Idle)
	return s.enc.Flush()
}

// readWithin gives the next read its time; 0 is no limit.
func (s *session) readWithin(d time.Duration) {
	s.dead.mu.Lock()
	defer s.dead.mu.Unlock()
	if s.dead.ended {
		return
	}
	var t time.Time
	if d > 0 {
		t = time.Now().Add(d)
	}
	s.stream.SetReadDeadline(t) // an error shows in the Read
}

// interrupt makes reads fail from now on.
func (s *session) interrupt() {
	s.dead.mu.Lock()
	defer s.dead.mu.Unlock()
	s.dead.ended = true
	s.stream.SetReadDeadline(time.Unix(1, 0))
}

// invite asks for a synchronising literal. RFC 9051 section 7.6.
func (s *session) invite() error {
	if len(s.held.list) > 0 {
		if err := s.held.settle(); err != nil {
			return err
		}
	}
	return s.enc.Raw("+ OK\r\n").Flush()
}

// serve is a session from its first command to its last.
func (s *session) serve(ctx context.Context, out *Outcome) (err error) {
	defer s.ended(out, &err)
	out.Reason = s.loop(ctx)
	return nil
}

// ended says how the session ended. Deferred by serve.
func (s *session) ended(out *Outcome, err *error) {
	if p := recover(); p != nil {
		out.Reason, *err = "panic", s.panicked(p)
	} else {
		out.Client = s.login.Client
		if d := s.departs; d != nil && d.done {
			out.Unauthenticated, out.Input, out.Output = true, d.input, d.output
		}
	}
	*err = errors.Join(*err, s.shut())
}

// enter opens the account and answers the command that logged in. out says how it
// ended where that cannot be.
func (s *session) enter(ctx context.Context, st store.Store, out *Outcome) (entered bool, err error) {
	s.acct, err = st.Account(ctx, s.login.Who)
	if err == nil {
		if s.hiding != nil {
			s.notice()
		}
		s.tagged(s.login.Tag, reply{kind: "OK", code: "CAPABILITY " + s.capabilities(), text: "Logged in"})
		return true, nil
	}
	s.tagged(s.login.Tag, s.status(err))
	if ferr := s.enc.Flush(); ferr != nil {
		out.Reason = reasonOf(ferr)
		return false, nil
	}
	out.Unauthenticated, out.Input, out.Reason = true, s.lex.Buffered(), "account cannot be opened"
	return false, err
}

// panicked tells the log and the client of a bug that ends this session, and only it.
func (s *session) panicked(p any) error {
	if s.progress != nil {
		s.progress.stop()
	}
	s.log.Error("session panicked", "event", "panic", "err", p, "stack", string(debug.Stack()))
	s.bye("Internal server error; the administrator's log has it")
	return fmt.Errorf("session panicked: %v", p)
}

// loop runs commands in order until the session ends, and says why it did.
func (s *session) loop(ctx context.Context) string {
	for !s.closing {
		err := s.await(ctx)
		if err == nil {
			err = s.command(ctx)
		}
		if err == nil {
			continue
		}
		s.settle(ctx)
		var bye Goodbye
		switch {
		case s.closing: // while idling
			return s.reason
		case ctx.Err() != nil:
			if !errors.As(context.Cause(ctx), &bye) {
				bye = "Server is shutting down"
			}
		case errors.Is(err, deflate.ErrCorrupt):
			bye = "Commands are not compressed as COMPRESS wants it"
		case errors.Is(err, wire.ErrSwallow):
			bye = "[TOOBIG] Command is too long" // RFC 7888 section 4
		case timedOut(err) && s.enc.Err() == nil:
			bye = "Disconnected for inactivity"
		default:
			return reasonOf(err)
		}
		s.bye(string(bye))
		return string(bye)
	}
	s.settle(ctx)
	if err := s.enc.Flush(); err != nil {
		return reasonOf(err)
	}
	return s.reason
}

// reasonOf names the end of a stream for the log: nearly all are normal.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, wire.ErrShortLiteral):
		return "a message ended before the length that was promised"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return "client closed the connection"
	case timedOut(err):
		return "client does not read"
	}
	return "connection lost: " + err.Error()
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// bye tells the client that the server ends the session. RFC 9051 section 7.1.5.
func (s *session) bye(text string) {
	s.enc.Raw("* BYE ").Raw(text).CRLF()
	s.enc.Flush()
}

// shut gives everything back.
func (s *session) shut() error {
	s.push.stop()
	s.endWatch()
	for _, h := range s.held.list { // of a session that panicked
		h.batch.Close()
	}
	var err error
	if s.annotated != nil {
		s.annotated.Close()
	}
	if s.sel != nil {
		err = s.sel.box.Close()
		s.sel = nil
	}
	return errors.Join(err, s.acct.Close())
}

// command reads one command, runs it, and answers. An error ends the session.
func (s *session) command(ctx context.Context) error {
	if c := s.idled; c.cmd != nil {
		s.idled = call{}
		s.catchUp(ctx)
		ok, err := s.endIdle()
		return s.answer(ctx, c, ok, err)
	}
	var c call
	err := s.parse(ctx, &c)
	ok := ""
	if err == nil && c.cmd.name != "APPEND" {
		if err := s.settleNow(ctx); err != nil {
			return err
		}
	}
	if err == nil {
		asked.Add(1)
		s.tag = c.tag
		begun.Add(1)
		ok, err = c.cmd.run(s, ctx, c)
	}
	if s.idled.cmd != nil || err == errHeld {
		return nil
	}
	return s.answer(ctx, c, ok, err)
}

// answer ends a command, over what it did not read. An error ends the session.
func (s *session) answer(ctx context.Context, c call, ok string, err error) error {
	s.notice()
	if serr := s.settle(ctx); serr != nil {
		return serr
	}
	if serr := s.lex.Skip(); serr != nil {
		return serr
	}
	if s.lex.Err() != nil {
		return s.lex.Err()
	}
	if err := s.enc.Err(); err != nil {
		return err
	}
	return s.finish(ctx, c, ok, err)
}

// finish tells what may be told when a command ends, then gives its tagged answer. An error
// ends the session.
func (s *session) finish(ctx context.Context, c call, ok string, err error) error {
	answer := reply{kind: "OK", text: ok}
	if err != nil {
		answer = s.status(err)
	} else if ok == "" {
		answer.text = c.cmd.name + " completed"
	}
	if c.cmd != nil && answer.kind != "BAD" && !s.closing {
		if err := s.tellChanges(ctx, c.cmd.tell); errors.Is(err, store.ErrReplaced) {
			// RFC 2180 section 3.1 leaves a server the choice; this one is always understood.
			s.closing, s.reason = true, "selected mailbox was deleted or replaced"
			s.enc.Line("BYE Selected mailbox was deleted or replaced; connect again")
			s.tagged(c.tag, answer) // of what was done all the same: an APPEND would be sent again
			return nil
		} else if err != nil {
			s.log.Warn("selected mailbox fails", "event", "mailbox_failed", "mailbox", s.sel.name, "err", err)
		}
		s.tellAnnotated(ctx)
		if c.cmd.tell != tellNothing {
			s.tellNews(ctx)
		}
		if s.notify != nil {
			s.notify.own = nil
		}
		answer = s.guarded(answer)
		if s.qresync && s.sel != nil && !s.sel.noModSeq && s.expunged && answer.kind == "OK" {
			answer = s.withCursor(answer) // RFC 7162 section 3.2.7
		}
	}
	s.expunged = false
	if c.tag == "" {
		c.tag = "*"
	}
	s.tagged(c.tag, answer)
	if after := s.after; after != nil {
		s.after = nil
		return after()
	}
	return nil
}

// parse reads tag and name of a command and finds it in the table.
func (s *session) parse(ctx context.Context, c *call) error {
	tag, err := s.lex.Tag()
	if err != nil {
		return err
	}
	if b, err := s.lex.Peek(); err == nil && (b == ' ' || b == '\r' || b == '\n') {
		c.tag = tag // else it is a part of what was meant as one, and no client waits for it
	}
	if err := s.lex.SP(); err != nil {
		return err
	}
	name, err := s.lex.Keyword()
	if err != nil {
		return err
	}
	if name == "UID" {
		if err := s.lex.SP(); err != nil {
			return err
		}
		sub, err := s.lex.Keyword()
		if err != nil {
			return err
		}
		name += " " + sub
		c.uid = true
	}
	cmd := table[name]
	switch {
	case cmd == nil || name == "UNAUTHENTICATE" && s.hiding.hides(name):
		return bad("Unknown command %s", shown(name))
	case cmd.needs == selectedState && s.sel == nil:
		return bad("%s needs a selected mailbox", name)
	case cmd.needs == nobodyState:
		return bad("%s: already logged in", name)
	case s.uidOnly && numbered[name]:
		return uidRequired(name)
	}
	c.cmd = cmd
	return nil
}

// end reads the end of a command that has no arguments left.
func (s *session) end() error { return s.lex.End() }
