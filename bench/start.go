package main

import "fmt"

// starting: until a server takes a connection.
func starting(z sizes) []operation {
	return []operation{{
		name: "start/server", about: fmt.Sprintf("from the start of the program to the first connection, %d users", users+2*hashed),
		begin: func(st *stand) (step, error) {
			return func(rec *record) error {
				if err := st.srv.restart(); err != nil {
					return err
				}
				rec.took(st.srv.ready)
				c, err := st.dial(userName(0)) // it does serve
				if err != nil {
					return err
				}
				_, err = c.do("LOGOUT")
				return err
			}, makeMaildir(st.maildir(userName(0)))
		},
	}}
}
