package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"sync"

	"roost/maildir/fsys"
)

// roost.cache: notes in the order in which they were put. Little-endian.
//
//	0   8  magic "RoostCa" and version 1
//	8   4  UIDVALIDITY
//	12  4  CRC-32C of what is before
//	... notes: u32 UID | u16 kind | u16 0 | u32 length | u32 CRC-32C of the bytes |
//	           u32 CRC-32C of these 16 bytes | the bytes
//
// A later note replaces an earlier one of the same UID and kind; one of the kind
// ffff, which has no bytes, takes away all notes of its UID that are before it. Reading
// ends at the first header that is not whole; what follows it is lost.

// Name of the file, in the mailbox's index directory.
const (
	Name       = "roost.cache"
	tmpName    = "roost.cache.tmp"
	magic      = "RoostCa\x01"
	fileHeader = 16
	noteHeader = 20

	// forget is the kind that takes away.
	forget = 0xffff

	// pendingBytes is how much gathers before it is written.
	pendingBytes = 32 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Limits bound the cache; what goes beyond them is not kept.
type Limits struct {
	Bytes int64 // of the file; 0 is 1 GiB
	Note  int   // of one note; 0 is 1 MiB
}

// Note is one note to put.
type Note struct {
	UID  uint32
	Kind uint16
	Data []byte
}

// A Cache holds the notes of one mailbox. Safe for concurrent use.
type Cache struct {
	dir      fsys.Dir
	mode     fs.FileMode
	validity uint32
	limit    Limits

	mu       sync.RWMutex // guards what follows; All reads the file under its read side
	loaded   bool
	broken   bool      // nothing is written until the next Release
	file     fsys.File // nil: there is none, or not loaded
	writable bool      // file was opened for writing
	table    table
	size     int64  // of the file; pending lies behind it
	pending  []byte // notes not yet written
	wasted   int64  // bytes of notes that were replaced
}

// New makes a Cache for an index directory; nothing is read yet.
func New(dir fsys.Dir, mode fs.FileMode, validity uint32, limit Limits) *Cache {
	if limit.Bytes == 0 {
		limit.Bytes = 1 << 30
	}
	if limit.Note == 0 {
		limit.Note = 1 << 20
	}
	return &Cache{dir: dir, mode: mode, validity: validity, limit: limit}
}

// rlock takes the read side of mu once the table is loaded.
func (c *Cache) rlock() {
	c.mu.RLock()
	for !c.loaded {
		c.mu.RUnlock()
		c.mu.Lock()
		c.loadLocked()
		c.mu.Unlock()
		c.mu.RLock()
	}
}

// readLocked reads the note at an offset and checks it.
func (c *Cache) readLocked(buf []byte, at int64, uid uint32, kind uint16) ([]byte, bool) {
	var head [noteHeader]byte
	if !c.readAtLocked(head[:], at) {
		return nil, false
	}
	h, ok := parseHeader(head[:])
	if !ok || h.uid != uid || h.kind != kind || int64(h.length) > int64(c.limit.Note) {
		return nil, false
	}
	n := len(buf)
	buf = append(buf, make([]byte, h.length)...)
	if !c.readAtLocked(buf[n:], at+noteHeader) || crc32.Checksum(buf[n:], castagnoli) != h.sum {
		return nil, false
	}
	return buf, true
}

func (c *Cache) readAtLocked(b []byte, at int64) bool {
	if at >= c.size {
		i := at - c.size
		return i+int64(len(b)) <= int64(len(c.pending)) && copy(b, c.pending[i:]) == len(b)
	}
	if c.file == nil {
		return false
	}
	n, _ := c.file.ReadAt(b, at)
	return n == len(b)
}

// Put keeps notes; they are written when enough came together, or at Flush. A note
// above the limits is not kept, and that is no error.
func (c *Cache) Put(notes ...Note) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loadLocked()
	if c.broken {
		return nil
	}
	for _, n := range notes {
		end := max(c.size, fileHeader) + int64(len(c.pending))
		if len(n.Data) > c.limit.Note || end+noteHeader+int64(len(n.Data)) > c.limit.Bytes {
			continue
		}
		if old, ok := c.table.find(keyOf(n.UID, n.Kind)); ok {
			c.wasted += c.lengthLocked(old)
		}
		if c.size == 0 {
			// An empty file gets its header with the first notes.
			c.pending = appendFileHeader(c.pending, c.validity)
			if err := c.flushLocked(); err != nil {
				return err
			}
		}
		c.table.put(keyOf(n.UID, n.Kind), c.size+int64(len(c.pending)))
		c.pending = appendNote(c.pending, n)
		if len(c.pending) >= pendingBytes {
			if err := c.flushLocked(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forget drops all notes of one message.
func (c *Cache) Forget(uid uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loadLocked()
	n := c.table.remove(uid)
	if n == 0 || c.broken {
		return nil
	}
	c.wasted += int64(n) * noteHeader // at least
	c.pending = appendNote(c.pending, Note{UID: uid, Kind: forget})
	return c.flushLocked()
}

// lengthLocked is what a note takes in the file.
func (c *Cache) lengthLocked(at int64) int64 {
	var head [noteHeader]byte
	if !c.readAtLocked(head[:], at) {
		return 0
	}
	h, _ := parseHeader(head[:])
	return noteHeader + int64(h.length)
}

// Flush writes what Put gathered. After an error nothing more is written until
// Release; what is in the file stays good.
func (c *Cache) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

func (c *Cache) flushLocked() (err error) {
	if len(c.pending) == 0 || c.broken {
		return nil
	}
	defer func() {
		if err != nil {
			// The table may point at what was not written: all is forgotten.
			c.dropLocked()
			c.loaded, c.broken = true, true
		}
	}()
	if !c.writable {
		f, err := c.dir.Update(Name, c.mode)
		if err != nil {
			return err
		}
		if c.file != nil {
			c.file.Close()
		}
		c.file, c.writable = f, true
		// What lies behind the last whole note, or is another's cache.
		if err := f.Truncate(c.size); err != nil {
			return err
		}
	}
	if _, err := c.file.WriteAt(c.pending, c.size); err != nil {
		if terr := c.file.Truncate(c.size); terr != nil {
			err = errors.Join(err, terr)
		}
		return err
	}
	c.size += int64(len(c.pending))
	c.pending = c.pending[:0]
	return nil
}

// Wasteful reports whether Compact would free half the file, given how many
// messages live.
func (c *Cache) Wasteful(live func(uid uint32) bool) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.loaded || c.size < 64<<10 {
		return false
	}
	dead, all := 0, 0
	for k := range c.table.all {
		all++
		if !live(uint32(k >> 16)) {
			dead++
		}
	}
	// Notes of one mailbox are alike in size: their number is measure enough.
	return all > 0 && c.wasted+(c.size-c.wasted)*int64(dead)/int64(all) > c.size/2
}

// Compact writes a new file with the notes of those messages that live, in place of
// the old one.
func (c *Cache) Compact(live func(uid uint32) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loadLocked()
	if c.broken {
		return nil
	}
	f, err := c.createTmp()
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	c.table.merge() // in order, so that the new table is built in order
	size, fresh, err := c.copyLocked(f, live)
	if err == nil {
		err = c.dir.Rename(tmpName, c.dir, Name)
	}
	if err != nil {
		f.Close()
		c.dir.Remove(tmpName) // best effort: the first error is the one to tell
		return fmt.Errorf("compact: %w", err)
	}
	if c.file != nil {
		c.file.Close()
	}
	c.file, c.writable, c.size, c.pending, c.wasted = f, true, size, nil, 0
	c.table = fresh
	return nil
}

func (c *Cache) createTmp() (fsys.File, error) {
	f, err := c.dir.Create(tmpName, c.mode)
	if errors.Is(err, fs.ErrExist) {
		if err := c.dir.Remove(tmpName); err != nil { // left by a crash
			return nil, err
		}
		f, err = c.dir.Create(tmpName, c.mode)
	}
	return f, err
}

func (c *Cache) copyLocked(f fsys.File, live func(uid uint32) bool) (size int64, fresh table, err error) {
	b := appendFileHeader(nil, c.validity)
	var data []byte
	for k, at := range c.table.all {
		uid, kind := uint32(k>>16), uint16(k)
		if !live(uid) {
			continue
		}
		note, ok := c.readLocked(data[:0], at, uid, kind)
		if !ok {
			continue
		}
		data = note
		fresh.put(k, size+int64(len(b)))
		if b = appendNote(b, Note{uid, kind, note}); len(b) >= pendingBytes {
			n, err := f.Write(b)
			if err != nil {
				return 0, table{}, err
			}
			size += int64(n)
			b = b[:0]
		}
	}
	n, err := f.Write(b)
	return size + int64(n), fresh, err
}

// Release writes what is pending and frees the memory and the descriptor; the next
// call loads again.
func (c *Cache) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flushLocked()
	c.dropLocked()
	return err
}

func (c *Cache) dropLocked() {
	if c.file != nil {
		c.file.Close() // nothing is buffered below us
	}
	c.file, c.writable, c.loaded, c.broken = nil, false, false, false
	c.table, c.size, c.pending, c.wasted = table{}, 0, nil, 0
}

type header struct {
	uid         uint32
	kind        uint16
	length, sum uint32
}

func parseHeader(b []byte) (h header, ok bool) {
	h = header{
		uid:    binary.LittleEndian.Uint32(b),
		kind:   binary.LittleEndian.Uint16(b[4:]),
		length: binary.LittleEndian.Uint32(b[8:]),
		sum:    binary.LittleEndian.Uint32(b[12:]),
	}
	return h, binary.LittleEndian.Uint32(b[16:]) == crc32.Checksum(b[:16], castagnoli)
}

func appendNote(b []byte, n Note) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, n.UID)
	b = binary.LittleEndian.AppendUint16(b, n.Kind)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(n.Data)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(n.Data, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return append(b, n.Data...)
}

func appendFileHeader(b []byte, validity uint32) []byte {
	at := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, validity)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}
