package index

import (
	"errors"
	"time"

	"roost/maildir/fsys"
)

// roost.index: a snapshot, then a log. Integers of fixed size are little-endian, all
// others varints of encoding/binary.
//
//	8        magic "RoostIx" and version 3
//	... blocks: u32 length of the payload | u32 CRC-32C of kind and payload, going on
//	            from that of the block before | u8 kind | payload
//
//	kind 1   head
//	kind 2   words: number of messages; keyword sets; infos of file names. The sets, and
//	         the infos, are numbered from 1 in the order in which they come
//	kind 3   names: bases of file names, each behind its length, in any order and more
//	         than there are messages; numbered from 0
//	kind 4   rows: up to 1,024 messages, ascending UIDs, of fixed size: see rows.go
//	kind 5   vanished: MODSEQs, ascending, and UIDs of expunges
//	kind 6   end of the snapshot: number of rows
//	kind 7   log: changes of one moment, all or none: time, highest MODSEQ given, UIDNEXT,
//	         then each behind its letter
//	           'K' keyword set, with the next number
//	           'R' row: new, or in place of the one with its UID; it carries its info
//	           'G' UID and MODSEQ of an expunge
//	           'H' head: Stamps and Clean hold until a change follows
//	kind 8   summary of all before it: see summary.go. Found by the end of the file
//
// Names and rows lie there as in memory, so that an open copies them and no more.
//
// A cache of one UIDVALIDITY and one boot, written by the owner of roost.lock only.

// Name of the file, in the mailbox's index directory.
const (
	Name    = "roost.index"
	tmpName = "roost.index.tmp"
)

// ErrNone says that there is no index that can be believed.
var ErrNone = errors.New("no usable roost.index")

// Head is what holds for the mailbox as a whole.
type Head struct {
	Validity uint32 // UIDVALIDITY
	Next     uint32 // UIDNEXT: every UID is below it
	ModSeq   uint64 // highest that was given: no row and no expunge is above it
	Lines    uint32 // record lines of the uidlist, for uidlist.File.Resume
	Last     uint32 // highest UID of these lines

	// Since: the list of vanished messages has every expunge above this MODSEQ.
	Since uint64

	// Boot is the boot of the machine in which the file was written; "" when that is
	// not known.
	Boot string

	// Clean: the mailbox was closed, and all that was ever shown is in here.
	Clean bool

	Stamps Stamps
	At     int64 // when the stamps were taken, nanoseconds since 1970
}

// maxModSeq is the largest that a client can be told (RFC 7162 section 3.1).
const maxModSeq = 1<<63 - 1

// Stamps are what the mailbox's directories and files looked like when the index
// said all that is in them.
type Stamps struct {
	Cur, New, UIDList Stamp
	Letters, Extra    Stamp // dovecot-keywords, roost-keywords
}

// Stamp tells one state of a file or directory from another; zero when it is not
// there.
type Stamp struct {
	Ino          uint64
	Size         int64 // of files; 0 for directories, where it means nothing
	Mtime, Ctime int64 // nanoseconds since 1970
}

// StampOf takes what a Stamp needs.
func StampOf(st fsys.Stat) Stamp {
	s := Stamp{Ino: st.Ino, Mtime: st.Mtime, Ctime: st.Ctime}
	if st.Mode.IsRegular() {
		s.Size = st.Size
	}
	return s
}

// coarse is the granularity of the worst clock of a file system.
const coarse = int64(2 * time.Second)

// Trusted reports whether nothing changed since the stamps were taken, as far as stamps
// can tell within one boot. A directory that was changed within 2 s before that may have
// changed again within the same tick of its clock, and is not trusted: leave a mailbox
// alone for 2 s before its stamps are written down.
func (h Head) Trusted(now Stamps) bool {
	if h.Stamps != now || now.Cur.Ino == 0 || now.New.Ino == 0 || now.UIDList.Ino == 0 {
		return false
	}
	for _, s := range now.each() {
		if max(s.Mtime, s.Ctime) > h.At-coarse {
			return false
		}
	}
	return true
}

func (s *Stamps) each() []*Stamp {
	return []*Stamp{&s.Cur, &s.New, &s.UIDList, &s.Letters, &s.Extra}
}

// Row is one message in the log. A Base that was read must not be changed.
type Row struct {
	UID      uint32
	ModSeq   uint64
	Size     int64 // with CRLF; -1 not known
	Internal int64 // INTERNALDATE, unix seconds
	Flags    uint8
	InNew    bool   // the file lies in new/
	Keywords uint32 // number of the keyword set, from 1 in Sets; 0 none
	Base     []byte // name of the file up to its first colon
	Info     string // the rest of it: ":2,S"
}

// Vanished is one expunge.
type Vanished struct {
	UID    uint32
	ModSeq uint64
}
