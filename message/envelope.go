package message

import "strings"

// Envelope is what a message's header says of it, as ENVELOPE shows it (RFC 9051
// section 7.5.2): texts as they were written, unfolded and not decoded. Repeated
// address fields are joined; of other repeated fields the last counts. A list of
// addresses ends at MaxAddresses.
type Envelope struct {
	Date, Subject, InReplyTo, MessageID Text

	From, Sender, ReplyTo, To, Cc, Bcc []Address
}

// ParseEnvelope reads a header. Sender and ReplyTo are those of From where the
// header has none.
func ParseEnvelope(header []byte) *Envelope {
	e := new(Envelope)
	for f := range Fields(header) {
		if len(f.Name) > len("in-reply-to") {
			continue
		}
		switch strings.ToLower(string(f.Name)) {
		case "date":
			e.Date = Text{f.Text(), true}
		case "subject":
			e.Subject = Text{f.Text(), true}
		case "in-reply-to":
			e.InReplyTo = Text{f.Text(), true}
		case "message-id":
			e.MessageID = Text{f.Text(), true}
		case "from":
			e.From = appendAddresses(e.From, f.Value)
		case "sender":
			e.Sender = appendAddresses(e.Sender, f.Value)
		case "reply-to":
			e.ReplyTo = appendAddresses(e.ReplyTo, f.Value)
		case "to":
			e.To = appendAddresses(e.To, f.Value)
		case "cc":
			e.Cc = appendAddresses(e.Cc, f.Value)
		case "bcc":
			e.Bcc = appendAddresses(e.Bcc, f.Value)
		}
	}
	if len(e.Sender) == 0 {
		e.Sender = e.From
	}
	if len(e.ReplyTo) == 0 {
		e.ReplyTo = e.From
	}
	return e
}
