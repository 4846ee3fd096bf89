package control

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"roost/unixsocket"
)

const (
	questions    = 8       // at one time
	questionSize = 4 << 10 // bytes
	questionTime = 5 * time.Second
	answerTime   = 10 * time.Minute // that an asker has to take one Reply: a terminal may be held
)

// A Handler answers a question by calls of send and returns what Done says. An error of
// send is final: the asker is gone, and ctx ends too. It is called from several
// goroutines.
type Handler func(ctx context.Context, q Request, send func(Reply) error) (done string, err error)

// Serve answers until ctx ends. On return the socket is closed and no goroutine is
// left. The error is that of the socket; nil when ctx ended.
func (l *Listener) Serve(ctx context.Context, handle Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	free := make(chan struct{}, questions)
	for {
		c, uid, err := l.accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			l.Close()
			return fmt.Errorf("control socket %s: %w", l.path, unixsocket.Plain(err))
		}
		select {
		case free <- struct{}{}:
			// Ends with the connection, which ends with ctx.
			wg.Go(func() {
				answer(ctx, c, uid, handle)
				<-free
			})
		default:
			c.SetWriteDeadline(time.Now().Add(time.Second))
			json.NewEncoder(c).Encode(Reply{Error: fmt.Sprintf("%d others ask already; try again", questions)})
			c.Close()
		}
	}
}

// answer carries one connection.
func answer(ctx context.Context, c *net.UnixConn, uid int, handle Handler) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.Close()
	// Interrupts reads and writes.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	enc := json.NewEncoder(c)
	send := func(r Reply) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.SetWriteDeadline(time.Now().Add(answerTime))
		if ctx.Err() != nil { // it ended between the look and the deadline, which must not outlive it
			c.SetWriteDeadline(time.Unix(1, 0))
		}
		err := enc.Encode(r)
		if err != nil {
			cancel()
		}
		return err
	}
	c.SetReadDeadline(time.Now().Add(questionTime))
	q, err := readRequest(c)
	if err != nil {
		send(Reply{Error: err.Error()})
		return
	}
	q.By = uid
	c.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() { // ends when the asker goes, or with c
		io.Copy(io.Discard, c)
		if hungUp(c) {
			cancel()
		}
		close(gone)
	}()
	done, err := handle(ctx, q, send)
	if err != nil {
		send(Reply{Error: err.Error()})
	} else {
		send(Reply{Done: cmp.Or(done, "done")})
	}
	c.Close()
	<-gone
}

// hungUp tells an asker who is gone from one who only has nothing more to say.
func hungUp(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	fds := []unix.PollFd{{}}
	err = onDescriptor(raw, func(fd int) error {
		fds[0].Fd = int32(fd)
		_, err := unix.Poll(fds, 0)
		return err
	})
	return err != nil || fds[0].Revents&unix.POLLHUP != 0
}

func readRequest(c io.Reader) (q Request, err error) {
	line, err := bufio.NewReaderSize(c, questionSize).ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return q, fmt.Errorf("a question is at most %d bytes", questionSize)
	case err != nil:
		return q, errors.New("no question came: one line of JSON is expected")
	}
	if err := json.Unmarshal(line, &q); err != nil {
		return q, fmt.Errorf("this is no question: %v", err)
	}
	return q, nil
}
