package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// untouched is a Maildir of n messages on the machine's side that nothing changes.
func (st *stand) untouched(n int) (string, error) {
	user, err := st.unchanging(n)
	return st.maildir(user), err
}

// names of a directory, as a scan reads them.
func names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// readdir of a mailbox of n messages.
func readdir(n int) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		dir, err := st.untouched(n)
		return func(rec *record) error {
			return rec.timed(func() error {
				_, err := names(filepath.Join(dir, "cur"))
				return err
			})
		}, err
	}
}

// statAll looks at each file of n messages.
func statAll(n int) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		dir, err := st.untouched(n)
		return func(rec *record) error {
			return rec.timed(func() error {
				list, err := names(filepath.Join(dir, "cur"))
				for _, name := range list {
					if _, err := os.Stat(filepath.Join(dir, "cur", name)); err != nil {
						return err
					}
				}
				return err
			})
		}, err
	}
}

// readAll reads n messages, one after the other, and gives each to look, where given.
func readAll(n int, look func(text []byte)) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		dir, err := st.untouched(n)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, 1<<20)
		return func(rec *record) error {
			t := time.Now()
			list, err := names(filepath.Join(dir, "cur"))
			if err != nil {
				return err
			}
			total := int64(0)
			for _, name := range list {
				f, err := os.Open(filepath.Join(dir, "cur", name))
				if err != nil {
					return err
				}
				for {
					k, err := f.Read(buf)
					if k == 0 || err != nil {
						break
					}
					total += int64(k)
					if look != nil {
						look(buf[:k])
					}
				}
				f.Close()
			}
			if d := time.Since(t); rec.unit == rate {
				rec.add(float64(total) / d.Seconds())
			} else {
				rec.took(d)
			}
			return nil
		}, nil
	}
}

// lines counts them: what a scan of a message costs at least.
func lines(text []byte) { bytes.Count(text, []byte("\n")) }

// converting gives a function that turns LF into CRLF.
func converting() func(text []byte) {
	var out []byte
	return func(text []byte) {
		out = out[:0]
		for line := range bytes.Lines(text) {
			out = append(append(out, line[:len(line)-1]...), "\r\n"...)
		}
	}
}

// looking gives a function that looks for a word.
func looking(word string) func(text []byte) {
	w := []byte(word)
	return func(text []byte) { bytes.Contains(text, w) }
}

// renaming changes the flags in the names of n files, to and fro.
func renaming(n int) func(st *stand) (step, error) {
	return func(st *stand) (step, error) {
		user, err := st.mailbox(n)
		if err != nil {
			return nil, err
		}
		cur := filepath.Join(st.maildir(user), "cur")
		return func(rec *record) error {
			list, err := names(cur)
			if err != nil {
				return err
			}
			return rec.timed(func() error {
				for _, name := range list {
					to, ok := strings.CutSuffix(name, "T")
					if !ok {
						to = name + "T"
					}
					if err := unix.Rename(filepath.Join(cur, name), filepath.Join(cur, to)); err != nil {
						return err
					}
				}
				return nil
			})
		}, nil
	}
}
