package sysuser

import (
	"strconv"
	"strings"
	"testing"
)

// Whatever getent prints is a user as it says or an error.
func FuzzParse(f *testing.F) {
	for _, line := range []string{"ann:*:61234:61000:Ann:/home/ann:/bin/sh", "", ":", "a:b:c:d:e:f:g", "a:x:-1:0::/:", "a:x:4294967296:0::/:", "a:x:1:2:::"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		u, err := parse(line)
		if err != nil {
			return
		}
		fields := strings.Split(line, ":")
		uid, err1 := strconv.ParseUint(fields[2], 10, 32)
		gid, err2 := strconv.ParseUint(fields[3], 10, 32)
		if err1 != nil || err2 != nil || len(fields) != 7 || u.Name != fields[0] || uint64(u.UID) != uid || uint64(u.GID) != gid || u.Home != fields[5] {
			t.Errorf("%q is %+v", line, u)
		}
	})
}
