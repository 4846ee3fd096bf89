package talk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a line may take to come before the dialogue is called
// stuck: a watchdog for tests that hang, not a measure.
const patience = 5 * time.Minute

// Options say whom the clients talk to.
type Options struct {
	// Dial opens the connection of the client with this name.
	Dial func(client string) (net.Conn, error)

	// Greeting tells that the server speaks first; the first line is read by itself
	// where the dialogue does not ask for it.
	Greeting bool

	// Prelude is sent by each client when its connection opens, as lines of a dialogue
	// without the client's name: "> l LOGIN ann secret".
	Prelude []string

	// Hooks are the verbs behind "!".
	Hooks map[string]func(args []string) error

	// Vars are known from the start, for ${name}.
	Vars map[string]string
}

// Run plays the dialogue and fails the test where it goes another way, with the
// transcript up to there.
func Run(t testing.TB, script string, opt Options) {
	t.Helper()
	transcript, err := Play(script, opt)
	if err != nil {
		t.Fatalf("%v\n--- transcript ---\n%s", err, transcript)
	}
}

// RunFile is Run for a script on disk.
func RunFile(t testing.TB, path string, opt Options) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	Run(t, string(b), opt)
}

// Play is Run without a test: it returns what was said, and the first error.
func Play(script string, opt Options) (transcript string, err error) {
	p := &play{opt: opt, clients: map[string]*client{}, vars: map[string]string{}}
	for k, v := range opt.Vars {
		p.vars[k] = v
	}
	defer func() {
		for _, c := range p.clients {
			c.conn.Close()
		}
	}()
	steps, err := parse(script)
	if err != nil {
		return "", err
	}
	for _, s := range steps {
		if err := p.step(s); err != nil {
			return p.log.String(), fmt.Errorf("line %d: %q: %w", s.line, s.text, err)
		}
	}
	return p.log.String(), nil
}

type play struct {
	opt     Options
	clients map[string]*client
	vars    map[string]string
	log     strings.Builder
}

type client struct {
	name string
	conn net.Conn
	r    *bufio.Reader
	tag  string // of the command that was sent last and is not answered
	more bool   // a "+" came and nothing was sent since
}

func (p *play) step(s step) error {
	if s.op == opHook {
		return p.hook(s)
	}
	c, err := p.client(s)
	if err != nil {
		return err
	}
	switch s.op {
	case opSend, opPipe:
		text, err := p.expand(s.text)
		if err != nil {
			return err
		}
		if !c.more {
			if tag, _, ok := strings.Cut(text, " "); ok {
				c.tag = tag
			}
		}
		c.more = false
		if err := p.send(c, text+"\r\n"); err != nil {
			return err
		}
		if s.op == opSend && s.wait && c.tag != "" {
			return p.expect(c, expectation{patterns: []pattern{{text: "..."}}, open: true})
		}
		return nil
	case opRaw:
		text, err := strconv.Unquote(s.text)
		if err != nil {
			return fmt.Errorf("not a Go string: %w", err)
		}
		if text, err = p.expand(text); err != nil {
			return err
		}
		c.more = false
		return p.send(c, text)
	default:
		return p.expect(c, s.want)
	}
}

// client finds the connection of the step's client, or opens it.
func (p *play) client(s step) (*client, error) {
	if c := p.clients[s.client]; c != nil {
		return c, nil
	}
	conn, err := p.opt.Dial(s.client)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := &client{name: s.client, conn: conn, r: bufio.NewReader(conn)}
	p.clients[s.client] = c
	if p.opt.Greeting && s.op != opExpect {
		if _, err := p.read(c); err != nil {
			return nil, fmt.Errorf("greeting: %w", err)
		}
	}
	if len(p.opt.Prelude) > 0 {
		var lines []string
		for _, l := range p.opt.Prelude {
			lines = append(lines, s.client+l)
		}
		steps, err := parse(strings.Join(lines, "\n"))
		if err != nil {
			return nil, err
		}
		for _, s := range steps {
			if err := p.step(s); err != nil {
				return nil, fmt.Errorf("prelude: %q: %w", s.text, err)
			}
		}
	}
	return c, nil
}

func (p *play) hook(s step) error {
	words, err := splitWords(s.text)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("a hook has a name")
	}
	for i, w := range words {
		if words[i], err = p.expand(w); err != nil {
			return err
		}
	}
	fmt.Fprintf(&p.log, "! %s\n", strings.Join(words, " "))
	if words[0] == "close" && len(words) == 2 && p.clients[words[1]] != nil {
		err := p.clients[words[1]].conn.Close()
		delete(p.clients, words[1])
		return err
	}
	h := p.opt.Hooks[words[0]]
	if h == nil {
		return fmt.Errorf("no hook %q", words[0])
	}
	return h(words[1:])
}

func (p *play) send(c *client, text string) error {
	fmt.Fprintf(&p.log, "%s> %s\n", c.name, show(text))
	c.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c.conn, text)
	return err
}

// read takes one line with its literals, without the last CRLF, and shows it.
func (p *play) read(c *client) (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(patience))
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			if all.Len() > 0 {
				return "", fmt.Errorf("after %q: %w", show(all.String()), err)
			}
			return "", err
		}
		n, literal := literalAt(line)
		if !literal {
			break
		}
		if _, err := io.CopyN(&all, c.r, n); err != nil {
			return "", fmt.Errorf("in a literal of %d bytes: %w", n, err)
		}
	}
	line := show(strings.TrimSuffix(all.String(), "\r\n"))
	fmt.Fprintf(&p.log, "%s< %s\n", c.name, line)
	return line, nil
}

var literalEnd = regexp.MustCompile(`\{(\d+)\+?\}\r\n$`)

// literalAt reports the length of the literal that the line announces.
func literalAt(line string) (int64, bool) {
	m := literalEnd.FindStringSubmatch(line)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 63)
	return n, err == nil
}

// expect reads one set of lines and compares.
func (p *play) expect(c *client, want expectation) error {
	var got []string
	matched := make([]int, len(want.patterns)) // index in got + 1
	missing := 0
	for _, pat := range want.patterns {
		if pat.text != "..." {
			missing++
		}
	}
	tag := c.tag
	byTag := tag != "" && !c.more && !want.asksMore()
	tagged := !byTag
	// Reading ends with the tagged answer, or, where none is due, with the last pattern.
	for {
		if byTag && tagged || !byTag && missing == 0 {
			break
		}
		line, err := p.read(c)
		if err != nil {
			if want.eof && (errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || isReset(err)) {
				tagged = true
				break
			}
			return fmt.Errorf("%w; still expected: %s", err, want.rest(matched))
		}
		got = append(got, line)
		isTagged := tag != "" && strings.HasPrefix(line, tag+" ")
		if strings.HasPrefix(line, "+") {
			c.more = true
		}
		if isTagged {
			c.tag, c.more, tagged = "", false, true
		}
		switch i := p.match(want, matched, line, len(got)); {
		case i >= 0:
			matched[i] = len(got)
			missing--
		case isTagged && !want.answers(tag):
			if !strings.HasPrefix(line, tag+" OK") {
				return fmt.Errorf("got %q", line)
			}
		case isTagged || !want.open:
			return fmt.Errorf("got %q, expected: %s", line, want.rest(matched))
		}
		if strings.HasPrefix(line, "+") && byTag {
			return fmt.Errorf("asked for more while %s", want.rest(matched))
		}
	}
	if missing > 0 {
		return fmt.Errorf("never came: %s", want.rest(matched))
	}
	if want.eof && !errIsClosed(p, c) {
		return errors.New("the connection stays open")
	}
	for _, never := range want.never {
		re, err := p.compile(never)
		if err != nil {
			return err
		}
		for _, line := range got {
			if re.MatchString(line) {
				return fmt.Errorf("got %q", line)
			}
		}
	}
	return nil
}

// match finds the first open pattern for a line whose predecessors, as "then"
// orders them, have all come.
func (p *play) match(want expectation, matched []int, line string, at int) int {
	for i, pat := range want.patterns {
		if matched[i] != 0 || pat.text == "..." {
			continue
		}
		ready := true
		for j, before := range want.patterns[:i] {
			if before.group < pat.group && before.text != "..." && matched[j] == 0 {
				ready = false
			}
		}
		if !ready {
			continue
		}
		re, err := p.compile(pat.text)
		if err != nil {
			continue
		}
		if m := re.FindStringSubmatch(line); m != nil {
			for k, name := range re.SubexpNames() {
				if name != "" {
					p.vars[name] = m[k]
				}
			}
			return i
		}
	}
	return -1
}

// errIsClosed reads to the end of a connection that should be at its end.
func errIsClosed(p *play, c *client) bool {
	for {
		if _, err := p.read(c); err != nil {
			var ne net.Error
			return !(errors.As(err, &ne) && ne.Timeout())
		}
	}
}

func isReset(err error) bool {
	return strings.Contains(err.Error(), "reset by peer") || strings.Contains(err.Error(), "closed pipe")
}

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

// expand puts in what is remembered.
func (p *play) expand(text string) (string, error) {
	var unknown string
	out := variable.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := p.vars[m[2:len(m)-1]]
		if !ok {
			unknown = m
		}
		return v
	})
	if unknown != "" {
		return "", fmt.Errorf("%s is not known yet", unknown)
	}
	return out, nil
}

// compile makes a pattern into an expression: "..." any text, ${name} a word.
func (p *play) compile(pattern string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString("^")
	here := map[string]bool{}
	for pattern != "" {
		switch {
		case strings.HasPrefix(pattern, "..."):
			b.WriteString("(?s:.*)")
			pattern = pattern[3:]
		case variable.MatchString(pattern) && variable.FindStringIndex(pattern)[0] == 0:
			m := variable.FindStringSubmatch(pattern)
			v, known := p.vars[m[1]]
			switch {
			case known:
				b.WriteString(regexp.QuoteMeta(v))
			case here[m[1]]:
				return nil, fmt.Errorf("%s stands twice in one pattern before it is known", m[0])
			default:
				here[m[1]] = true
				b.WriteString(`(?P<` + m[1] + `>[^][() ]+)`)
			}
			pattern = pattern[len(m[0]):]
		default:
			b.WriteString(regexp.QuoteMeta(pattern[:1]))
			pattern = pattern[1:]
		}
	}
	b.WriteString("$")
	return regexp.Compile(b.String())
}

// show makes bytes readable without touching backslashes, which IMAP is full of.
func show(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\uFFFD' && s[i] != 0xEF, r < ' ', r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
