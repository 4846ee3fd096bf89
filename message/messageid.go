package message

import "iter"

// MessageIDs yields the msg-ids of a Message-ID, References or In-Reply-To field, without
// their angle brackets and in one form, whatever was quoted (RFC 5256 section 3): two that
// name the same message are equal strings. What stands between them, and what is no
// msg-id (RFC 5322 section 3.6.4), is passed over; white space inside, which breaking of long
// lines leaves, is not part of one.
func MessageIDs(value []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		var id []byte
		open, at := false, 0 // at: where the @ stands in id; 0 none yet
		for i := 0; i < len(value); i++ {
			c := value[i]
			switch {
			case c == '<':
				open, at, id = true, 0, id[:0]
			case !open:
			case c == '>':
				if at > 0 && at < len(id)-1 && !yield(string(id)) {
					return
				}
				open = false
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			case c == '"' && at == 0:
				for i++; i < len(value) && value[i] != '"'; i++ {
					if value[i] == '\\' && i+1 < len(value) {
						i++
					}
					id = append(id, value[i])
				}
			default:
				if c == '@' {
					at = len(id)
				}
				id = append(id, c)
			}
		}
	}
}
