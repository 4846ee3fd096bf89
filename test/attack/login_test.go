package attack

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// scramFinal answers the server's first message of SCRAM-SHA-256.
func scramFinal(t *testing.T, bare, challenge, pass string) string {
	t.Helper()
	first, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(challenge, "+ "))
	if err != nil {
		t.Fatalf("%q: %v", challenge, err)
	}
	fields := map[byte]string{}
	for _, f := range strings.Split(string(first), ",") {
		fields[f[0]] = f[2:]
	}
	salt, _ := base64.StdEncoding.DecodeString(fields['s'])
	rounds, _ := strconv.Atoi(fields['i'])
	salted, err := pbkdf2.Key(sha256.New, pass, salt, rounds, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	client := mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	final := "c=biws,r=" + fields['r']
	signature := mac(stored[:], bare+","+string(first)+","+final)
	for i := range signature {
		signature[i] ^= client[i]
	}
	return b64(final + ",p=" + base64.StdEncoding.EncodeToString(signature))
}

// Exchanges that are cut, replayed and mixed let nobody in, and the connection goes on or is
// told BYE.
func TestReplayedAndTruncatedExchanges(t *testing.T) {
	s := serve(t, "[limits]\nbad_commands = 1000\nlogin_time = \"10m\"\n[auth.throttle]\nlock_after = 1000\nguesses = 1000", nil)
	const bare = "n=ann,r=abcdefgh"
	begin := func(c *client) (challenge string) {
		c.send("a AUTHENTICATE SCRAM-SHA-256\r\n")
		if line := c.line(); !strings.HasPrefix(line, "+") {
			t.Fatalf("%q", line)
		}
		c.send(b64("n,,"+bare) + "\r\n")
		return c.line()
	}
	// The whole exchange, which shall be replayed.
	c := s.connect()
	final := scramFinal(t, bare, begin(c), password)
	c.send(final + "\r\n")
	verifier := c.line()
	if !strings.HasPrefix(verifier, "+ ") {
		t.Fatalf("%q", verifier)
	}
	c.send("\r\n")
	if _, answer := c.until("a"); !strings.HasPrefix(answer, "a OK") {
		t.Fatal(answer)
	}
	c.close()
	refused := func(t *testing.T, name, answer string) {
		t.Helper()
		if !strings.HasPrefix(answer, "a NO") && !strings.HasPrefix(answer, "a BAD") {
			t.Errorf("%s: %q", name, answer)
		}
	}
	still := func(t *testing.T, name string, c *client) {
		t.Helper()
		if _, answer := c.do("NOOP"); !strings.HasPrefix(answer, "OK") {
			t.Errorf("%s: then %q", name, answer)
		}
		if _, answer := c.do("SELECT INBOX"); !strings.HasPrefix(answer, "BAD") {
			t.Errorf("%s: somebody is logged in: %q", name, answer)
		}
		c.close()
	}

	c = s.connect()
	begin(c)
	c.send(final + "\r\n")
	_, answer := c.until("a")
	refused(t, "a final message of another exchange", answer)
	still(t, "replay", c)

	c = s.connect()
	challenge := begin(c)
	c.send(scramFinal(t, bare, challenge, "wrong") + "\r\n")
	_, answer = c.until("a")
	refused(t, "wrong password", answer)
	c.send("a AUTHENTICATE SCRAM-SHA-256 " + scramFinal(t, bare, challenge, password) + "\r\n")
	_, answer = c.until("a")
	refused(t, "the final message as a first one", answer)
	still(t, "mixed", c)

	// The right final message, without its last bytes, and with each field changed.
	for i, change := range []func(string) string{
		func(f string) string { return f[:len(f)-4] },
		func(f string) string { return f[:len(f)/2] },
		func(f string) string { return "" },
		func(f string) string { return "*" },
		func(f string) string { return "c=biws" },
		func(f string) string { return strings.Replace(f, "c=biws", "c=eSws", 1) },
		func(f string) string { return strings.Replace(f, ",r=a", ",r=b", 1) },
		func(f string) string { return strings.Replace(f, ",p=", ",x=y,p=", 1) },
		func(f string) string { return f + ",p=AAAA" },
		func(f string) string { return "m=x," + f },
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel() // failures are answered late
			c := s.from(byte(i))
			c.t = t
			raw, _ := base64.StdEncoding.DecodeString(scramFinal(t, bare, begin(c), password))
			c.send(b64(change(string(raw))) + "\r\n")
			_, answer := c.until("a")
			refused(t, fmt.Sprintf("%q", change(string(raw))), answer)
			still(t, fmt.Sprintf("%q", change(string(raw))), c)
		})
	}

	for i, first := range []string{
		"", "=", "*", "====", b64("\x00"), b64("\x00ann"), b64("ann\x00secret"), b64("\x00ann\x00"), b64("\x00ann\x00secret\x00"), b64("\x00\x00secret"), b64("bea\x00ann\x00secret\x00x"),
		b64("\x00ann\x00secret")[:8], b64("bea\x00ann\x00secret"), b64("\x00" + strings.Repeat("a", 20_000) + "\x00secret"), b64("\x00ann\x00" + strings.Repeat("s", 20_000)),
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			c := s.from(byte(50 + i))
			c.t = t
			c.send("a AUTHENTICATE PLAIN\r\n")
			if line := c.line(); !strings.HasPrefix(line, "+") {
				t.Fatalf("%q", line)
			}
			c.send(first + "\r\n")
			_, answer := c.until("a")
			refused(t, fmt.Sprintf("PLAIN %.40q", first), answer)
			still(t, "PLAIN", c)
		})
	}
	c = s.from(100)
	for _, command := range []string{"AUTHENTICATE", "AUTHENTICATE ", "AUTHENTICATE NONE", "AUTHENTICATE PLAIN " + b64("\x00ann\x00wrong") + " x", "AUTHENTICATE EXTERNAL =", "AUTHENTICATE SCRAM-SHA-256-PLUS " + b64("p=tls-exporter,,"+bare), "AUTHENTICATE ANONYMOUS =", "AUTHENTICATE {3+}\r\nPLA"} {
		c.answered(command, "NO", "BAD")
	}
	still(t, "others", c)

	// Cut off by the end of the connection at each byte: the next exchange is whole.
	for i := range len(final) {
		if i%7 != 0 {
			continue
		}
		c := s.connect()
		begin(c)
		c.send(final[:i])
		c.close()
	}
	s.login("ann").close()
}

// What SCRAM says first is of one form for those whom there is and those whom there is not,
// and the same each time.
func TestNamesAreNotToldBySCRAM(t *testing.T) {
	s := serve(t, "", nil)
	first := func(name string) string {
		c := s.connect()
		defer c.close()
		c.send("a AUTHENTICATE SCRAM-SHA-256 " + b64("n,,n="+name+",r=x") + "\r\n")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.line(), "+ "))
		if err != nil {
			t.Fatal(err)
		}
		var salt string
		for _, f := range strings.Split(string(raw), ",") {
			if strings.HasPrefix(f, "r=") {
				continue
			}
			salt += f + ","
		}
		return salt
	}
	for _, name := range []string{"ann", "nobody", "somebody"} {
		if one, two := first(name), first(name); one != two {
			t.Errorf("%s: %q, then %q", name, one, two)
		}
	}
	a, b := first("ann"), first("nobody")
	if a == b || len(a) != len(b) || a[strings.Index(a, "i="):] != b[strings.Index(b, "i="):] {
		t.Errorf("%q of one who is there, %q of one who is not", a, b)
	}
}

// TLS of the versions that are broken, and without any cipher that is good, is refused.
func TestOldTLS(t *testing.T) {
	s := serve(t, "", nil)
	for _, c := range []*tls.Config{
		{MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10},
		{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}},
		{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}},
	} {
		c.InsecureSkipVerify = true
		if conn, err := tls.Dial("tcp", s.Addr, c); err == nil {
			t.Errorf("%+v was taken: %+v", c, conn.ConnectionState())
			conn.Close()
		}
	}
}
