package session

import (
	"strings"

	"roost/message"
	"roost/server/wire"
)

// writeStructure writes the body structure of a scanned message (RFC 9051
// section 7.5.2): BODY, or with extended BODYSTRUCTURE, which always has all of its
// extension fields, for some clients take what misses them as text.
//
// It walks the flat list with a stack of its own: what is nested is the sender's.
func writeStructure(enc *wire.Encoder, parts []message.Part, extended bool) {
	var open []int32 // composite parts whose children are being written
	for at := int32(0); ; {
		p := &parts[at]
		enc.Raw("(")
		if p.Kind == message.Message {
			writeFields(enc, p)
			enc.SP()
			writeEnvelope(enc, parts[p.First].Info.Envelope)
			enc.SP()
		}
		if p.Kind != message.Leaf {
			open = append(open, at)
			at = p.First
			continue
		}
		writeFields(enc, p)
		if strings.EqualFold(p.Info.Type, "text") {
			enc.SP().Number(uint64(p.Lines))
		}
		writeExtension(enc, p, extended)

		// Up to the nearest multipart that has one more child.
		for {
			if len(open) == 0 {
				return
			}
			outer := &parts[open[len(open)-1]]
			if outer.Kind == message.Multipart && parts[at].Next != 0 {
				at = parts[at].Next
				break
			}
			at = open[len(open)-1]
			open = open[:len(open)-1]
			if outer.Kind == message.Message {
				enc.SP().Number(uint64(outer.Lines))
			} else {
				enc.SP().String(outer.Info.Subtype)
			}
			writeExtension(enc, outer, extended)
		}
	}
}

// writeFields writes what all parts have that are not multipart. Text that does
// not name its charset is US-ASCII (RFC 2045 section 5.2).
func writeFields(enc *wire.Encoder, p *message.Part) {
	i := p.Info
	typ, subtype := i.Type, i.Subtype
	if p.Kind == message.Message {
		typ, subtype = p.Type, p.Subtype // some clients know these only in small letters
	}
	enc.String(typ).SP().String(subtype).SP()
	params := i.Params
	if p.Kind == message.Leaf && strings.EqualFold(i.Type, "text") && !hasParam(params, "charset") {
		params = append(params[:len(params):len(params)], message.Param{Name: "charset", Value: "us-ascii"})
	}
	writeParams(enc, params)
	enc.SP()
	writeText(enc, i.ID)
	enc.SP()
	writeText(enc, i.Description)
	enc.SP().String(i.Encoding).SP().Number(uint64(p.Body.Len))
}

func hasParam(params []message.Param, name string) bool {
	for _, p := range params {
		if strings.EqualFold(p.Name, name) {
			return true
		}
	}
	return false
}

// writeExtension writes the extension fields and ends the part.
func writeExtension(enc *wire.Encoder, p *message.Part, extended bool) {
	i := p.Info
	if extended {
		enc.SP()
		if p.Kind == message.Multipart {
			writeParams(enc, i.Params)
		} else {
			writeText(enc, i.MD5)
		}
		enc.SP()
		if i.Disposition.Set {
			enc.Raw("(").String(i.Disposition.Value).SP()
			writeParams(enc, i.DispositionParams)
			enc.Raw(")")
		} else {
			enc.Raw("NIL")
		}
		enc.SP()
		if len(i.Language) == 0 {
			enc.Raw("NIL")
		} else {
			for n, tag := range i.Language {
				if n == 0 {
					enc.Raw("(")
				} else {
					enc.SP()
				}
				enc.String(tag)
			}
			enc.Raw(")")
		}
		enc.SP()
		writeText(enc, i.Location)
	}
	enc.Raw(")")
}

func writeParams(enc *wire.Encoder, params []message.Param) {
	if len(params) == 0 {
		enc.Raw("NIL")
		return
	}
	for n, p := range params {
		if n == 0 {
			enc.Raw("(")
		} else {
			enc.SP()
		}
		enc.String(p.Name).SP().String(p.Value)
	}
	enc.Raw(")")
}
