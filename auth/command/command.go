// Package command asks a program of the administrator's who a user is: the way to SQL and
// to whatever else keeps users. docs/auth-command.md has the protocol: one line of JSON
// each way.
//
// A pool of processes is started as it is needed, each of which answers one request at a
// time and lives on. A process that does not answer in time, writes what is no answer, or
// ends, is killed and replaced; its login is refused for now. Passwords go through its
// standard input and are nowhere else.
package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"roost/auth"
)

const (
	maxAnswer = 64 << 10 // bytes of a line, but for the list of users
	maxList   = 64 << 20 // bytes of that one
	maxNotes  = 100      // lines that a process may write to the log
	maxNote   = 1024     // bytes of one of them
	pause     = time.Second
)

// Options say what is run.
type Options struct {
	Args      []string      // the program, absolute, and its arguments
	Processes int           // at one time at most; 0 is 4
	Timeout   time.Duration // for an answer, the wait for a free process included; 0 is 5 s
	Log       *slog.Logger  // nil: slog.Default()
}

// Source asks a program. Safe for concurrent use.
type Source struct {
	opt  Options
	idle chan *process // all that may be: those that were not started too
	all  sync.Mutex    // held by who takes every process there is
	last atomic.Pointer[auth.Hash]
}

// Open makes a source; its processes are started by the first logins.
func Open(opt Options) *Source {
	if opt.Processes <= 0 {
		opt.Processes = 4
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	s := &Source{opt: opt, idle: make(chan *process, opt.Processes)}
	for range opt.Processes {
		s.idle <- &process{source: s}
	}
	return s
}

// Name names the program.
func (s *Source) Name() string { return "command " + s.opt.Args[0] }

// Dummy is a hash like that which the program gave last.
func (s *Source) Dummy() (auth.Hash, bool) {
	if h := s.last.Load(); h != nil {
		return *h, true
	}
	return auth.Hash{}, false
}

// Reload replaces the processes: they may have read a configuration of their own.
func (s *Source) Reload() error {
	s.each(func(p *process) { p.stop() })
	return nil
}

// Close ends the processes and waits for them. No call may follow.
func (s *Source) Close() error {
	s.each(func(p *process) { p.stop() })
	return nil
}

// each has all processes to itself, one after the other.
func (s *Source) each(fn func(*process)) {
	s.all.Lock()
	defer s.all.Unlock()
	var all []*process
	for range s.opt.Processes {
		p := <-s.idle // a request ends within its time
		fn(p)
		all = append(all, p)
	}
	for _, p := range all {
		s.idle <- p
	}
}

// request is a line that the program reads.
type request struct {
	Op       string  `json:"op"`
	User     string  `json:"user,omitempty"`
	Password *string `json:"password,omitempty"`
	Service  string  `json:"service,omitempty"`
	Addr     string  `json:"addr,omitempty"`
}

// answer is a line that the program writes.
type answer struct {
	Found  *bool             `json:"found"`
	Right  *bool             `json:"right"`
	Check  bool              `json:"check"`
	Hash   string            `json:"hash"`
	Fields map[string]string `json:"fields"`
	Users  []string          `json:"users"`
	Error  string            `json:"error"`
}

// Find asks for a user.
func (s *Source) Find(ctx context.Context, login string, at auth.Attempt) (*auth.Account, error) {
	ans, err := s.ask(ctx, ask("user", login, nil, at), maxAnswer)
	switch {
	case err != nil:
		return nil, err
	case ans.Found == nil:
		return nil, errors.New(`the answer says neither "found": true nor false`)
	case !*ans.Found:
		return nil, nil
	}
	acc := &auth.Account{Version: version(ans)}
	acc.Notes = acc.Describe(login, ans.Fields, at)
	switch {
	case ans.Check:
		acc.Check = func(ctx context.Context, password string) (auth.Verdict, *auth.Account, error) {
			return s.check(ctx, login, password, at)
		}
	case ans.Hash == "":
		acc.Hash = auth.Hash{Locked: true}
		if acc.Refused == "" {
			acc.Refused, acc.NoPassword = "has no password", true
		}
	default:
		h, err := auth.ParseHash(ans.Hash)
		if err != nil {
			h = auth.Hash{Locked: true}
			acc.Refused = err.Error()
		} else if !h.Locked {
			s.last.Store(&h)
		}
		acc.Hash = h
		if h.Locked && acc.Refused == "" {
			acc.Refused = auth.DisabledUser
		}
	}
	return acc, nil
}

// version tells answers about a user apart.
func version(ans *answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %q", ans.Check, ans.Hash)
	for _, k := range slices.Sorted(maps.Keys(ans.Fields)) {
		fmt.Fprintf(&b, " %q=%q", k, ans.Fields[k])
	}
	return b.String()
}

// check asks for a password.
func (s *Source) check(ctx context.Context, login, password string, at auth.Attempt) (auth.Verdict, *auth.Account, error) {
	if !utf8.ValidString(password) {
		return auth.Wrong, nil, nil // JSON would make another password of it
	}
	ans, err := s.ask(ctx, ask("password", login, &password, at), maxAnswer)
	switch {
	case err != nil:
		return auth.Wrong, nil, err
	case ans.Right == nil:
		return auth.Wrong, nil, errors.New(`the answer says neither "right": true nor false`)
	case !*ans.Right:
		return auth.Wrong, nil, nil
	case ans.Fields == nil:
		return auth.Right, nil, nil
	}
	acc := &auth.Account{}
	acc.Notes = acc.Describe(login, ans.Fields, at)
	return auth.Right, acc, nil
}

// Users asks for all users.
func (s *Source) Users(ctx context.Context) ([]string, error) {
	ans, err := s.ask(ctx, request{Op: "list"}, maxList)
	switch {
	case err != nil:
		return nil, err
	case ans.Users == nil:
		return nil, auth.ErrUnlisted
	}
	return ans.Users, nil
}

func ask(op, login string, password *string, at auth.Attempt) request {
	r := request{Op: op, User: login, Password: password, Service: at.Protocol}
	if at.Addr.IsValid() {
		r.Addr = at.Addr.Unmap().String()
	}
	return r
}

// ask has a free process answer.
func (s *Source) ask(ctx context.Context, r request, most int) (*answer, error) {
	text, err := json.Marshal(r) // #nosec G117 -- the program is asked whether it is right
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.opt.Timeout, fmt.Errorf("no answer within %v", s.opt.Timeout))
	defer cancel()
	var p *process
	select {
	case p = <-s.idle:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { s.idle <- p }()
	got, err := p.ask(ctx, append(text, '\n'), most)
	if err != nil {
		return nil, err
	}
	ans := &answer{}
	if err := json.Unmarshal(got, ans); err != nil {
		p.fail()
		return nil, errors.New("the answer is not the JSON of docs/auth-command.md") // the error could show a part of it
	}
	if ans.Error != "" {
		return nil, fmt.Errorf("it says: %.200q", ans.Error)
	}
	return ans, nil
}

// process is one place of the pool, with a process or without. One user at a time.
type process struct {
	source *Source
	cmd    *exec.Cmd // nil: none runs
	in     io.WriteCloser
	out    *bufio.Reader
	notes  sync.WaitGroup // who reads its standard error
	after  time.Time      // when it may be started again
}

// ask writes a line and reads one. When that fails, or ctx ends first, the process is gone.
func (p *process) ask(ctx context.Context, line []byte, most int) ([]byte, error) {
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	// Killing it ends the write and the read.
	pid := p.cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() { syscall.Kill(-pid, syscall.SIGKILL) })
	got, err := p.exchange(line, most)
	if !stop() { // it is killed, or about to be
		p.fail()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		p.fail()
		return nil, fmt.Errorf("its process failed: %w", err)
	}
	return got, nil
}

func (p *process) exchange(line []byte, most int) ([]byte, error) {
	if p.out.Buffered() > 0 {
		return nil, errors.New("it wrote more than was asked for")
	}
	if _, err := p.in.Write(line); err != nil {
		return nil, err
	}
	var got []byte
	for {
		part, err := p.out.ReadSlice('\n')
		if got = append(got, part...); len(got) > most {
			return nil, fmt.Errorf("an answer of more than %d bytes", most)
		}
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("it ended without an answer")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// start runs a process where none runs. One that failed is not replaced at once: a program
// that cannot run would be started by every login.
func (p *process) start(ctx context.Context) error {
	if p.cmd != nil {
		return nil
	}
	if d := time.Until(p.after); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	args := p.source.opt.Args
	cmd := exec.Command(args[0], args[1:]...) // #nosec G204 -- the configuration names it
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that what it starts ends with it
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	notes, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		p.after = time.Now().Add(pause)
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return fmt.Errorf("it cannot be run: %w", err)
	}
	p.cmd, p.in, p.out = cmd, in, bufio.NewReader(out)
	p.notes.Go(func() { p.source.note(notes) }) // ends with the process
	return nil
}

// note logs what a process writes to its standard error, up to a bound, and reads the rest.
func (s *Source) note(from io.Reader) {
	r := bufio.NewReaderSize(from, maxNote)
	for n := 0; ; {
		text, cut, err := r.ReadLine()
		if err != nil {
			return
		}
		if n++; n <= maxNotes {
			s.opt.Log.Warn("the command for users says", "event", "auth_command", "command", s.opt.Args[0], "text", string(text))
		}
		for cut && err == nil {
			_, cut, err = r.ReadLine()
		}
	}
}

// fail kills the process; another is started a moment later.
func (p *process) fail() {
	if p.cmd == nil {
		return
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.wait()
	p.after = time.Now().Add(pause)
}

// stop lets the process end by itself: its standard input does.
func (p *process) stop() {
	if p.cmd == nil {
		return
	}
	p.in.Close()
	t := time.AfterFunc(p.source.opt.Timeout, func() { syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) })
	p.notes.Wait() // its standard error ends with it
	t.Stop()
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	p.wait()
}

func (p *process) wait() {
	p.in.Close()
	p.notes.Wait()
	if err := p.cmd.Wait(); err != nil && !strings.Contains(err.Error(), "signal: killed") {
		p.source.opt.Log.Warn("the command for users ended", "event", "auth_command", "command", p.source.opt.Args[0], "err", err)
	}
	p.cmd = nil
}
