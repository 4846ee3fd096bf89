package uidlist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"roost/maildir/fsys"
)

// Names of the files, in the mailbox's control directory.
const (
	Name     = "dovecot-uidlist"
	LockName = "dovecot-uidlist.lock"
	tmpName  = "dovecot-uidlist.tmp"
)

// ErrChanged is returned by Append when the file is not as this process last saw
// it: Refresh, then try again. ErrUsedUp when there is no UID left.
var (
	ErrChanged = errors.New("uidlist changed")
	ErrUsedUp  = errors.New("no UIDs left")
)

// A File is the uidlist of one mailbox as this process last saw it. One goroutine
// at a time, except Sync.
type File struct {
	dir   fsys.Dir
	limit Limits
	env   *Env

	known  bool      // what follows was read
	stat   fsys.Stat // as it was then
	end    int64     // up to here whole lines were read
	torn   bool      // bytes without LF follow
	header Header
	old    bool // version 1: lines of ours must not follow
	last   uint32
	lines  int

	badge *badge    // nil: each lock is a file of its own
	out   fsys.File // open for appending; nil: opened by the next Append
}

// New makes a File for a control directory; nothing is read yet.
func New(dir fsys.Dir, limit Limits, env *Env) *File {
	return &File{dir: dir, limit: limit, env: env}
}

// Header is the header last seen; its Next may be old, Next is not.
func (f *File) Header() Header { return f.header }

// Next is UIDNEXT as last seen.
func (f *File) Next() uint32 { return max(f.header.Next, f.last+1, 1) }

// Lines is how many record lines the file has, dead and damaged ones too.
func (f *File) Lines() int { return f.lines }

// Stat is what the file looked like when it was last read or written by this
// process; false when it was not there or was not read.
func (f *File) Stat() (fsys.Stat, bool) { return f.stat, f.known }

// Wasteful reports whether a quarter of the lines is dead, which is when Dovecot too
// writes the file anew.
func (f *File) Wasteful(live int) bool {
	return f.lines > live && f.lines*3/4 >= live
}

// Lock takes the lock that all writers of the file respect. ErrBusy.
func (f *File) Lock(ctx context.Context) (*Lock, error) {
	l, err := dotlock(ctx, f.dir, LockName, Name, f.env, f.badge)
	if err == nil {
		f.badge = l.badge // gone where it could not be linked
	}
	return l, err
}

// Resume takes the place of the first Refresh where a snapshot knows the records:
// it reads the header only. ok is false, and nothing is known, when the file is not
// the one that st describes. last is the highest UID of its lines, lines their number.
func (f *File) Resume(st fsys.Stat, last uint32, lines int) (ok bool, err error) {
	f.known = false
	file, err := f.dir.Open(Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer file.Close()
	now, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !sameState(now, st) || now.Size == 0 {
		return false, nil
	}
	b := make([]byte, min(now.Size, int64(f.limit.LineBytes)))
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	var end [1]byte
	if _, err := file.ReadAt(end[:], now.Size-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	var l List
	line, _, whole := cutLine(string(b))
	if !whole || end[0] != '\n' || l.parseHeader(line) != nil || l.Version != 3 {
		return false, nil
	}
	f.known, f.stat, f.end, f.torn = true, now, now.Size, false
	f.header, f.old, f.last, f.lines = l.Header, false, last, lines
	return true, nil
}

// Change is what Refresh found.
type Change struct {
	// Missing: there is no file, or an empty one. Whole: Records are all there are.
	// Neither: Records are those that were appended since; one may name a base that an
	// older record had, and then holds instead of it.
	Missing, Whole bool
	Records        []Record
	Bad            int   // damaged lines among those read
	Damage         error // of the header: ErrVersion (no records), ErrHeader (Header().Validity is 0)
}

// Refresh learns what anyone wrote since the last call. It reads only what was
// appended where it can, as Dovecot does: the same inode that grew is taken for the
// same file with lines added. The error is of the file system.
func (f *File) Refresh() (Change, error) {
	// Every delivery comes here, and mostly nobody else wrote. Elsewhere than on a local
	// disk only an open asks the server.
	if f.known && !f.torn && !f.old && !f.dir.Remote() {
		if now, err := f.dir.Stat(Name); err == nil && sameState(now, f.stat) {
			return Change{}, nil
		}
	}
	file, err := f.dir.Open(Name)
	if errors.Is(err, fs.ErrNotExist) {
		f.Forget()
		return Change{Missing: true, Whole: true}, nil
	} else if err != nil {
		return Change{}, err
	}
	defer file.Close()
	now, err := file.Stat()
	if err != nil {
		return Change{}, err
	}
	if f.known && !f.torn && !f.old && now.SameFile(f.stat) {
		if sameState(now, f.stat) {
			return Change{}, nil
		}
		if now.Size > f.stat.Size {
			c, ok, err := f.readTail(file, now)
			if ok || err != nil {
				return c, err
			}
		}
	}
	return f.readWhole(file, now)
}

// Close lets the descriptor go that is kept for appending. The File may be used on.
func (f *File) Close() error {
	if f.out == nil {
		return nil
	}
	err := f.out.Close()
	f.out = nil
	return err
}

// Forget drops what is known: the next Refresh reads all.
func (f *File) Forget() {
	f.Close() // nothing is in it that could be lost
	f.known, f.torn, f.old = false, false, false
	f.stat, f.header, f.last, f.lines, f.end = fsys.Stat{}, Header{}, 0, 0, 0
}

func sameState(a, b fsys.Stat) bool {
	return a.SameFile(b) && a.Size == b.Size && a.Mtime == b.Mtime
}

// readTail reads what was appended. ok is false where it does not simply continue
// what was known; then all must be read.
func (f *File) readTail(file fsys.File, now fsys.Stat) (c Change, ok bool, err error) {
	if now.Size-f.end > f.limit.Bytes {
		return Change{}, false, nil
	}
	b := make([]byte, now.Size-f.end)
	n, err := file.ReadAt(b, f.end)
	if err != nil && !errors.Is(err, io.EOF) {
		return Change{}, false, err
	}
	l := List{Version: 3, Last: f.last}
	if err := l.parseLines(string(b[:n]), f.limit); err != nil || l.Bad > 0 || l.Torn {
		return Change{}, false, nil
	}
	if len(l.Records) == 0 || l.Records[0].UID <= f.last || len(l.Records) != l.Lines {
		return Change{}, false, nil
	}
	f.end += int64(n)
	f.stat, f.last, f.lines = now, l.Last, f.lines+l.Lines
	f.stat.Size = f.end // it may have grown since, which the next call then sees
	return Change{Records: l.Records}, true, nil
}

func (f *File) readWhole(file fsys.File, now fsys.Stat) (Change, error) {
	b, err := fsys.ReadAll(file, f.limit.Bytes)
	if err != nil {
		return Change{}, fmt.Errorf("read %s/%s: %w", f.dir.Path(), Name, err)
	}
	f.Forget()
	if len(b) == 0 {
		return Change{Missing: true, Whole: true}, nil
	}
	l, damage := Parse(b, f.limit)
	f.known, f.stat, f.end, f.torn = true, now, int64(len(b)), l.Torn
	f.stat.Size = f.end
	f.header, f.old, f.last, f.lines = l.Header, l.Version != 3, l.Last, l.Lines
	return Change{Whole: true, Records: l.Records, Bad: l.Bad, Damage: damage}, nil
}

// Append adds records, whose UIDs are ascending from Next, in one write of whole
// lines. The lock must be held, and Refresh called since it was taken (ErrChanged). The
// lines are not synced: Sync does that. Where lines cannot be added to the file as it
// is (its end is torn, its version old) it is rewritten, which is durable.
func (f *File) Append(recs []Record) error {
	if !f.known || f.header.Validity == 0 {
		return fmt.Errorf("append to %s/%s: %w", f.dir.Path(), Name, ErrChanged)
	}
	if len(recs) == 0 {
		return nil
	}
	if err := checkRecords(recs, f.Next()); err != nil {
		return fmt.Errorf("append to %s/%s: %w", f.dir.Path(), Name, err)
	}
	if f.torn || f.old {
		return f.Rewrite(nil, nil, recs)
	}
	if f.out == nil {
		out, err := f.dir.Append(Name)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrChanged, err)
		} else if err != nil {
			return err
		}
		f.out = out
	}
	// The Refresh that came before has seen that the name still means this file.
	file := f.out
	if f.dir.Remote() {
		defer f.Close() // a server learns of what was written by the close
	}
	now, err := file.Stat()
	if err != nil {
		return err
	}
	if !sameState(now, f.stat) {
		f.Close()
		return fmt.Errorf("append to %s/%s: %w", f.dir.Path(), Name, ErrChanged)
	}
	var b []byte
	for _, r := range recs {
		b = r.append(b)
	}
	if _, err := file.Write(b); err != nil {
		// Half a line must not stay: who appends next would be glued to it. The size that
		// we know is then wrong, so that the next call reads all.
		if terr := file.Truncate(f.end); terr != nil {
			err = errors.Join(err, terr)
		}
		f.known = false
		return err
	}
	f.end += int64(len(b))
	f.last = recs[len(recs)-1].UID
	f.lines += len(recs)
	if f.stat, err = file.Stat(); err != nil {
		f.known = false
		return err
	}
	return nil
}

// checkRecords refuses what could not be read again.
func checkRecords(recs []Record, next uint32) error {
	for _, r := range recs {
		if r.UID > MaxUID || next > MaxUID {
			return ErrUsedUp
		}
		if r.UID < next {
			return fmt.Errorf("UID %d is below UIDNEXT %d", r.UID, next)
		}
		if !r.writable() {
			return fmt.Errorf("name %q cannot stand in a uidlist", r.Base)
		}
		next = r.UID + 1
	}
	return nil
}

// Sync makes durable what was appended. It may run beside the other methods.
func (f *File) Sync() error {
	file, err := f.dir.Open(Name)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Datasync()
}

// Rewrite puts a new file in place of the old one, or of none; durable on return.
// The lock must be held. edit (nil: none) changes the header, live (nil: all) says
// which records stay, add (nil: none) are new ones, from Next. What the file says at
// that moment is the base, whoever wrote it. UIDNEXT is never lowered. When edit
// changes UIDVALIDITY, only add is kept, and Next may be anything.
func (f *File) Rewrite(edit func(*Header), live func(Record) bool, add []Record) error {
	l, old, err := f.current()
	if err != nil {
		return err
	}
	before := l.Header.Validity
	l.Header.Next = l.Next()
	if edit != nil {
		floor := l.Header.Next
		edit(&l.Header)
		if before == 0 || l.Header.Validity == before {
			l.Header.Next = max(l.Header.Next, floor)
		} else {
			l.Records, l.Last = nil, 0
		}
	}
	if l.Header.Validity == 0 {
		return fmt.Errorf("rewrite %s/%s: %w", f.dir.Path(), Name, ErrHeader)
	}
	if live != nil {
		l.Records = slices.DeleteFunc(l.Records, func(r Record) bool { return !live(r) })
	}
	if err := checkRecords(add, l.Next()); err != nil {
		return fmt.Errorf("rewrite %s/%s: %w", f.dir.Path(), Name, err)
	}
	l.Records = append(l.Records, add...)
	if len(add) > 0 {
		l.Last = add[len(add)-1].UID
	}
	return f.replace(l, old, fsys.Replace)
}

// Restore writes the whole file from what the caller knows, in place of one that is
// missing or no longer true, in one step; durable on return. The lock must be held. Records
// ascend. UIDNEXT is h.Next, or what the records or the old file ask for beyond it; keys
// of others stay.
func (f *File) Restore(h Header, records []Record) error { return f.restore(h, records, fsys.Replace) }

// Begin is Restore of a file that is not there, and of which nobody was told anything yet. It
// takes one turn of the disk instead of two: a power cut meanwhile may leave a part of it.
func (f *File) Begin(h Header, records []Record) error { return f.restore(h, records, fsys.Put) }

func (f *File) restore(h Header, records []Record, put putFile) error {
	l, old, err := f.current()
	if err != nil {
		return err
	}
	h.Next = max(h.Next, l.Next())
	if h.Others == nil {
		h.Others = l.Header.Others
	}
	if h.Validity == 0 {
		return fmt.Errorf("restore %s/%s: %w", f.dir.Path(), Name, ErrHeader)
	}
	if err := checkRecords(records, 1); err != nil {
		return fmt.Errorf("restore %s/%s: %w", f.dir.Path(), Name, err)
	}
	l = &List{Version: 3, Header: h, Records: records}
	if len(records) > 0 {
		l.Last = records[len(records)-1].UID
	}
	return f.replace(l, old, put)
}

// current reads the file as it is now.
func (f *File) current() (*List, fsys.Stat, error) {
	st, err := f.dir.Stat(Name)
	if errors.Is(err, fs.ErrNotExist) {
		return new(List), fsys.Stat{}, nil
	} else if err != nil {
		return nil, st, err
	}
	b, err := fsys.ReadFile(f.dir, Name, f.limit.Bytes)
	if err != nil {
		return nil, st, err
	}
	l, err := Parse(b, f.limit)
	if err != nil && !errors.Is(err, ErrHeader) && !errors.Is(err, ErrVersion) {
		return nil, st, err // more than we read: writing would lose the rest
	}
	return l, st, nil
}

// putFile is fsys.Replace or fsys.Put.
type putFile func(d fsys.Dir, name, tmp string, data []byte, mode fs.FileMode, durable bool) error

func (f *File) replace(l *List, old fsys.Stat, put putFile) (err error) {
	self, err := f.dir.Self()
	if err != nil {
		return err
	}
	_, mode := self.Modes()
	if l.Header.GUID == "" {
		if l.Header.GUID, err = f.env.NewGUID(); err != nil {
			return err
		}
	}
	f.known = false // until all went well
	f.Close()
	b := l.Append(nil)
	if err := put(f.dir, Name, tmpName, b, mode, true); err != nil {
		return err
	}
	now, err := f.dir.Stat(Name)
	if err != nil {
		return err
	}
	// Dovecot compares mtimes with its index, in seconds: a rewrite within one second, or
	// after the clock was set back, would pass for the old file.
	if now.Mtime/1e9 <= old.Mtime/1e9 && old.Mtime != 0 {
		if err := f.dir.SetTime(Name, time.Unix(old.Mtime/1e9+1, 0)); err != nil {
			return err
		}
		if now, err = f.dir.Stat(Name); err != nil {
			return err
		}
	}
	f.known, f.stat, f.end, f.torn, f.old = true, now, int64(len(b)), false, false
	f.header, f.last, f.lines = l.Header, l.Last, len(l.Records)
	f.header.Next = l.Next()
	return nil
}
