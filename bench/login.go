package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// hashes of the password: one that costs nothing, and one that is meant to cost.
func hashes() (cheap, dear string, err error) {
	const salt = "saltsalt"
	sum := sha256.Sum256([]byte(password + salt))
	b, err := bcrypt.GenerateFromPassword([]byte(password), 10)
	return "{SSHA256}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...)), "{BLF-CRYPT}" + string(b), err
}

// logging in: over TLS, each on a connection of its own.
func loggingIn(z sizes) []operation {
	few := max(1, z.each/10) // dear ones a round
	// login times n of them, from the connection to the OK; user names the i-th.
	login := func(n int, user func(i int) string) func(st *stand) (step, error) {
		return func(st *stand) (step, error) {
			for i := range hashed {
				if err := makeMaildir(st.maildir(user(i))); err != nil {
					return nil, err
				}
			}
			i := 0
			return func(rec *record) error {
				before, err := st.srv.cpu()
				if err != nil {
					return err
				}
				for range n {
					err := rec.timed(func() error {
						c, err := dial(st.ctx, st.srv.tls, true, user(i), password)
						if err == nil {
							c.close()
						}
						return err
					})
					i++
					if err != nil {
						return err
					}
				}
				return st.used(rec, before, n, "CPU of the server, a login")
			}, nil
		}
	}
	named := func(kind string) func(i int) string {
		return func(i int) string { return fmt.Sprintf("%s%03d", kind, i%hashed) }
	}
	return []operation{
		{
			name: "login/cheap", about: "connect by TLS and LOGIN, a cheap hash", against: "TLS handshake and echoes",
			begin: login(z.each, named("cheap")), limit: z.handshakes(z.each, ""),
		},
		{
			name: "login/dear", about: "the same with bcrypt, each another user", against: "the same and bcrypt",
			begin: login(few, named("dear")), limit: z.handshakes(few, "bcrypt"),
		},
		{
			name: "login/dear-again", about: "the same with bcrypt, one user again and again", against: "TLS handshake and echoes",
			begin: login(few, func(int) string { return "dear000" }), limit: z.handshakes(few, ""),
		},
		{
			name: "login/eight", about: fmt.Sprintf("LOGIN by %d clients at once, a cheap hash, each", clientsAtOnce),
			begin: func(st *stand) (step, error) {
				if _, err := login(1, named("cheap"))(st); err != nil {
					return nil, err
				}
				return func(rec *record) error {
					t := time.Now()
					err := atOnce(func(k int) error {
						for i := k; i < z.each; i += clientsAtOnce {
							c, err := dial(st.ctx, st.srv.tls, true, named("cheap")(i), password)
							if err != nil {
								return err
							}
							c.close()
						}
						return nil
					})
					rec.took(time.Since(t) / time.Duration(z.each))
					return err
				}, nil
			},
		},
	}
}

// used notes the CPU that a server used since before, a piece of work.
func (st *stand) used(rec *record, before time.Duration, n int, about string) error {
	after, err := st.srv.cpu()
	rec.row("cpu", about, cpuTime, (after-before).Seconds()/float64(n))
	return err
}

// handshakes is what a login needs at least: a connection, TLS, a greeting and an answer,
// and the hash where there is one.
func (z sizes) handshakes(n int, hash string) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		l, err := st.listen(true)
		if err != nil {
			return nil, err
		}
		stored := []byte(strings.TrimPrefix(st.dear, "{BLF-CRYPT}"))
		go func() { // ends with the listener
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, "* OK\r\n")
				buf := make([]byte, 512)
				if _, err := conn.Read(buf); err == nil {
					if hash != "" {
						bcrypt.CompareHashAndPassword(stored, []byte(password))
					}
					io.WriteString(conn, "a1 OK\r\n")
				}
				conn.Close()
			}
		}()
		return func(rec *record) error {
			for range n {
				err := rec.timed(func() error {
					c, err := dial(st.ctx, l.Addr().String(), true, "x", "x")
					if err == nil {
						c.close()
					}
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
}
