package workers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"roost/server/session"
	"roost/server/wire"
)

// conn is a client's connection: that of server.Runner.
type conn = net.Conn

// visit is one session at the front: bytes go from client to worker by the goroutine that
// serves the connection, and back by another.
type visit struct {
	client  conn
	worker  *stream
	link    *workerLink
	in      *session.Login
	tap     *wire.Tap
	timeout time.Duration
	silence time.Duration // of a worker whose client is gone, or that was told to end

	outcome    chan *outcome // one, or closed where none will come
	input      []byte        // of the link's goroutine until outcome
	compressed atomic.Bool
	leaving    atomic.Bool // the client says no more, or was told to go
}

// enter finds a worker for a login.
func (f *Front) enter(ctx context.Context, client conn, in *session.Login) (*visit, error) {
	r := f.ask(ctx, asked{Do: "enter", Ticket: in.Ticket, Login: in})
	if r.err != nil {
		return nil, r.err
	}
	defer func() { closeAll(r.files) }()
	if len(r.files) == 0 || r.Linked != (len(r.files) == 2) {
		return nil, errors.New("an answer without its streams")
	}
	v := &visit{client: client, in: in, outcome: make(chan *outcome, 1), timeout: f.opt.WriteTimeout, silence: longestSilence, tap: new(wire.Tap)}
	if f.opt.Tap != nil {
		if t := f.opt.Tap(in.ID); t != nil {
			v.tap = t
		}
	}
	var fresh *os.File
	if r.Linked {
		fresh, r.files = r.files[1], r.files[:1]
	}
	var err error
	if v.link, err = f.linkTo(ctx, r.Worker, fresh); err != nil {
		return nil, err
	}
	sock, err := socket(r.files[0])
	r.files = nil
	if err != nil {
		return nil, err
	}
	if v.worker, err = newStream(sock); err != nil {
		return nil, err
	}
	v.link.mu.Lock()
	lost := v.link.lost
	if !lost {
		v.link.sessions[in.ID] = v
	}
	v.link.mu.Unlock()
	if lost {
		v.worker.Close()
		return nil, errLost
	}
	return v, nil
}

// carry passes bytes on until the session is over.
func (v *visit) carry(ctx context.Context) (*session.Outcome, error) {
	defer v.worker.Close()
	// A goodbye goes beside the bytes: behind them it could wait for long.
	stop := context.AfterFunc(ctx, func() {
		text := ""
		var goodbye session.Goodbye
		if errors.As(context.Cause(ctx), &goodbye) {
			text = string(goodbye)
		}
		go v.link.tell(linked{ID: v.in.ID, Bye: &text}) // ends with the link, if not before
		v.leave()
	})
	defer stop()
	v.tap.Follow(func(on bool) { v.link.post(linked{ID: v.in.ID, Watch: &on}) })
	defer v.tap.Follow(nil)

	var back sync.WaitGroup
	var failed atomic.Bool // of the client's side
	// Ends when the worker has closed its side, or the client takes no more.
	back.Go(func() {
		if err := v.toClient(); err != nil {
			failed.Store(true)
			v.worker.Close() // the worker finds out by its next read or write
		}
		v.client.SetReadDeadline(time.Unix(1, 0)) // ends toWorker
	})
	v.toWorker()
	v.leave()
	back.Wait()
	v.worker.Close()
	late := time.NewTimer(v.silence)
	defer late.Stop()
	var out *outcome
	select {
	case out = <-v.outcome:
	case <-late.C:
		v.link.mu.Lock()
		delete(v.link.sessions, v.in.ID)
		v.link.mu.Unlock()
		return &session.Outcome{Reason: "the worker does not answer"}, fmt.Errorf("the process of user %s does not answer", v.in.Who.User)
	}
	v.client.SetDeadline(time.Time{})
	if out == nil {
		return v.crashed(failed.Load())
	}
	o := &session.Outcome{Unauthenticated: out.Unauthenticated, Input: v.input, Output: out.Output, Client: out.Client, Reason: out.Reason, In: out.In, Out: out.Out}
	if out.Failed != "" {
		return o, errors.New(out.Failed)
	}
	return o, nil
}

// longestSilence is what a command may take that nobody waits for any more. A worker may
// have been stopped by its user.
const longestSilence = 10 * time.Minute

// leave bounds the silence of the worker from now on.
func (v *visit) leave() {
	v.leaving.Store(true)
	v.worker.SetReadDeadline(time.Now().Add(v.silence))
}

// crashed is the end of a session whose worker is gone without a word.
func (v *visit) crashed(deaf bool) (*session.Outcome, error) {
	if !deaf {
		bye := []byte("* BYE [SERVERBUG] The process that had your mail open is gone; log in again\r\n")
		if v.compressed.Load() {
			bye = stored(bye)
		}
		v.client.SetWriteDeadline(time.Now().Add(time.Second))
		v.client.Write(bye)
	}
	return &session.Outcome{Reason: "the worker is gone"}, fmt.Errorf("the process of user %s ended", v.in.Who.User)
}

// stored makes text a block of DEFLATE that is not compressed: what came before ended at a
// byte (RFC 1951 section 3.2.4).
func stored(text []byte) []byte {
	b := []byte{1}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(text)))
	return append(b, text...)
}

// What is passed on at once. A buffer is held only while there is something in it.
var up, down = buffers(8 << 10), buffers(64 << 10)

func buffers(n int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, n); return &b }}
}

// toWorker passes on what the client says, until it says no more, or the worker listens no
// more: then what was not passed on yet stays in the client's connection.
func (v *visit) toWorker() {
	rests, _ := v.client.(wire.Rester)
	for {
		if rests != nil {
			if err := rests.Rest(); err != nil {
				break
			}
		}
		if err := v.pass(v.worker, v.client, up); err != nil {
			break
		}
	}
	v.worker.CloseWrite()
}

// toClient passes on what the session says; nil when it has said all.
func (v *visit) toClient() error {
	for {
		if err := v.worker.Rest(); err != nil {
			return nil // closed here, or interrupted
		}
		buf := down.Get().(*[]byte)
		n, err := v.worker.Read(*buf)
		if n > 0 {
			if v.leaving.Load() {
				v.leave()
			}
			v.client.SetWriteDeadline(time.Now().Add(v.timeout))
			_, werr := v.client.Write((*buf)[:n])
			down.Put(buf)
			if werr != nil {
				return werr
			}
			continue
		}
		down.Put(buf)
		if err != nil {
			return nil
		}
	}
}

// pass reads once and writes all of it.
func (v *visit) pass(to io.Writer, from io.Reader, pool *sync.Pool) error {
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	n, err := from.Read(*buf)
	if n > 0 {
		if _, err := to.Write((*buf)[:n]); err != nil {
			return err
		}
	}
	return err
}

// stream is one end of the socket between front and worker: a session.Stream that can rest.
type stream struct {
	*net.UnixConn
	raw   syscall.RawConn
	ready func(fd uintptr) bool
}

func newStream(c *net.UnixConn) (*stream, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &stream{c, raw, readable}, nil
}

// Rest waits until there is something to be read, with no buffer in hand.
func (s *stream) Rest() error { return s.raw.Read(s.ready) }

// Ready tells whether a Read would not block.
func (s *stream) Ready() (yes bool) {
	err := s.raw.Control(func(fd uintptr) { yes = readable(fd) })
	return err == nil && yes
}

// readable looks whether a read would block, without reading.
func readable(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		return err != unix.EAGAIN
	}
}

var _ session.Stream = (*stream)(nil)
