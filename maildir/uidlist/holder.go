package uidlist

import (
	"time"

	"roost/maildir/fsys"
)

// Holder is what a dotlock tells an onlooker, who does not wait for it.
type Holder struct {
	PID   int    // 0: it names none
	Host  string // "" : it names none
	Since time.Time
	Left  bool // nobody holds it: who wants the lock next takes it away
}

// ReadLock looks at a dotlock. The error is fs.ErrNotExist where there is none.
func ReadLock(dir fsys.Dir, name, guarded string, env *Env) (Holder, error) {
	st, err := dir.Stat(name)
	if err != nil {
		return Holder{}, err
	}
	b, err := fsys.ReadFile(dir, name, lockBytes)
	if err != nil {
		return Holder{}, err
	}
	file, _ := dir.Stat(guarded) // none: its times are zero
	h := Holder{Since: time.Unix(0, max(st.Mtime, st.Ctime))}
	h.PID, h.Host = signer(string(b))
	// How long it stood still is not known to one who has just come: its times say it.
	still := max(env.Now().Sub(h.Since), 0)
	l := Lock{dir: dir, name: name}
	h.Left = l.stale(string(b), still, st, file, env)
	return h, nil
}
