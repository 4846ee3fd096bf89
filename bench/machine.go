package main

import (
	"fmt"
	"io"
	"time"
)

// limits: what the machine itself does in this run, where no operation shows it.
func limits(z sizes) []operation {
	n := z.messages
	carry := func(secure bool) func(st *stand) (step, error) {
		return func(st *stand) (step, error) {
			conn, r, err := st.source(secure)
			return func(rec *record) error {
				size := int64(64 << 20)
				if z.quick {
					size = 1 << 20
				}
				t := time.Now()
				if _, err := fmt.Fprintf(conn, "%d\n", size); err != nil {
					return err
				}
				if _, err := io.CopyN(sink{}, r, size); err != nil {
					return err
				}
				rec.add(float64(size) / time.Since(t).Seconds())
				return nil
			}, err
		}
	}
	return []operation{
		{name: "machine/stat", about: fmt.Sprintf("readdir and stat of %d files", n), limit: statAll(n)},
		{name: "machine/read", about: fmt.Sprintf("read of %d files", n), unit: rate, limit: readAll(n, nil)},
		{name: "machine/tls", about: "TLS, one way", unit: rate, limit: carry(true)},
		{name: "machine/tcp", about: "the same without TLS", unit: rate, limit: carry(false)},
		{
			name: "machine/fsync", about: "write, fsync, rename of a message",
			limit: func(st *stand) (step, error) {
				texts, err := st.texts(z.each)
				if err != nil {
					return nil, err
				}
				user, err := st.newUser()
				round := 0
				return func(rec *record) error {
					round++
					for i, text := range texts {
						name := fmt.Sprintf("%d.M%d.mail", round, i)
						if err := rec.timed(func() error { return writeRenamed(st.maildir(user), name, text) }); err != nil {
							return err
						}
					}
					return nil
				}, err
			},
		},
	}
}
