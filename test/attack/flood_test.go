package attack

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Thousands who connect and then say a byte now and then, or nothing, hold little memory
// each, and others come in beside them.
func TestThousandsOfSlowClients(t *testing.T) {
	const many = 2000
	s := serve(t, "[limits]\nlogin_time = \"5m\"", nil)
	s.login("bea").close()
	beginnings := []string{"", "a", "a LOGIN {3}\r\n", "a LOGIN ann " + strings.Repeat("x", 7000), "a AUTHENTICATE PLAIN " + strings.Repeat("A", 30000), "a ID (" + strings.Repeat("\"a\" NIL ", 20)}
	var conns []net.Conn
	s.attacked("slow before login", many*64<<10, func() {
		for i := range many {
			conn, err := net.Dial("tcp", s.PlainAddr)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			io.WriteString(conn, beginnings[i%len(beginnings)])
		}
		for _, conn := range conns[:many/2] {
			io.WriteString(conn, "x")
		}
		c := s.login("ann") // is let in at once
		c.ok("SELECT INBOX")
		c.close()
	})
	for _, conn := range conns {
		conn.Close()
	}
}

// Those who ask for much and do not read it: what is made for them waits for them, and nobody
// else does.
func TestThousandsWhoDoNotRead(t *testing.T) {
	const many = 300
	s := serve(t, "[limits]\nconnections_per_user = 1000\nconnections_per_user_address = 1000", nil)
	c := s.login("ann")
	text := strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", 100_000)
	s.deliver("ann", "1000000000.M1P1.host", "Subject: x\r\n\r\n"+text)
	c.ok("SELECT INBOX")
	var slow []*client
	s.attacked("fetch and do not read", many*192<<10, func() {
		for range many {
			cl := s.login("ann")
			slow = append(slow, cl)
			cl.send("a EXAMINE INBOX\r\nb FETCH 1 BODY[]\r\nc FETCH 1 BODY[]\r\n" + strings.Repeat("d NOOP\r\n", 50))
		}
		for _, cl := range slow { // each has begun
			if _, err := cl.r.ReadString('{'); err != nil {
				t.Error(err)
			}
		}
		c.ok("STORE 1 +FLAGS (\\Seen)")
		c.ok("FETCH 1 (ENVELOPE)")
	})
	for _, cl := range slow {
		cl.close()
	}
	c.ok("NOOP")
}

// Twenty connections that guess at a user whose hash is slow share one budget, and do not keep
// another user from logging in: theirs is computed in turn.
func TestFloodOfHashes(t *testing.T) {
	s := serve(t, "[limits]\ntrusted_networks = []\n[auth.throttle]\nlock_after = 1000", map[string]string{
		// bcrypt, cost 10, of "secret"
		"ann": "{BLF-CRYPT}" + bcryptSecret, "bea": "{BLF-CRYPT}" + bcryptSecret, "cid": "{BLF-CRYPT}" + bcryptSecret,
	})
	one := s.spent(func() {
		c := s.connect()
		c.answered("LOGIN cid wrong0", "NO [AUTHENTICATIONFAILED]")
		c.close()
	})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var guessers []*client
	cost := s.spent(func() {
		for i := range 20 {
			c := dial(t, s.PlainAddr)
			guessers = append(guessers, c)
			wg.Go(func() { // ends when its connection is closed
				if _, err := c.r.ReadString('\n'); err != nil {
					return
				}
				for n := 0; ; n++ {
					if _, err := fmt.Fprintf(c.conn, "a LOGIN ann guess%d-%d\r\n", i, n); err != nil {
						return
					}
					if _, err := c.r.ReadString('\n'); err != nil {
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		// The right password from another network is let in meanwhile.
		c := s.from(8)
		c.ok("LOGIN bea secret")
		c.ok("SELECT INBOX")
		c.close()
	})
	close(stop)
	for _, c := range guessers {
		c.close()
	}
	wg.Wait()
	t.Logf("one guess costs %v, twenty guessers and one who knew %v", one, cost)
	if cost > 40*one+2*time.Second {
		t.Errorf("guessers made the server work for %v, one guess costs %v", cost, one)
	}
}

// bcryptSecret is the hash of "secret", of cost 10.
const bcryptSecret = "$2a$10$hfxy0fOLdV52F4Qt15E71.tTLkSaxfzHyVprvl8j5W06PWu0KMboa"
