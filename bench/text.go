package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"roost/test/neighbour"
)

// xapian is Debian's Dovecot with dovecot-fts-xapian, which finds text inside of words where
// its piece is among those that it indexes. (The fts_squat of dovecot-core dies of this mail.)
const xapian = `
plugin {
  fts = xapian
  fts_xapian = partial=3 full=20
  fts_enforced = yes
  fts_autoindex = no
}
service indexer-worker {
  vsz_limit = 0
}
`

// findingText: SEARCH BODY with whatever index of the text a server keeps, once it is made.
func findingText(z sizes) []operation {
	// find gives searches of n messages for words at the server that serve gives.
	find := func(n int, serve func(st *stand) (*server, error), words ...string) func(st *stand) (step, error) {
		return func(st *stand) (step, error) {
			srv, err := serve(st)
			if err != nil {
				return nil, err
			}
			user, err := st.mailbox(n)
			if err != nil {
				return nil, err
			}
			st.srv = srv // for what is said of it, too
			c, err := st.dialTo(srv.tls, true, user, password)
			if err != nil {
				return nil, err
			}
			for _, command := range []string{"SELECT INBOX", "SEARCH BODY xyzzyxyzzy"} {
				if _, err := c.do("%s", command); err != nil {
					return nil, err
				}
			}
			if err := srv.built(st); err != nil {
				return nil, err
			}
			return func(rec *record) error {
				for _, w := range words {
					t := time.Now()
					a, err := c.do("SEARCH BODY %s", w)
					rec.took(time.Since(t))
					if err != nil {
						return err
					}
					rec.answer("%s: %s", w, numbers(a))
				}
				if size := indexSize(st.maildir(user)); size > 0 {
					_, text := st.corpus.bytes(n)
					rec.row("index", fmt.Sprintf("its index on disk, of %s of mail", bytesOf.format(float64(text))), bytesOf, float64(size))
				}
				return nil
			}, nil
		}
	}
	usual := func(st *stand) (*server, error) { return st.srv, nil }
	indexed := func(st *stand) (*server, error) {
		if st.side != sideDovecot {
			return st.srv, nil
		}
		if plugins, _ := filepath.Glob("/usr/lib/dovecot/modules/lib*_fts_xapian_plugin.so"); plugins == nil { // the pattern is good
			return nil, neighbour.Missing{Program: "Dovecot's fts_xapian", Package: "dovecot-fts-xapian"}
		}
		s := st.newDovecot(" fts fts_xapian", xapian)
		if err := s.start(); err != nil {
			return nil, err
		}
		st.cleanup(func() { s.stop() })
		return s, nil
	}
	some := z.messages / 10 // Xapian takes 50 ms to index a message
	return []operation{
		{name: "text/indexed", about: fmt.Sprintf("SEARCH BODY in %d messages, indexed; Dovecot with fts_xapian", some), begin: find(some, indexed, rareWord, rareWord[2:7], "xyzzy")},
		{
			name: "text/large", about: fmt.Sprintf("SEARCH BODY in %d messages, few hits", z.big), rounds: 3, begin: find(z.big, usual, rareWord),
			bars: []bar{{max: 0.050, why: "few hits in 100,000 messages"}},
		},
	}
}

// built waits until the server has done nothing for two seconds: what it makes in the
// background is made.
func (s *server) built(st *stand) error {
	if st.quick {
		return nil
	}
	last := time.Duration(-1)
	for range 600 {
		if err := s.rest(st.ctx); err != nil {
			return err
		}
		now, err := s.cpu()
		if err != nil || now == last {
			return err
		}
		last = now
		if err := sleep(st.ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not come to rest", s.name)
}

// indexSize is that of the text index of a Maildir: Roost's or Xapian's.
func indexSize(dir string) (sum int64) {
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went meanwhile
		}
		if strings.HasPrefix(e.Name(), "roost.fts") || strings.Contains(path, "/xapian-indexes/") {
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}
