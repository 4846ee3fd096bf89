package session

import "roost/store"

// Activity is what a session is doing, for an admin who asks who is on.
type Activity struct {
	Mailbox  store.Name // selected; "" for none
	ReadOnly bool
	Idle     bool
	Client   string // what ID told; "" when this session was told nothing
	Rules    string // that mean this client; ClientRule

	Compressed bool // by COMPRESS
}

// notice tells what the session is doing where that has changed.
func (s *session) notice() {
	if s.opt.Notice == nil || s.sel == s.noticed.sel && s.idling == s.noticed.idle && s.client == s.noticed.client && s.hiding == s.noticed.hiding && (s.packed != nil) == s.noticed.packed {
		return
	}
	s.noticed.sel, s.noticed.idle, s.noticed.client, s.noticed.hiding, s.noticed.packed = s.sel, s.idling, s.client, s.hiding, s.packed != nil
	a := Activity{Idle: s.idling, Client: s.client, Compressed: s.packed != nil}
	if s.hiding != nil {
		a.Rules = s.hiding.Rules
	}
	if s.sel != nil {
		a.Mailbox, a.ReadOnly = s.sel.name, s.sel.readOnly
	}
	s.opt.Notice(s.login.ID, a)
}
