package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// fetching: what clients read of messages.
func fetching(z sizes) []operation {
	n := z.messages
	// warm fetches the same of all messages, which the server was asked for before.
	warm := func(name, about, items string, bars ...bar) operation {
		return operation{
			name: name, about: about, against: "TLS echo of the bytes", bars: bars,
			begin: func(st *stand) (step, error) {
				c, err := st.opened(n)
				if err != nil {
					return nil, err
				}
				return func(rec *record) error { return st.all(rec, c, items, n) }, st.all(newRecord(""), c, items, n)
			},
			limit: echo(true),
		}
	}
	// first fetches of a mailbox that was opened a moment ago and nothing more, as a client
	// does that is new to it: what the server does after an opening goes on meanwhile.
	first := func(name, about, items string, bars ...bar) operation {
		return operation{
			name: name, about: about, against: "read and scan the files", bars: bars,
			begin: anew(n, func(st *stand, rec *record, c *client) error { return st.all(rec, c, items, n) }),
			limit: readAll(n, lines),
		}
	}
	throughput := func(name, about string, secure bool, against string, limit func(st *stand) (step, error), b bar) operation {
		return operation{
			name: name, about: about, unit: rate, against: against, limit: limit, bars: []bar{b},
			begin: func(st *stand) (step, error) {
				c, err := st.opened(n)
				if err == nil && !secure {
					user, _ := st.unchanging(n) // opened just now
					if c, err = st.dialPlain(user); err == nil {
						_, err = c.do("SELECT INBOX")
					}
				}
				return func(rec *record) error {
					t := time.Now()
					a, err := c.fetch("1:*", "BODY.PEEK[]")
					d := time.Since(t)
					if err != nil {
						return err
					}
					st.with.bytes = a.bytes
					rec.add(float64(a.bytes) / d.Seconds())
					if _, want := st.corpus.bytes(n); a.literals != want || a.rows != n {
						return fmt.Errorf("%d messages of %d bytes came, %d of %d expected", a.rows, a.literals, n, want)
					}
					rec.answer("%d bytes, sum %08x", a.literals, a.sum)
					return nil
				}, err
			},
		}
	}
	scanned := bar{limit: 2.5, why: "first time at most 2.5 times reading the files"}
	cached := bar{limit: 4, why: "cached metadata at most 4 times what TLS needs for the bytes"}
	const metadata = "UID ENVELOPE BODYSTRUCTURE"
	return []operation{
		warm("fetch/flags", fmt.Sprintf("FETCH 1:* (UID FLAGS) of %d", n), "UID FLAGS", cached),
		first("fetch/envelope-first", "FETCH 1:* (ENVELOPE BODYSTRUCTURE), first", metadata, scanned),
		warm("fetch/envelope", "FETCH 1:* (ENVELOPE BODYSTRUCTURE), again", metadata, cached),
		first("fetch/header-first", "FETCH 1:* of five header fields, first", headerFields, scanned),
		warm("fetch/header", "FETCH 1:* of five header fields, again", headerFields, cached),
		{
			name: "fetch/size-first", about: "FETCH 1:* (RFC822.SIZE INTERNALDATE), first, sizes in the names", against: "readdir, stat",
			begin: first("", "", "RFC822.SIZE INTERNALDATE").begin, limit: statAll(n),
		},
		{
			name: "fetch/emailid-first", about: "FETCH 1:* (EMAILID), first", alone: true, against: "read and scan the files",
			begin: first("", "", "EMAILID").begin, limit: readAll(n, lines),
		},
		throughput("fetch/bodies", "FETCH 1:* (BODY[])", true, "TLS echo of the bytes", echo(true), bar{limit: 1 / 0.6, why: "at least 60% of raw TLS"}),
		throughput("fetch/bodies-plain", "FETCH 1:* (BODY[]) without TLS", false, "read and convert the files", readAll(n, converting()), bar{limit: 1 / 0.8, why: "at least 80% of reading and converting"}),
		{
			name: "fetch/one", about: "UID FETCH of one random message's BODY[]", against: "TLS echo of the bytes",
			begin: func(st *stand) (step, error) {
				c, err := st.opened(n)
				r := rand.New(rand.NewPCG(3, 4)) // both servers are asked for the same ones
				return func(rec *record) error {
					total := int64(0)
					for range 4 * z.each {
						i := r.IntN(n)
						t := time.Now()
						a, err := c.fetch(fmt.Sprint(i+1), "BODY.PEEK[]")
						rec.took(time.Since(t))
						if err != nil {
							return err
						}
						if a.literals != int64(st.corpus.message(i).crlf) {
							return fmt.Errorf("message %d has %d bytes, %d expected", i+1, a.literals, st.corpus.message(i).crlf)
						}
						total += a.bytes
						rec.answer("%08x", a.sum)
					}
					st.with.bytes = total / int64(4*z.each)
					return nil
				}, err
			},
			limit: repeated(4*z.each, echo(true)),
		},
	}
}

const headerFields = "UID BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)]"

// fetch asks for items of messages.
func (c *client) fetch(set, items string) (*answer, error) {
	return c.do("FETCH %s (%s)", set, items)
}

// all times a FETCH of all messages, and makes sure that each came, with the UID that it
// has in a new mailbox and the flags of its name.
func (st *stand) all(rec *record, c *client, items string, n int) error {
	seen, uids := 0, uint64(0)
	a, took, err := c.whole(func(row []byte) {
		if bytes.Contains(row, []byte(`\Seen`)) {
			seen++
		}
		uids += uidOf(row)
	}, "FETCH 1:* (%s)", items)
	if err != nil {
		return err
	}
	rec.took(took)
	st.with.bytes = a.bytes
	if a.rows != n || a.numbers != uint64(n)*uint64(n+1)/2 {
		return fmt.Errorf("%d rows came, the sum of their numbers is %d; %d messages expected", a.rows, a.numbers, n)
	}
	rec.answer("%d rows, UIDs %d, seen %d, literals %d", a.rows, uids, seen, a.literals)
	return nil
}

// uidOf a FETCH row; 0 without.
func uidOf(row []byte) (uid uint64) {
	_, rest, ok := bytes.Cut(row, []byte("UID "))
	if !ok {
		return 0
	}
	for _, d := range rest {
		if d < '0' || d > '9' {
			break
		}
		uid = uid*10 + uint64(d-'0')
	}
	return uid
}
