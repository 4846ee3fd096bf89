package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// marionette is Thunderbird's remote control: scripts run inside of it, with all that its
// own code may do. An answer is "LENGTH:[1, id, error, result]".
type marionette struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	id   int
}

// connectMarionette waits until the program listens. The session trusts any certificate.
func connectMarionette(t *testing.T, addr string, ended <-chan struct{}) *marionette {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	for deadline := time.After(2 * patience); err != nil; conn, err = net.Dial("tcp", addr) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ended:
			t.Fatal("the program ended")
		case <-deadline:
			t.Fatal(err)
		}
	}
	m := &marionette{t: t, conn: conn, in: bufio.NewReader(conn)}
	t.Cleanup(func() { conn.Close() })
	m.read() // who it is
	m.call("WebDriver:NewSession", map[string]any{"acceptInsecureCerts": true, "timeouts": map[string]any{"script": 600000}})
	m.call("Marionette:SetContext", map[string]any{"value": "chrome"})
	return m
}

func (m *marionette) read() []byte {
	m.t.Helper()
	size, err := m.in.ReadString(':')
	if err != nil {
		m.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(m.in, b); err != nil {
		m.t.Fatal(err)
	}
	return b
}

// call sends one command and gives its result.
func (m *marionette) call(command string, params any) json.RawMessage {
	m.t.Helper()
	m.id++
	b, err := json.Marshal([]any{0, m.id, command, params})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(b), b); err != nil {
		m.t.Fatal(err)
	}
	var answer []json.RawMessage
	if err := json.Unmarshal(m.read(), &answer); err != nil || len(answer) != 4 {
		m.t.Fatal(err, answer)
	}
	if string(answer[2]) != "null" {
		m.t.Fatalf("%s: %s", command, answer[2])
	}
	return answer[3]
}

// run runs the body of an async function and reads what it returns into result, unless
// that is nil.
func (m *marionette) run(script string, result any) {
	m.t.Helper()
	var answer struct {
		Value struct {
			Result json.RawMessage
			Error  string
		}
	}
	b := m.call("WebDriver:ExecuteAsyncScript", map[string]any{
		"script": `const done = arguments[arguments.length - 1];
			(async () => {` + script + `})().then(r => done({Result: r ?? null}), e => done({Error: e + "\n" + e.stack}));`,
		"args": []any{}, "sandbox": "system",
	})
	if err := json.Unmarshal(b, &answer); err != nil {
		m.t.Fatal(err)
	}
	if answer.Value.Error != "" {
		m.t.Fatalf("%s\n%s", answer.Value.Error, script)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Value.Result, result); err != nil {
			m.t.Fatalf("%v: %s", err, answer.Value.Result)
		}
	}
}
