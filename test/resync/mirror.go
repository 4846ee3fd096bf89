package resync

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"roost/server/wire"
)

// mirror is the copy of one mailbox that a client keeps, and its connection. What it
// knows of MODSEQs it takes as carelessly as the RFC allows: the highest it saw, as
// soon as a command is answered, or at once while it idles.
type mirror struct {
	validity uint32
	modSeq   uint64
	flags    map[uint32]string // by UID, sorted
	last     uint32            // the highest UID that it has, and all below it that there are

	conn net.Conn
	r    *bufio.Reader
	tag  int
	seqs []uint32 // UIDs by number; 0: not learned yet
	seen uint64   // highest MODSEQ since the last answer

	heard []string // untagged responses, since somebody emptied it

	idling   bool
	learning bool

	uidOnly bool        // ENABLE UIDONLY: seqs are in no order
	ids     *identities // nil: it asks for none
}

// connect opens a session and brings the copy up to date.
func (m *mirror) connect(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	m.conn, m.r, m.seqs, m.seen, m.idling = conn, bufio.NewReader(conn), nil, 0, false
	m.learning = false
	if _, err := m.r.ReadString('\n'); err != nil {
		return err
	}
	enable := "ENABLE QRESYNC"
	if m.uidOnly {
		enable += " UIDONLY"
	}
	for _, command := range []string{"LOGIN ann secret", enable} {
		if err := m.do(command); err != nil {
			return err
		}
	}
	selecting := "SELECT INBOX"
	if m.validity != 0 {
		selecting = fmt.Sprintf("SELECT INBOX (QRESYNC (%d %d", m.validity, m.modSeq)
		if known := slices.Sorted(maps.Keys(m.flags)); len(known) > 0 {
			selecting += " " + string(wire.AppendSet(nil, known))
		}
		selecting += "))"
	}
	if err := m.do(selecting); err != nil {
		return err
	}
	return m.learn()
}

// learn asks for what is new.
func (m *mirror) learn() error {
	m.learning = true
	items := "FLAGS MODSEQ"
	if m.ids != nil {
		items += " EMAILID"
	}
	err := m.do(fmt.Sprintf("UID FETCH %d:* (%s)", m.last+1, items))
	m.learning = false
	if err != nil {
		return err
	}
	for uid := range m.flags {
		m.last = max(m.last, uid)
	}
	if slices.Contains(m.seqs, 0) {
		return m.do("UID FETCH 1:* (UID)") // which numbers the known ones have, and nothing else of them
	}
	return nil
}

// do sends a command and takes in its answers. An answer that is not OK is an error,
// but NO, which others' expunges bring.
func (m *mirror) do(command string) error {
	m.tag++
	tag := fmt.Sprintf("m%d", m.tag)
	if _, err := fmt.Fprintf(m.conn, "%s %s\r\n", tag, command); err != nil {
		return err
	}
	for {
		line, err := m.line()
		if err != nil {
			return err
		}
		rest, tagged := strings.CutPrefix(line, tag+" ")
		if !tagged {
			if err := m.untagged(line); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
			continue
		}
		if m.ids != nil {
			if err := m.ids.copied(m, rest); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
		}
		if strings.HasPrefix(rest, "BAD") {
			return fmt.Errorf("%s: %s", command, rest)
		}
		if n, ok := code(rest, "HIGHESTMODSEQ"); ok {
			m.modSeq, m.seen = n, 0
		}
		m.modSeq, m.seen = max(m.modSeq, m.seen), 0
		return nil
	}
}

// idle begins to idle; hear takes in one line, done ends it.
func (m *mirror) idle() error {
	m.tag++
	if _, err := fmt.Fprintf(m.conn, "m%d IDLE\r\n", m.tag); err != nil {
		return err
	}
	for !m.idling {
		if err := m.hear(); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) hear() error {
	line, err := m.line()
	if err != nil {
		return err
	}
	if strings.HasPrefix(line, "+") {
		m.idling = true
		return nil
	}
	if strings.HasPrefix(line, "m") {
		m.idling = false
		return nil
	}
	err = m.untagged(line)
	m.modSeq, m.seen = max(m.modSeq, m.seen), 0
	return err
}

func (m *mirror) done() error {
	if _, err := m.conn.Write([]byte("DONE\r\n")); err != nil {
		return err
	}
	for m.idling {
		if err := m.hear(); err != nil {
			return err
		}
	}
	return m.learn()
}

// hangUp ends the connection without a word.
func (m *mirror) hangUp() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

func (m *mirror) line() (string, error) {
	m.conn.SetReadDeadline(time.Now().Add(5 * time.Minute))
	line, err := m.r.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n"), err
}

// code is the number of a response code.
func code(text, name string) (uint64, bool) {
	_, after, ok := strings.Cut(text, "["+name+" ")
	if !ok {
		return 0, false
	}
	digits, _, _ := strings.Cut(after, "]")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// untagged takes one response in.
func (m *mirror) untagged(line string) error {
	m.heard = append(m.heard, line)
	rest, ok := strings.CutPrefix(line, "* ")
	if !ok {
		return fmt.Errorf("unexpected %q", line)
	}
	if m.ids != nil && !strings.HasPrefix(rest, "OK [UIDVALIDITY") {
		if err := m.ids.hear(m, line); err != nil {
			return err
		}
	}
	if strings.HasPrefix(rest, "OK ") {
		if n, ok := code(rest, "UIDVALIDITY"); ok && uint32(n) != m.validity {
			m.validity, m.flags, m.last, m.modSeq = uint32(n), map[uint32]string{}, 0, 0
		}
		if n, ok := code(rest, "HIGHESTMODSEQ"); ok {
			m.seen = n // the answer that ends the command makes it good
		}
		return nil
	}
	if set, ok := strings.CutPrefix(rest, "VANISHED (EARLIER) "); ok {
		return each(set, func(uid uint32) error {
			if slices.Contains(m.seqs, uid) {
				return fmt.Errorf("%q of a message that is there", line)
			}
			delete(m.flags, uid)
			return nil
		})
	}
	if set, ok := strings.CutPrefix(rest, "VANISHED "); ok {
		return each(set, func(uid uint32) error {
			i := m.number(uid)
			if i < 0 {
				return fmt.Errorf("%q of a message that this session does not have", line)
			}
			m.seqs = slices.Delete(m.seqs, i, i+1)
			delete(m.flags, uid)
			return nil
		})
	}
	number, what, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(number)
	switch {
	case err != nil:
		return nil // FLAGS, ENABLED, CAPABILITY, BYE
	case what == "EXISTS":
		if n < len(m.seqs) {
			return fmt.Errorf("%q after %d messages", line, len(m.seqs))
		}
		for len(m.seqs) < n {
			m.seqs = append(m.seqs, 0)
		}
	case what == "EXPUNGE":
		return fmt.Errorf("%q after ENABLE QRESYNC", line)
	case strings.HasPrefix(what, "UIDFETCH (") && m.uidOnly:
		if !m.has(uint32(n)) {
			return fmt.Errorf("%q of a message that this session does not have", line)
		}
		m.changed(uint32(n), line)
		return nil
	case strings.HasPrefix(what, "FETCH (") && !m.uidOnly:
		return m.fetched(n, line)
	case strings.Contains(what, "FETCH"):
		return fmt.Errorf("unexpected %q", line)
	}
	return nil
}

// number is where a message stands among seqs, or may stand as one that was not learned yet;
// -1 where it cannot be.
func (m *mirror) number(uid uint32) int {
	if i := slices.Index(m.seqs, uid); i >= 0 {
		return i
	}
	if m.uidOnly {
		return slices.Index(m.seqs, 0)
	}
	above := slices.IndexFunc(m.seqs, func(other uint32) bool { return other > uid })
	if above < 0 {
		above = len(m.seqs)
	}
	if above > 0 && m.seqs[above-1] == 0 {
		return above - 1
	}
	return -1
}

// fetched takes a FETCH response in.
func (m *mirror) fetched(n int, line string) error {
	uid, _ := strconv.ParseUint(between(line, "UID ", " )"), 10, 32)
	if uid == 0 || n < 1 || n > len(m.seqs) {
		return fmt.Errorf("%q with %d messages", line, len(m.seqs))
	}
	if had := m.seqs[n-1]; had != 0 && had != uint32(uid) {
		return fmt.Errorf("%q: number %d was UID %d", line, n, had)
	}
	m.seqs[n-1] = uint32(uid)
	m.changed(uint32(uid), line)
	return nil
}

// changed takes in what a response says of a message.
func (m *mirror) changed(uid uint32, line string) {
	// News of what it has not come to yet would leave a gap below.
	if strings.Contains(line, "FLAGS (") && (m.learning || uid <= m.last) {
		m.flags[uid] = normal(between(line, "FLAGS (", ")"))
	}
	if modSeq, err := strconv.ParseUint(between(line, "MODSEQ (", ")"), 10, 64); err == nil {
		m.seen = max(m.seen, modSeq)
	}
}

// between is the text behind start up to any byte of end.
func between(line, start, end string) string {
	_, after, ok := strings.Cut(line, start)
	if !ok {
		return ""
	}
	if i := strings.IndexAny(after, end); i >= 0 {
		after = after[:i]
	}
	return after
}

// normal puts flags in order, without \Recent.
func normal(flags string) string {
	list := slices.DeleteFunc(strings.Fields(flags), func(f string) bool { return f == `\Recent` })
	slices.Sort(list)
	return strings.Join(list, " ")
}

// each calls f for every number of a set.
func each(set string, f func(uint32) error) error {
	for part := range strings.SplitSeq(set, ",") {
		from, to, isRange := strings.Cut(part, ":")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return err
		}
		last, err := strconv.ParseUint(to, 10, 32)
		if err != nil {
			return err
		}
		for uid := first; uid <= last; uid++ {
			if err := f(uint32(uid)); err != nil {
				return err
			}
		}
	}
	return nil
}
