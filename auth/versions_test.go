package auth

import (
	"os"
	"testing"
	"time"
)

// A file with a time of last year or of next year (cp -p, rsync -t, a clock that was wrong)
// settles like another; before that, each look at it would read it.
func TestFileWithAForeignTimeSettles(t *testing.T) {
	path := writeFile(t, "ann:{PLAIN}secret\n")
	for _, d := range []time.Duration{-365 * 24 * time.Hour, 0, time.Hour, 365 * 24 * time.Hour} {
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := stampOf(fi, time.Time{}).ctime
		if s := stampOf(fi, changed.Add(settle-1)); !s.young {
			t.Errorf("%v from now: settled at once", d)
		}
		if s := stampOf(fi, changed.Add(settle)); s.young {
			t.Errorf("%v from now: never settles", d)
		}
	}
}
