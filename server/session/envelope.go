package session

import (
	"roost/message"
	"roost/server/wire"
)

// writeEnvelope writes an envelope structure (RFC 9051 section 7.5.2). Texts that hold
// bytes above 127 are literals, which every client may be sent.
func writeEnvelope(enc *wire.Encoder, e *message.Envelope) {
	if e == nil {
		e = new(message.Envelope)
	}
	enc.Raw("(")
	writeText(enc, e.Date)
	enc.SP()
	writeText(enc, e.Subject)
	for _, list := range [][]message.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		enc.SP()
		writeAddresses(enc, list)
	}
	enc.SP()
	writeText(enc, e.InReplyTo)
	enc.SP()
	writeText(enc, e.MessageID)
	enc.Raw(")")
}

func writeText(enc *wire.Encoder, t message.Text) { enc.NString(t.Value, t.Set) }

// writeAddresses writes the addresses with nothing between them, which is what
// the grammar says (RFC 9051 section 9, env-from) and older clients insist on.
func writeAddresses(enc *wire.Encoder, list []message.Address) {
	if len(list) == 0 {
		enc.Raw("NIL")
		return
	}
	enc.Raw("(")
	for _, a := range list {
		enc.Raw("(")
		enc.NString(a.Name, a.Name != "").SP().NString(a.Route, a.Route != "").SP()
		enc.NString(a.Mailbox, a.Kind != message.GroupEnd).SP()
		enc.NString(a.Host, a.Kind == message.Single)
		enc.Raw(")")
	}
	enc.Raw(")")
}
