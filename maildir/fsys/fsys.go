package fsys

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// ErrNotRegular is wrapped by the errors of opening what is there but is no
// regular file: a symbolic link, a directory, a fifo. ErrNotDir by those of Sub.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrNotDir     = errors.New("not a directory")
)

// FS opens the directories that the configuration names; all others are reached
// from them. Paths are absolute. Safe for concurrent use.
type FS interface {
	// Root opens a directory; links in its path are followed, for an admin wrote it.
	Root(path string) (Dir, error)

	// Make opens a directory after creating it, and its parents, where missing.
	Make(path string, mode fs.FileMode) (Dir, error)

	// Under opens a directory below base. Links are followed, but only to what lies
	// below base too. rel may have several components.
	Under(base, rel string) (Dir, error)
}

// A Dir is one held directory. Names are single components: "", ".", ".." and
// names with a slash or NUL fail with fs.ErrInvalid. Errors are *fs.PathError, or
// *os.LinkError where two names are concerned, and wrap the errno. Safe for
// concurrent use; Close lets calls under way finish.
type Dir interface {
	// Open opens a regular file for reading. ErrNotRegular.
	Open(name string) (File, error)

	// OpenStat is Open with what Stat tells of the file, which costs a call less than both.
	OpenStat(name string) (File, Stat, error)

	// Create makes a file that must not be there yet (fs.ErrExist), for reading and
	// writing. The mode is exact, whatever the umask.
	Create(name string, mode fs.FileMode) (File, error)

	// Append opens a regular file so that every Write goes to its end at once;
	// readable too. ErrNotRegular.
	Append(name string) (File, error)

	// Update opens a regular file for reading and writing in place, made empty with
	// mode when missing. ErrNotRegular.
	Update(name string, mode fs.FileMode) (File, error)

	// Link gives the file old a second name in to. fs.ErrExist. Where links are not
	// possible (EXDEV, EMLINK, EPERM, EOPNOTSUPP) the caller copies.
	Link(old string, to Dir, name string) error

	// Move gives a file another name, never in place of one that is there
	// (fs.ErrExist). It is one atomic rename where the filesystem can, else a link and
	// an unlink: a crash between them leaves both names on one inode.
	Move(old string, to Dir, name string) error

	// Rename gives a file or directory another name, in place of what is there.
	Rename(old string, to Dir, name string) error

	// Remove removes a file or link; Rmdir an empty directory.
	Remove(name string) error
	Rmdir(name string) error

	// Mkdir makes a directory. The mode is exact, whatever the umask; a set-group-ID
	// bit that is inherited stays.
	Mkdir(name string, mode fs.FileMode) error

	// Stat tells of a name without following a link; Self of the directory itself.
	Stat(name string) (Stat, error)
	Self() (Stat, error)

	// Readlink tells where a link points.
	Readlink(name string) (string, error)

	// Names yields what the directory holds, without "." and "..", in no order.
	// The type bits of kind are those of fs.FileMode (0: a regular file), fs.ModeIrregular
	// where the filesystem does not tell; Stat does. A file renamed meanwhile may come
	// under either name, both, or none.
	Names(yield func(name string, kind fs.FileMode) bool) error

	// NamesOnce is Names for who opened the directory just now, for himself, and asks at most
	// once: it needs no descriptor of its own.
	NamesOnce(yield func(name string, kind fs.FileMode) bool) error

	// SetTime sets a file's mtime (and atime).
	SetTime(name string, t time.Time) error

	// Sync makes durable which names the directory holds.
	Sync() error

	// Together makes calls whose order is all one, and which others must not need done in
	// turn: syncs that wait at once share what the disk does. At most togetherMost run at a
	// time. It returns when all have, with an error of one that failed.
	Together(calls ...func() error) error

	// Sub opens a directory below. Links are not followed. ErrNotDir.
	Sub(name string) (Dir, error)

	// Path is where the directory was when it was opened: for fsnotify and messages.
	Path() string

	// Remote reports whether the filesystem may change without events: NFS, SMB,
	// FUSE, 9p and the like.
	Remote() bool

	// Writable reports whether this process may make and rename things here: its rights,
	// and how the filesystem is mounted.
	Writable() bool

	Close() error
}

// File is one open regular file.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	Stat() (Stat, error)
	Truncate(size int64) error
	Sync() error     // bytes and metadata
	Datasync() error // bytes, and the metadata needed to read them
	// TryLock takes the flock(2) of the file, held until Close; false when another
	// has it.
	TryLock() (bool, error)
	Close() error
}

// Stat is what fstatat tells, as a plain value. Times are nanoseconds since 1970.
type Stat struct {
	Ino, Dev     uint64
	Size         int64
	Mtime, Ctime int64
	Nlink        uint64
	Mode         fs.FileMode
	UID, GID     uint32
}

// SameFile reports whether both tell of one inode.
func (s Stat) SameFile(t Stat) bool { return s.Ino == t.Ino && s.Dev == t.Dev }

// ModTime is the mtime as a time.
func (s Stat) ModTime() time.Time { return time.Unix(0, s.Mtime) }

// Modes are the permissions with which things are made below a mailbox's
// directory: its own, and for files those without the execute bits, as Dovecot does.
func (s Stat) Modes() (dir, file fs.FileMode) { return s.Mode & 0o777, s.Mode & 0o666 }
