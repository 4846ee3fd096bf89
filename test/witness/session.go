package witness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// patience is how long a response may take before the session is called stuck: a
// watchdog, no measure.
const patience = 5 * time.Minute

// ByMessageID tells messages apart by a header field; ByBytes by all that they are.
const (
	ByMessageID = "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]"
	ByBytes     = "BODY.PEEK[]"
)

// A Session is one connection in the clear, logged in, with one mailbox selected.
// One goroutine at a time.
type Session struct {
	Who     string // for faults
	Tell    string // what tells messages apart: ByMessageID, ByBytes
	Mailbox string // selected
	ledger  *Ledger
	conn    net.Conn
	r       *bufio.Reader
	tag     int

	validity uint32
	uids     []uint32            // by sequence number; 0: not asked for yet
	flags    map[uint32][]string // sorted, without \Recent
	exists   int                 // as last told
	Bye      string              // the server ended the session
	Lines    []string            // untagged responses of the last command that are not FETCH, EXISTS, EXPUNGE
}

// ErrRefused is a tagged NO or BAD; its text follows.
var ErrRefused = errors.New("refused")

// Dial opens a connection and logs in.
func Dial(ledger *Ledger, who, addr, user, password string) (*Session, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	s := &Session{Who: who, Tell: ByMessageID, ledger: ledger, conn: conn, r: bufio.NewReader(conn), flags: map[uint32][]string{}}
	conn.SetDeadline(time.Now().Add(patience))
	greeting, err := s.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeting %q", greeting)
	}
	if err == nil {
		err = s.Do(fmt.Sprintf("LOGIN %s %s", user, password))
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", who, err)
	}
	return s, nil
}

// Close hangs up.
func (s *Session) Close() error { return s.conn.Close() }

// Select opens a mailbox, and learns which messages it has.
func (s *Session) Select(mailbox string) error { return s.open("SELECT", mailbox) }

// Examine is Select without the right to change anything.
func (s *Session) Examine(mailbox string) error { return s.open("EXAMINE", mailbox) }

func (s *Session) open(verb, mailbox string) error {
	s.uids, s.exists, s.validity = nil, 0, 0
	s.Mailbox = mailbox
	clear(s.flags)
	if err := s.Do(fmt.Sprintf("%s %q", verb, mailbox)); err != nil {
		return err
	}
	s.ledger.Opened(s.Who, mailbox, s.validity)
	return s.Learn()
}

// Learn asks for the messages that it was only told the number of.
func (s *Session) Learn() error {
	first := slices.Index(s.uids, 0)
	if first < 0 {
		return nil
	}
	// An EXPUNGE cannot come between: RFC 9051 section 7.5.1 forbids it in FETCH. What
	// was expunged elsewhere stays unknown until it is told.
	return unlessGone(s.Do(fmt.Sprintf("FETCH %d:* (UID FLAGS %s)", first+1, s.Tell)))
}

// unlessGone forgives a command that met messages that were expunged elsewhere.
func unlessGone(err error) error {
	if err != nil && strings.Contains(err.Error(), "[EXPUNGEISSUED]") {
		return nil
	}
	return err
}

// Poll asks for what is new.
func (s *Session) Poll() error {
	if err := s.Do("NOOP"); err != nil {
		return err
	}
	return s.Learn()
}

// Flags asks for the flags of all messages.
func (s *Session) Flags() error {
	if len(s.uids) == 0 {
		return nil
	}
	return unlessGone(s.Do("FETCH 1:* (UID FLAGS)"))
}

// Messages are the UIDs that the session knows now, and the flags of each.
func (s *Session) Messages() map[uint32][]string {
	out := map[uint32][]string{}
	for _, uid := range s.uids {
		out[uid] = s.flags[uid]
	}
	return out
}

// Key is the name of one of its messages in the ledger.
func (s *Session) Key(uid uint32) Key { return Key{s.Mailbox, s.validity, uid} }

// Validity is the UIDVALIDITY of the selected mailbox.
func (s *Session) Validity() uint32 { return s.validity }

// Idle waits in IDLE until it hears of new messages, or stop is closed, or enough
// says after a response that it need not wait any more.
func (s *Session) Idle(stop <-chan struct{}, enough func() bool) error {
	if enough != nil && enough() {
		return nil
	}
	tag := s.next()
	if err := s.send(tag + " IDLE"); err != nil {
		return err
	}
	var done, ended = make(chan struct{}), make(chan struct{})
	var said error
	finish := make(chan struct{}, 1)
	go func() { // ends with this IDLE: by stop, by finish or by done
		defer close(ended)
		select {
		case <-stop:
		case <-finish:
		case <-done:
			return
		}
		_, said = io.WriteString(s.conn, "DONE\r\n")
	}()
	err := s.responses(tag, func() {
		if slices.Contains(s.uids, 0) || enough != nil && enough() {
			select {
			case finish <- struct{}{}:
			default:
			}
		}
	})
	close(done)
	<-ended
	if err = errors.Join(err, said); err != nil {
		return err
	}
	return s.Learn()
}

// Do runs one command. ErrRefused.
func (s *Session) Do(command string) error {
	tag := s.next()
	s.Lines = nil
	if err := s.send(tag + " " + command); err != nil {
		return err
	}
	err := s.responses(tag, nil)
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", s.Who, command, err)
	}
	return err
}

// Append stores a message. ErrRefused; the literal is sent only when it was asked for.
func (s *Session) Append(mailbox, flags, text string) error {
	tag := s.next()
	s.Lines = nil
	if err := s.send(fmt.Sprintf("%s APPEND %q (%s) {%d}", tag, mailbox, flags, len(text))); err != nil {
		return err
	}
	asked := false
	err := s.read(func(line string, literals []string) (bool, error) {
		if strings.HasPrefix(line, "+") {
			asked = true
			return false, s.send(text)
		}
		return s.take(tag, line, literals)
	})
	if err != nil {
		err = fmt.Errorf("%s: APPEND to %s (literal asked for: %t): %w", s.Who, mailbox, asked, err)
	}
	return err
}

func (s *Session) next() string {
	s.tag++
	return "a" + strconv.Itoa(s.tag)
}

func (s *Session) send(line string) error {
	s.conn.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(s.conn, line+"\r\n")
	return err
}

// responses reads up to the tagged one; after each untagged one it calls heard.
func (s *Session) responses(tag string, heard func()) error {
	return s.read(func(line string, literals []string) (bool, error) {
		end, err := s.take(tag, line, literals)
		if heard != nil && !end {
			heard()
		}
		return end, err
	})
}

// read gives whole responses, with each literal as {} in the line, until f ends it.
func (s *Session) read(f func(line string, literals []string) (end bool, err error)) error {
	for {
		s.conn.SetDeadline(time.Now().Add(patience))
		var whole strings.Builder
		var literals []string
		for {
			part, err := s.r.ReadString('\n')
			if err != nil && s.Bye != "" {
				return fmt.Errorf("the server said %q", s.Bye)
			} else if err != nil {
				return err
			}
			part = strings.TrimSuffix(strings.TrimSuffix(part, "\n"), "\r")
			open := strings.LastIndexByte(part, '{')
			if open < 0 || !strings.HasSuffix(part, "}") {
				whole.WriteString(part)
				break
			}
			n, err := strconv.Atoi(strings.TrimSuffix(part[open+1:], "}"))
			if err != nil {
				whole.WriteString(part)
				break
			}
			whole.WriteString(part[:open] + "{}")
			b := make([]byte, n)
			if _, err := io.ReadFull(s.r, b); err != nil {
				return err
			}
			literals = append(literals, string(b))
		}
		if end, err := f(whole.String(), literals); end || err != nil {
			return err
		}
	}
}

// take takes in one response; end is true for the tagged one.
func (s *Session) take(tag, line string, literals []string) (end bool, err error) {
	if rest, ok := strings.CutPrefix(line, tag+" "); ok {
		if !strings.HasPrefix(rest, "OK") {
			return true, fmt.Errorf("%w: %s", ErrRefused, rest)
		}
		return true, nil
	}
	fields := strings.SplitN(strings.TrimPrefix(line, "* "), " ", 3)
	number, nerr := strconv.Atoi(fields[0])
	if nerr != nil || len(fields) < 2 {
		s.Lines = append(s.Lines, line)
		if _, v, ok := strings.Cut(line, "[UIDVALIDITY "); ok {
			v, _, _ = strings.Cut(v, "]")
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return false, fmt.Errorf("%q: %w", line, err)
			}
			s.validity = uint32(n)
		}
		if strings.HasPrefix(line, "* BYE") {
			s.Bye = line // the command may be answered yet
		}
		return false, nil
	}
	switch fields[1] {
	case "EXISTS":
		if number < len(s.uids) {
			s.ledger.Blame("%s: %q, but %d messages were not expunged", s.Who, line, len(s.uids))
			return false, nil
		}
		s.uids = append(s.uids, make([]uint32, number-len(s.uids))...)
	case "EXPUNGE":
		if number < 1 || number > len(s.uids) {
			s.ledger.Blame("%s: %q of %d messages", s.Who, line, len(s.uids))
			return false, nil
		}
		if uid := s.uids[number-1]; uid != 0 {
			s.ledger.Expunged(s.Who, s.Key(uid))
			delete(s.flags, uid)
		}
		s.uids = slices.Delete(s.uids, number-1, number)
	case "FETCH":
		if number < 1 || number > len(s.uids) || len(fields) < 3 {
			s.ledger.Blame("%s: %q of %d messages", s.Who, line, len(s.uids))
			return false, nil
		}
		s.fetched(number, fields[2], literals)
	}
	return false, nil
}

// fetched takes in the items of one message.
func (s *Session) fetched(number int, items string, literals []string) {
	uid := s.uids[number-1]
	if at := strings.Index(items, "UID "); at >= 0 {
		digits := items[at+4:]
		if end := strings.IndexAny(digits, " )"); end >= 0 {
			digits = digits[:end]
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			s.ledger.Blame("%s: FETCH %s: %v", s.Who, items, err)
			return
		}
		if uid != 0 && uid != uint32(n) {
			s.ledger.Blame("%s: message %d was UID %d and is UID %d", s.Who, number, uid, n)
		}
		if number > 1 && s.uids[number-2] >= uint32(n) {
			s.ledger.Blame("%s: message %d is UID %d, the one before it %d", s.Who, number, n, s.uids[number-2])
		}
		uid = uint32(n)
		s.uids[number-1] = uid
	}
	if uid == 0 {
		return // flags of a message that nobody asked about
	}
	if at := strings.Index(items, "FLAGS ("); at >= 0 {
		list, _, _ := strings.Cut(items[at+len("FLAGS ("):], ")")
		flags := slices.DeleteFunc(strings.Fields(list), func(f string) bool { return strings.EqualFold(f, `\Recent`) })
		slices.Sort(flags)
		s.flags[uid] = flags
	}
	if len(literals) > 0 {
		s.ledger.Saw(s.Who, s.Key(uid), strings.TrimSpace(literals[0]))
	}
}
