package control

import "time"

// Request is a question.
type Request struct {
	Do string `json:"do"` // "status", "who", "kick", "trace", "locked", "unlock", "events"

	User    string `json:"user,omitempty"`    // kick, trace: whose sessions; unlock: a user, an address or a network
	Session string `json:"session,omitempty"` // kick: one session by its id

	// Of a trace: when it ends by itself. 0 is the server's own bound, and more than
	// that is that.
	Seconds int `json:"seconds,omitempty"`
	Lines   int `json:"lines,omitempty"`

	// By is who asks, as the kernel says; the server fills it in.
	By int `json:"-"`
}

// Reply is a piece of an answer: one of its fields is set.
type Reply struct {
	Status  *Status  `json:"status,omitempty"`
	Session *Session `json:"session,omitempty"` // who, kick
	Line    *Line    `json:"line,omitempty"`    // trace
	Locked  *Locked  `json:"locked,omitempty"`  // locked, unlock
	Event   *Event   `json:"event,omitempty"`   // events

	Error string `json:"error,omitempty"` // the question cannot be answered
	Done  string `json:"done,omitempty"`  // the answer is whole; a word about it
}

// Status is what a server says of itself.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	UID     int       `json:"uid"`
	GID     int       `json:"gid"`
	Started time.Time `json:"started"`
	Config  string    `json:"config"`            // its file
	Read    time.Time `json:"read"`              // when the configuration in force was read
	Restart []string  `json:"restart,omitempty"` // keys whose new values wait for a restart
	Listen  []string  `json:"listen"`            // addresses

	Connections int `json:"connections"` // open ones
	Sessions    int `json:"sessions"`    // of them, those that are logged in
}

// Session is a connection.
type Session struct {
	ID        string    `json:"id"`
	User      string    `json:"user,omitempty"` // "" before login
	Login     string    `json:"login,omitempty"`
	Addr      string    `json:"addr"`
	Proxy     string    `json:"proxy,omitempty"` // the address that speaks for it
	Connected time.Time `json:"connected"`
	Since     time.Time `json:"since,omitzero"` // the login

	State    string `json:"state"` // "not logged in", "authenticated", "selected", "idle"
	Mailbox  string `json:"mailbox,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`

	Heard  time.Time `json:"heard,omitzero"` // when the client said something last
	TLS    string    `json:"tls,omitempty"`  // "TLS 1.3"; "" in the clear
	Client string    `json:"client,omitempty"`
	Rules  string    `json:"rules,omitempty"` // [[client]] that mean it, by name
	In     int64     `json:"in"`              // bytes since the login, behind TLS
	Out    int64     `json:"out"`
}

// Locked is somebody of whom failed logins are counted.
type Locked struct {
	What     string    `json:"what"`              // "address 192.0.2.7", "user ann from 192.0.2.7", "network 192.0.2.0/24", "user ann"
	User     string    `json:"user,omitempty"`    // as it was sent
	Network  string    `json:"network,omitempty"` // "192.0.2.7/32"
	Failures int       `json:"failures"`          // that are not forgiven
	Last     time.Time `json:"last"`              // when one was counted or forgiven last
	Until    time.Time `json:"until,omitzero"`    // not locked without, only slowed down
	Locks    int       `json:"locks,omitempty"`   // how often lately
}

// Event is something unusual that happened.
type Event struct {
	Time   time.Time `json:"time"`
	Name   string    `json:"event"`
	User   string    `json:"user,omitempty"`
	Addr   string    `json:"addr,omitempty"`
	Client string    `json:"client,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Line is a line of a trace.
type Line struct {
	Time    time.Time `json:"time"`
	Session string    `json:"session"`
	User    string    `json:"user,omitempty"`
	Addr    string    `json:"addr,omitempty"`
	From    string    `json:"from"` // "C" the client, "S" the server, "-" what happened
	Text    string    `json:"text"`

	// Dropped lines would have stood before this one: they were not read in time.
	Dropped int `json:"dropped,omitempty"`
}
