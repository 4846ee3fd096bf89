package session

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"roost/store"
	"roost/store/memstore"
)

// peer is the client's end of a session.
type peer struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	tag  int
}

// mailboxOf makes a store whose INBOX holds messages, as an MTA delivers them: with
// no notes.
func mailboxOf(t testing.TB, messages ...[]byte) (store.Store, store.Identity) {
	t.Helper()
	st := memstore.New(nil)
	who := store.Identity{User: "ann", Login: "ann", Roots: []store.Root{{}}}
	acct, err := st.Account(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := acct.Batch(t.Context(), store.Inbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := batch.Add(t.Context(), store.Meta{}, bytes.NewReader(m)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := batch.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	batch.Close()
	acct.Close()
	return st, who
}

// dial opens a session; it is ended with the test.
func dial(t testing.TB, st store.Store, who store.Identity) *peer {
	t.Helper()
	return dialWith(t, st, who, Options{Log: quiet()})
}

func dialWith(t testing.TB, st store.Store, who store.Identity, opt Options) *peer {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends when the client's end is closed
		defer close(done)
		defer server.Close()
		Serve(ctx, server, &Login{Who: who, Tag: "login", Secure: true}, st, &opt)
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
		cancel()
	})
	p := &peer{t: t, conn: client, r: bufio.NewReader(client)}
	p.until("login")
	return p
}

// do sends a command and gives its untagged responses, literals and all, and its
// tagged one.
func (p *peer) do(format string, args ...any) (untagged []string, tagged string) {
	p.t.Helper()
	p.tag++
	tag := "t" + strconv.Itoa(p.tag)
	fmt.Fprintf(p.conn, "%s %s\r\n", tag, fmt.Sprintf(format, args...))
	return p.until(tag)
}

func (p *peer) until(tag string) (untagged []string, tagged string) {
	p.t.Helper()
	for {
		line := p.response()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, line)
	}
}

// response reads one line with the literals in it, without its line end.
func (p *peer) response() string {
	p.t.Helper()
	var whole strings.Builder
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("connection ended after %q: %v", whole.String(), err)
		}
		line = strings.TrimSuffix(line, "\r\n")
		whole.WriteString(line)
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			return whole.String()
		}
		n, err := strconv.Atoi(line[open+1 : len(line)-1])
		if err != nil {
			return whole.String()
		}
		whole.WriteString("\r\n")
		b := make([]byte, n)
		if _, err := io.ReadFull(p.r, b); err != nil {
			p.t.Fatal(err)
		}
		whole.Write(b)
	}
}

// ok is do for a command that must succeed.
func (p *peer) ok(format string, args ...any) []string {
	p.t.Helper()
	untagged, tagged := p.do(format, args...)
	if !strings.HasPrefix(tagged, "OK") {
		p.t.Fatalf("%.200s: %s", fmt.Sprintf(format, args...), tagged)
	}
	return untagged
}

// node is a value of a response: a list, a string, or an atom.
type node struct {
	list []node
	text string
	kind byte // '(' list, '"' string, '8' literal8, 'a' atom
}

// show writes a value in one form: strings quoted, names of atoms in capitals.
func (n node) show() string {
	switch n.kind {
	case '(':
		var b strings.Builder
		b.WriteByte('(')
		for i, c := range n.list {
			if i > 0 && !(c.kind == '(' && n.list[i-1].kind == '(') {
				b.WriteByte(' ')
			}
			b.WriteString(c.show())
		}
		return b.String() + ")"
	case '"', '8':
		return strconv.QuoteToASCII(n.text)
	}
	return strings.ToUpper(n.text)
}

// parseNode reads one value; rest is what follows it.
func parseNode(s string) (n node, rest string, err error) {
	switch {
	case s == "":
		return n, "", io.ErrUnexpectedEOF
	case s[0] == '(':
		n.kind, s = '(', s[1:]
		for {
			s = strings.TrimPrefix(s, " ")
			if strings.HasPrefix(s, ")") {
				return n, s[1:], nil
			}
			var c node
			if c, s, err = parseNode(s); err != nil {
				return n, s, err
			}
			n.list = append(n.list, c)
		}
	case s[0] == '"':
		n.kind = '"'
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
				n.text += s[i : i+1]
			case '"':
				return n, s[i+1:], nil
			default:
				n.text += s[i : i+1]
			}
		}
		return n, "", io.ErrUnexpectedEOF
	case s[0] == '{' || strings.HasPrefix(s, "~{"):
		n.kind = '"'
		if s[0] == '~' {
			n.kind, s = '8', s[1:]
		}
		head, body, _ := strings.Cut(s, "\r\n")
		size, err := strconv.Atoi(strings.Trim(head, "{}"))
		if err != nil || size > len(body) {
			return n, s, fmt.Errorf("literal %q of %d bytes: %v", head, len(body), err)
		}
		n.text = body[:size]
		return n, body[size:], nil
	}
	n.kind = 'a'
	i, deep := 0, 0
	for ; i < len(s); i++ {
		if s[i] == '[' {
			deep++
		}
		if s[i] == ']' {
			deep--
		}
		if deep == 0 && (s[i] == ' ' || s[i] == ')' || s[i] == '(') {
			break
		}
	}
	n.text = s[:i]
	if i == 0 {
		return n, s, fmt.Errorf("nothing at %.20q", s)
	}
	return n, s[i:], nil
}

// fetched is what a FETCH response says, by item, and the items in their order.
func fetched(t testing.TB, line string) (items map[string]node, order []string) {
	t.Helper()
	_, list, ok := strings.Cut(line, " FETCH ")
	if !ok {
		t.Fatalf("no FETCH: %.200q", line)
	}
	n, rest, err := parseNode(list)
	if err != nil || rest != "" || len(n.list)%2 != 0 {
		t.Fatalf("%.300q: %v, rest %.100q", line, err, rest)
	}
	items = map[string]node{}
	for i := 0; i < len(n.list); i += 2 {
		name := n.list[i].text
		items[name], order = n.list[i+1], append(order, name)
	}
	return items, order
}
