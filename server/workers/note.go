package workers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"roost/auth"
	"roost/server/session"
)

// A note to a user is mail that the server itself writes. The desk, which hears of events,
// writes the text and may write into no mailbox: it orders the user's worker, as for a
// session, with the text for a job; that puts it into the INBOX and answers by the stream
// whether it could. The front has no part in it.

const (
	noteSize   = 16 << 10 // bytes of a note
	answerSize = 512      // bytes of why there is none
	noteTaken  = "ok"
)

// Note puts a text into a user's INBOX by that user's worker. It takes as long as ctx at
// most, whatever the worker does.
func (d *Desk) Note(ctx context.Context, u auth.User, text []byte) error {
	if len(text) > noteSize {
		return fmt.Errorf("a note of %d bytes", len(text))
	}
	o, who, settings, err := d.Place(ctx, u)
	if err != nil {
		return err
	}
	o.Note = true
	if o.Job, err = jobFor(session.Login{Who: who}, settings, text); err != nil {
		return err
	}
	p, err := d.order(ctx, o)
	if err != nil {
		return err
	}
	if len(p.files) != 1 {
		closeAll(p.files)
		return errors.New("an answer without its stream")
	}
	conn, err := socket(p.files[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := io.ReadAll(io.LimitReader(conn, answerSize))
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the process of uid %d does not answer: %w", o.UID, context.Cause(ctx))
	case err != nil:
		return err
	case len(answer) == 0:
		return fmt.Errorf("the process of uid %d ended", o.UID)
	case string(answer) != noteTaken:
		return fmt.Errorf("the process of uid %d says: %q", o.UID, answer)
	}
	return nil
}

// note does a job that is no session. A bug in it ends that alone.
func (w *Worker) note(ctx context.Context, s *stream, job *Job) {
	defer s.Close()
	answer := noteTaken
	if err := w.deliver(ctx, job); err != nil {
		w.Log.Error("a note is not delivered", "event", "note_failed", "err", err)
		answer = strings.ToValidUTF8(err.Error(), "?")
		answer = answer[:min(len(answer), answerSize)]
	}
	s.SetWriteDeadline(time.Now().Add(sendTime))
	io.WriteString(s, answer) // a desk that is gone does not want to know
}

func (w *Worker) deliver(ctx context.Context, job *Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("delivery of a note panicked", "event", "panic", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errors.New("the delivery panicked")
		}
	}()
	return w.Deliver(ctx, w.store, job.Login.Who, job.Note)
}
