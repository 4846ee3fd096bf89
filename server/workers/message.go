package workers

import (
	"encoding/json"
	"errors"
	"net/netip"

	"roost/auth"
	"roost/events"
	"roost/server/session"
)

// What the processes say to each other. Each message is one JSON object.

// asked is what the front asks the desk. The desk believes none of it but what it knows
// itself: who logged in is what stands behind the ticket.
type asked struct {
	ID uint64
	Do string // the method of Desk

	At       *attempt       `json:",omitempty"`
	Mech     string         `json:",omitempty"`
	Exchange uint64         `json:",omitempty"`
	Response []byte         `json:",omitempty"`
	None     bool           `json:",omitempty"` // Response is nil and not empty
	User     string         `json:",omitempty"`
	Password string         `json:",omitempty"`
	Ticket   string         `json:",omitempty"`
	Login    *session.Login `json:",omitempty"`
	Seal     []byte         `json:",omitempty"` // of whom it asks about
	N        int            `json:",omitempty"`
	Addr     netip.Addr
}

// proven is what the front learns of a user: of the proof all but the secret.
type proven struct {
	Name, Login string
	Proof       auth.Proof
	Seal        []byte
}

// answered is the desk's answer. A stream, and a link where Linked says so, come with that
// of "enter".
type answered struct {
	ID uint64

	Names     []string       `json:",omitempty"`
	Yes       bool           `json:",omitempty"`
	Exchange  uint64         `json:",omitempty"`
	Challenge []byte         `json:",omitempty"`
	Done      bool           `json:",omitempty"`
	Who       *proven        `json:",omitempty"`
	Ticket    string         `json:",omitempty"`
	Events    []events.Event `json:",omitempty"`
	Changed   bool           `json:",omitempty"` // nobody asked: OnChange
	Locked    []auth.Locked  `json:",omitempty"`
	Worker    uint64         `json:",omitempty"`
	Linked    bool           `json:",omitempty"`

	Refusal *refusal `json:",omitempty"`
	Failed  string   `json:",omitempty"` // another error
}

// attempt is an auth.Attempt without what cannot be sent.
type attempt struct {
	Addr      netip.Addr
	Secure    bool
	Protocol  string
	Client    string
	Exporter  []byte
	EndPoints [][]byte
}

func attemptOf(at auth.Attempt) *attempt {
	return &attempt{at.Addr, at.Secure, at.Protocol, at.Client, at.ExporterValue(), at.EndPoints}
}

func (a *attempt) attempt() auth.Attempt {
	if a == nil {
		return auth.Attempt{}
	}
	return auth.Attempt{Addr: a.Addr.WithZone(""), Secure: a.Secure, Protocol: a.Protocol, Client: a.Client, Exporter: a.Exporter, EndPoints: a.EndPoints}
}

// refusal is an auth.Refusal.
type refusal struct {
	Kind               int    // index of refusals
	Event              string `json:",omitempty"`
	Repeated, Disabled bool   `json:",omitempty"`
	Text, User, Reason string
}

var refusals = []error{auth.ErrUnavailable, auth.ErrDenied, auth.ErrUnauthorized, auth.ErrThrottled, auth.ErrMechanism, auth.ErrMalformed, auth.ErrExpired, auth.ErrNoToken}

// explain puts an error of package auth into an answer.
func (a *answered) explain(err error) {
	var r *auth.Refusal
	if !errors.As(err, &r) {
		r = &auth.Refusal{Err: err}
		if !errors.Is(err, auth.ErrMechanism) {
			a.Failed = err.Error()
			return
		}
	}
	out := &refusal{Text: r.Text, User: r.User, Reason: r.Reason, Event: r.Event, Repeated: r.Repeated, Disabled: r.Disabled}
	for i, known := range refusals {
		if errors.Is(r, known) {
			out.Kind = i
		}
	}
	a.Refusal = out
}

// err is the error that explain was given, or one that says as much.
func (a *answered) err() error {
	switch {
	case a.Refusal != nil:
		kind := auth.ErrUnavailable
		if k := a.Refusal.Kind; k >= 0 && k < len(refusals) {
			kind = refusals[k]
		}
		r := a.Refusal
		return &auth.Refusal{Err: kind, Text: r.Text, User: r.User, Reason: r.Reason, Event: r.Event, Repeated: r.Repeated, Disabled: r.Disabled}
	case a.Failed != "":
		return errors.New(a.Failed)
	}
	return nil
}

// Order is what the desk wants of the parent: a session of a user, or a note to one.
type Order struct {
	ID    uint64 // filled in
	Front uint64 // filled in: the front that asked
	Note  bool   `json:",omitempty"` // the desk itself did

	UID, GID uint32
	Groups   []uint32
	Dirs     []string // where the mail is, and what belongs to it: the worker can open nothing else

	Job json.RawMessage // for the worker, who alone reads it
}

// ordered is the parent's answer; or word of a front that can be served from now on, or with
// Tells of a worker that will tell of deeds: a channel to it comes with that.
type ordered struct {
	ID     uint64
	Front  uint64 `json:",omitempty"`
	Tells  bool   `json:",omitempty"`
	UID    uint32 `json:",omitempty"` // with Tells
	Key    []byte `json:",omitempty"` // with both: of the seals; the next desk has it too
	Worker uint64 `json:",omitempty"`
	Linked bool   `json:",omitempty"`
	Failed string `json:",omitempty"`
}

// toFront is what the parent tells the front: a channel to the desk comes with it, or with
// Issuer one to that.
type toFront struct {
	Desk   uint64 `json:",omitempty"`
	Issuer uint64 `json:",omitempty"`
}

// toWorker is what the parent tells a worker: what it is there for, or a session, whose
// stream comes with it, and a link behind that where Linked says so; or, with Desk, whom to
// tell of deeds: the channel comes with it.
type toWorker struct {
	Begin *Begin          `json:",omitempty"`
	Desk  bool            `json:",omitempty"`
	Job   json.RawMessage `json:",omitempty"`
	Link  bool            `json:",omitempty"`
}

// Begin is the first word to a worker.
type Begin struct {
	Dirs []string
}

// fromWorker is all that the parent hears of one.
type fromWorker struct{ Ended int }

// Job is a session, for a worker; or, with Note, a text for Login.Who.
type Job struct {
	Login    session.Login
	Settings json.RawMessage // what the program made of the configuration
	Note     []byte          `json:",omitempty"`
}

// linked is what goes over a link, both ways: about one session, by its id.
type linked struct {
	ID string

	Bye   *string `json:",omitempty"` // to the worker: end, and tell the client this; "" is a shutdown
	Watch *bool   `json:",omitempty"` // to the worker: tell of the protocol, or no more

	Notice  *session.Activity `json:",omitempty"`
	Seen    *seen             `json:",omitempty"`
	Input   []byte            `json:",omitempty"` // left over, before Outcome
	Outcome *outcome          `json:",omitempty"` // the last word
}

// seen is a call of a wire.Watch.
type seen struct {
	Kind  byte // its first letter: Begin, Command, (command) Literal, Response, (response) Hidden
	Bytes []byte
	N     int64
}

// outcome is a session.Outcome without its input, with the error beside it.
type outcome struct {
	Unauthenticated bool
	Output          []byte
	Client, Reason  string
	In, Out         int64
	Failed          string
}
