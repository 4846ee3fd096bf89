package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"roost/auth"
	"roost/maildir/fsys"
)

// What the server needs of the machine. Of users it is not known what they will do:
// each is taken to have five connections, on as many mailboxes.
const (
	perUser     = 5
	watchesEach = 3 // cur, new and the mailbox itself
	filesEach   = 7 // directories of a mailbox, roost.lock
	lingering   = 10_000
	instances   = 10 // eight for mail, one for certificates, one for the password file
	queue       = 16_384
)

// machine looks at limits and clock.
func (d *doctor) machine(context.Context) {
	connections := min(d.config.Limits.Connections, perUser*max(d.users, 1))
	d.inotify(connections)
	d.descriptors(connections)
	d.isolation()
	if now := d.now(); now.Year() < 2026 {
		d.add("clock-wrong", finding{Where: "clock", What: "it says " + now.Format(time.DateTime), Do: "set it: certificates seem not to have begun, and mail seems to come from the future", Run: "timedatectl set-ntp true"})
	} else if !d.synced() {
		d.add("clock-unsynced", finding{Where: "clock", What: "the kernel says that nothing keeps it right", Do: "timedatectl set-ntp true, or chrony"})
	}
}

// isolation looks at whether the server can confine itself.
func (d *doctor) isolation() {
	want := d.config.Isolation.Landlock
	if want == "off" {
		return
	}
	weight := remark
	if want == "required" {
		weight = ill
	}
	if abi := d.landlock(); abi < 2 {
		d.add("isolation-none", finding{Weight: weight, Where: "kernel", What: fmt.Sprintf("its Landlock has version %d, and Roost needs 2: files that are not Roost's are guarded by their modes alone", abi),
			Do: "Linux 5.19 or later, with landlock among lsm= on its command line; docs/isolation.md"})
		return
	}
	users, _, err := d.everybody()
	if err != nil {
		return // told already
	}
	if _, err := mailRoots(d.config, func() []auth.User { return users }); errors.Is(err, errNoRoots) {
		if want == "auto" {
			weight = ailing
		}
		d.add("isolation-roots", finding{Weight: weight, Where: d.path, What: err.Error(), Do: "then restart Roost: docs/isolation.md"})
	}
}

// sysctl reads a number; false where it is not there.
func (d *doctor) sysctl(name string) (int, bool) {
	b, err := os.ReadFile(filepath.Join(d.proc, "sys", strings.ReplaceAll(name, ".", "/")))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

// inotify compares its limits with what is needed, beside what other programs of the
// user have.
func (d *doctor) inotify(connections int) {
	k, _ := d.keeper()
	uid := k.uid
	if d.server != nil {
		uid = d.server.UID
	}
	others, watches := d.inotifyOf(uid)
	mailboxes := min(d.boxes.Mailboxes, connections+lingering)
	for _, l := range []struct {
		kind, name string
		need       int
		what       string
	}{
		{"inotify-watches", "fs.inotify.max_user_watches", watches + watchesEach*mailboxes, plural(mailboxes, "mailbox", "mailboxes")},
		{"inotify-instances", "fs.inotify.max_user_instances", others + instances, "Roost"},
		{"inotify-queue", "fs.inotify.max_queued_events", queue, "a mailbox that is changed as a whole"},
	} {
		have, ok := d.sysctl(l.name)
		if !ok || have >= l.need {
			continue
		}
		want := 1
		for want < 2*l.need {
			want *= 2
		}
		if l.kind == "inotify-queue" {
			want = queue
		}
		d.add(l.kind, finding{Where: l.name, What: fmt.Sprintf("it is %d, and %s may need %d, with what user %s has besides", have, l.what, l.need, userName(uid)),
			Do: "what does not fit is looked at every 5 seconds instead; write it to /etc/sysctl.d/60-roost.conf too, and restart Roost", Run: fmt.Sprintf("sysctl -w %s=%d", l.name, want)})
	}
}

// inotifyOf counts what other processes of a user than the server have, as far as it
// may be seen.
func (d *doctor) inotifyOf(uid int) (instances, watches int) {
	dirs, _ := filepath.Glob(filepath.Join(d.proc, "[0-9]*"))
	for _, dir := range dirs {
		fi, err := os.Stat(dir)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if err != nil || int(fi.Sys().(*syscall.Stat_t).Uid) != uid || d.server != nil && pid == d.server.PID {
			continue
		}
		fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
		for _, fd := range fds {
			if target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err != nil || target != "anon_inode:inotify" {
				continue
			}
			instances++
			b, _ := os.ReadFile(filepath.Join(dir, "fdinfo", fd.Name()))
			watches += strings.Count(string(b), "\ninotify ")
		}
	}
	return instances, watches
}

// descriptors compares the server's limit, or what it would start with, with what is
// needed.
func (d *doctor) descriptors(connections int) {
	mailboxes := min(d.boxes.Mailboxes, connections)
	need := 64 + connections + filesEach*mailboxes
	var have int
	f := finding{}
	if d.server != nil {
		b, err := os.ReadFile(filepath.Join(d.proc, strconv.Itoa(d.server.PID), "limits"))
		if err != nil {
			return
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
				if w := strings.Fields(rest); len(w) > 0 {
					have, _ = strconv.Atoi(w[0]) // "unlimited" is 0
				}
			}
		}
		f.Where = fmt.Sprintf("process %d", d.server.PID)
	} else {
		var lim syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
			return
		}
		have = int(min(lim.Max, 1<<31-1)) // Go raises its own to the hard limit
		f.Where = "ulimit -n"
	}
	if have == 0 || have >= need {
		return
	}
	f.What = fmt.Sprintf("there may be %d descriptors, and %s with %s need %d", have, count(connections, "connection"), plural(mailboxes, "mailbox", "mailboxes"), need)
	f.Do = fmt.Sprintf("write LimitNOFILE=%d into its unit (systemctl edit roost), or ulimit -n %[1]d before it, and restart it", 2*need)
	d.add("descriptors", f)
}

// space looks at the room that is left beside a directory of mail.
func (d *doctor) space(path string) {
	bytes, files, err := d.room(path)
	if err != nil {
		return
	}
	need := uint64(d.config.Limits.Message)
	switch {
	case bytes < need:
		d.add("disk-full", finding{Where: path, What: fmt.Sprintf("%s are free, less than one message may have (limits.message is %s)", sizeOf(bytes), sizeOf(need)), Do: "make room: df -h " + shellWord(path)})
	case files < 1000:
		d.add("disk-full", finding{Where: path, What: fmt.Sprintf("only %d more files can be made", files), Do: "make room for inodes: df -i " + shellWord(path)})
	}
}

func sizeOf(n uint64) string {
	for _, u := range []string{"bytes", "KiB", "MiB", "GiB"} {
		if n < 10_000 {
			return fmt.Sprintf("%d %s", n, u)
		}
		n >>= 10
	}
	return fmt.Sprintf("%d TiB", n)
}

// freeRoom is what a user who is not root may still write.
func freeRoom(path string) (bytes, files uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	files = st.Ffree
	if st.Files == 0 { // a filesystem without a table of inodes: btrfs
		files = 1 << 40
	}
	return st.Bavail * uint64(st.Bsize), files, nil
}

// clockSynced asks the kernel whether somebody keeps its clock right. Without an answer
// it is taken for right.
func clockSynced() bool {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return true
	}
	return t.Status&unix.STA_UNSYNC == 0
}

func device(fi os.FileInfo) uint64 { return uint64(fi.Sys().(*syscall.Stat_t).Dev) }

// lockName is how /proc/locks names a file.
func lockName(st fsys.Stat) string {
	return fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
}
