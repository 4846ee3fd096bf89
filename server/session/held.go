package session

import (
	"context"
	"errors"

	"roost/server/wire"
	"roost/store"
)

// APPENDs that a client sends without waiting for the answers share what makes them durable.
// One that was read whole is held while the next is already there, and all that are held are
// committed and answered together, in order: before a read that may block, before any other
// command, and before one that fails is answered.

// heldAppend is an APPEND that is still to be committed and answered.
type heldAppend struct {
	c     call
	to    spelled
	batch store.Batch
}

// heldAppends are the APPENDs of a session that are held.
type heldAppends struct {
	list     []heldAppend
	messages int
	bytes    int64
	settle   func() error // session.settleNow with the context of these commands
}

// What is held at most: so many files are open, and so much is read before an answer comes.
const (
	maxHeldMessages = 64
	maxHeldBytes    = 4 << 20
)

// errHeld is how an APPEND ends that settle answers.
var errHeld = errors.New("held")

// errSettled is why a session that settle closed reads no more.
var errSettled = errors.New("the session is closed")

// readier is a Stream that can tell, between two Reads, that the next would not block.
type readier interface{ Ready() bool }

// holds tells whether an APPEND to a mailbox, with so much in it, may be one of those that
// are held. Under a quota each message counts before the next is let in.
func (s *session) holds(to spelled, messages int, bytes int64) bool {
	quota := s.login.Who.Quota
	held := s.held.list
	return quota.Messages == 0 && quota.Bytes == 0 && (len(held) == 0 || held[0].to.name == to.name) &&
		s.held.messages+messages <= maxHeldMessages && s.held.bytes+bytes <= maxHeldBytes
}

// hold ends an APPEND that was read whole, with errHeld where its answer is settle's.
func (s *session) hold(ctx context.Context, h heldAppend, messages int, bytes int64) error {
	last := !s.holds(h.to, messages, bytes)
	s.held.list = append(s.held.list, h)
	s.held.messages += messages
	s.held.bytes += bytes
	s.held.settle = func() error { return s.settleNow(ctx) }
	if last {
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	return errHeld
}

// settle commits and answers what is held. An error ends the session.
func (s *session) settle(ctx context.Context) error {
	list := s.held.list
	if len(list) == 0 {
		return nil
	}
	s.held = heldAppends{}
	defer func(tag string) {
		s.tag = tag
		for _, h := range list {
			h.batch.Close()
		}
	}(s.tag)
	s.tag = list[0].c.tag
	batches := make([]store.Batch, len(list))
	for i, h := range list {
		batches[i] = h.batch
	}
	progress := s.waiting()
	done := s.acct.Commit(ctx, batches...)
	progress.stop()
	for i, h := range list {
		if done[i].Err == nil {
			s.addedOwn(h.to.name, done[i].Copied)
		}
	}
	for i, h := range list {
		ok, err := "", toTarget(done[i].Err)
		if err == nil {
			s.writeOldName(h.to)
			if code := appendedCode(done[i].Copied); code != "" {
				ok = okCode(code, "Message saved")
			}
		}
		if err := s.finish(ctx, h.c, ok, err); err != nil {
			return err
		}
	}
	return s.enc.Err()
}

// settleNow is settle where a session that it closes is not to go on.
func (s *session) settleNow(ctx context.Context) error {
	err := s.settle(ctx)
	if err == nil && s.closing {
		err = errors.Join(s.enc.Flush(), errSettled)
	}
	return err
}

// settleFirst is settle before a read that may block, in the midst of a command.
func (s *session) settleFirst() error {
	if len(s.held.list) == 0 {
		return nil
	}
	if r, ok := s.stream.(readier); ok && r.Ready() {
		return nil
	}
	return s.held.settle()
}

// appendedCode is the code that tells where messages are; "" where there are none.
func appendedCode(c store.Copied) string {
	if len(c.To) == 0 {
		return ""
	}
	return string(wire.AppendSet([]byte("APPENDUID "+uintText(c.UIDValidity)+" "), c.To))
}
