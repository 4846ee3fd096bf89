package workers

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"roost/server/session"
)

// What sessions do to mail each worker tells the desk, over a channel of their own that the
// front has no part in: neither can a front that was taken over invent or hold back what
// others did, nor a worker say it of others. As whom a session is let in the desk writes
// down for itself, in a pass (Session, sealed) that the worker sends with each deed: so a
// desk that was started anew knows the sessions of the one before.

// A Session is what the desk knows of one that it has ordered.
type Session struct {
	ID          string // in the log; the front chose it
	User, Login string
	Addr        netip.Addr // the front said so
	UID         uint32     // of its process
}

// told is a deed: all that a worker says to the desk.
type told struct {
	Pass   string
	Client string `json:",omitempty"`
	Deed   session.Brief
}

// clientSize bounds what is told of a client, in bytes.
const clientSize = 512

// What the deeds of one uid may add to a log, and the desk read for it: so much at once, and so
// much a second. Who does more waits, and with it only what that user's own sessions do.
const (
	deedsAtOnce = 4 << 20
	deedsRate   = 64 << 10
)

// allowance is what is left of that. It outlives the worker, which its user may end.
type allowance struct {
	mu   sync.Mutex // guards all below
	left int
	at   time.Time
}

// take takes n bytes and gives how long to wait for them.
func (a *allowance) take(now time.Time, n int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at.IsZero() {
		a.left = deedsAtOnce
	} else if more := now.Sub(a.at).Seconds() * deedsRate; more < deedsAtOnce {
		a.left = min(a.left+int(more), deedsAtOnce)
	} else {
		a.left = deedsAtOnce
	}
	a.at = now
	if a.left -= n; a.left >= 0 {
		return 0
	}
	return time.Duration(float64(-a.left) / deedsRate * float64(time.Second))
}

// passes seals what the desk knows of sessions, by another key than that of logins: the
// front has seals of those.
func passes(key []byte) (seal, error) { return newSeal(keyed(key, []byte("sessions"))) }

// pass makes the pass of a session.
func (s seal) pass(who Session) (string, error) {
	b, err := json.Marshal(who)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(s.wrap(b)), nil
}

// session gives whose pass it is.
func (s seal) session(pass string) (who Session, err error) {
	b, err := hex.DecodeString(pass)
	if err != nil {
		return who, errSeal
	}
	if b, err = s.unwrap(b); err != nil {
		return who, err
	}
	return who, json.Unmarshal(b, &who)
}

// lastWords is how long the desk listens to workers once it was told to end. Where all
// are, they have gone long before.
const lastWords = 3 * time.Second

// hear takes down what the worker of a uid tells, until that ends.
func (d *Desk) hear(ctx context.Context, uid uint32, seals seal, ch *channel) {
	defer ch.close()
	stop := context.AfterFunc(ctx, func() { ch.conn.SetReadDeadline(time.Now().Add(d.listens)) })
	defer stop()
	d.mu.Lock()
	if d.allowed == nil {
		d.allowed = map[uint32]*allowance{}
	}
	left := d.allowed[uid]
	if left == nil {
		left = new(allowance)
		d.allowed[uid] = left
	}
	d.mu.Unlock()
	for {
		var said json.RawMessage
		_, err := ch.receive(&said, 0)
		var t told
		if err == nil {
			err = json.Unmarshal(said, &t)
		}
		var who Session
		if err == nil {
			who, err = d.who(uid, seals, &t)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				d.Log.Warn("what the process of a user tells is not believed, and no more is heard from it", "event", "isolation_worker_told", "uid", uid, "err", err)
			}
			return
		}
		if wait := left.take(d.now(), max(who.size(&t), len(said)-len(t.Pass))); wait > 0 {
			d.pause(wait)
		}
		d.Deed(who, t.Client, t.Deed)
	}
}

// who looks at all that a worker told, and gives of whom.
func (d *Desk) who(uid uint32, seals seal, t *told) (Session, error) {
	who, err := seals.session(t.Pass)
	switch {
	case err != nil:
		return who, err
	case who.UID != uid:
		return who, fmt.Errorf("a session of uid %d", who.UID)
	case len(t.Client) > clientSize:
		return who, errors.New("the name of a client without end")
	}
	return who, t.Deed.Check()
}

// size is what a line takes at most.
func (who *Session) size(t *told) int {
	n := 160 + len(who.ID) + len(t.Deed.UIDs)
	for _, s := range []string{who.User, who.Login, t.Client, t.Deed.Mailbox, t.Deed.To, t.Deed.Flags} {
		n += len(strconv.Quote(s))
	}
	return n
}

// reports is the worker's end: the channel to the desk, and news of the next.
type reports struct {
	mu   sync.Mutex // guards all below
	desk *channel
	next chan struct{} // closed when there is another desk
}

// renew takes the channel to another desk.
func (r *reports) renew(ch *channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.desk != nil {
		r.desk.close()
	}
	if r.desk = ch; r.next != nil {
		close(r.next)
	}
	r.next = make(chan struct{})
}

func (r *reports) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.desk != nil {
		r.desk.close()
	}
}

var errNoDesk = errors.New("nobody takes it down")

// tell tells the desk, or the next one where that has ended. It waits where the desk does
// not read, up to sendTime.
func (r *reports) tell(t told) error {
	late := time.NewTimer(sendTime)
	defer late.Stop()
	for {
		r.mu.Lock()
		ch, next := r.desk, r.next
		r.mu.Unlock()
		if ch != nil && ch.send(t) == nil {
			return nil
		}
		select {
		case <-next:
		case <-late.C:
			return errNoDesk
		}
	}
}

// deed tells the desk what a session of this process did.
func (w *Worker) deed(in *session.Login, client string, d session.Deed) {
	if w.Deeds != nil && !w.Deeds(d) {
		return
	}
	if client = strings.ToValidUTF8(client, "?"); len(client) > clientSize { // JSON would make it longer
		client = strings.ToValidUTF8(client[:clientSize], "")
	}
	if err := w.reports.tell(told{Pass: in.Ticket, Client: client, Deed: d.Brief()}); err != nil {
		w.Log.Error("what was done to mail is not in the audit log", "event", "audit_failed", "sess", in.ID, "err", err)
	}
}
