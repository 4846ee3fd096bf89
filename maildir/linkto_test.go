package maildir

import (
	"errors"
	"os"
	"testing"
	"time"

	"roost/store"
)

// COPY links each file from the name that is known. Where another program renamed one it
// is found, and where one is gone nothing is copied, not even those before it.
func TestCopyOfRenamedAndGone(t *testing.T) {
	o := openOutside(t, 3, Options{Poll: true, PollEvery: time.Hour}) // nobody tells of what follows
	o.must(o.a.Create(t.Context(), "Archive", nil))
	uids := o.v.UIDs.Slice(0, 3)
	o.must(os.Rename(o.path("cur/"+o.base(1)+":2,"), o.path("cur/"+o.base(1)+":2,S")))
	c, err := o.box.Copy(t.Context(), uids, "Archive")
	if err != nil || len(c.To) != 3 {
		t.Fatalf("%v, %v", c, err)
	}
	count := func(dir string) int {
		list, err := os.ReadDir(o.path(dir))
		o.must(err)
		return len(list)
	}
	if n := count(".Archive/cur") + count(".Archive/new"); n != 3 || count(".Archive/tmp") != 0 {
		t.Errorf("%d files are there, %d in tmp/", n, count(".Archive/tmp"))
	}
	o.must(os.Remove(o.path("cur/" + o.base(2) + ":2,")))
	if _, err := o.box.Copy(t.Context(), uids, "Archive"); !errors.Is(err, store.ErrGone) {
		t.Errorf("of a message that is gone: %v", err)
	}
	if n := count(".Archive/cur") + count(".Archive/new"); n != 3 || count(".Archive/tmp") != 0 {
		t.Errorf("then %d files are there, %d in tmp/", n, count(".Archive/tmp"))
	}
}
