package uidlist

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// dovecot-uidlist, version 3. LF ends each line.
//
//	3 V1288361218 N5 G3085f01b7f11094c501100008c4a11c1        header: keys of one letter
//	1 :1288361220.M39P9.host,S=512,W=530                       UID, " :", base name
//	4 W530 Gother :1288361229.P11.host                         record keys before the colon
//
// Version 1 (old Dovecot, and Courier's courierimapuiddb) is "1 V N" and "UID base".
// Keys that mean nothing to us are kept, in the header and in records. The base name
// is the file's name up to its first colon. Others who write it: Dovecot, with the
// same lock.

// ErrVersion and ErrHeader are what Parse finds wrong with a first line.
var (
	ErrVersion = errors.New("unsupported version")
	ErrHeader  = errors.New("no UIDVALIDITY in the header")
)

// MaxUID is the last UID that a message can have; Dovecot's bound.
const MaxUID = 1<<32 - 2

// farthest is how far a damaged line can push UIDNEXT: its number may be rubbish,
// and what was shown lately lies close to what the whole lines say.
const farthest = 1 << 20

// Limits bound what is read.
type Limits struct {
	Bytes     int64 // of the file
	LineBytes int   // longer lines are damaged ones
	Records   int   // what follows is not read, and the List says so by an error
}

// DefaultLimits fit ten million messages.
var DefaultLimits = Limits{Bytes: 1 << 30, LineBytes: 8 << 10, Records: 10_000_000}

// Header is the first line.
type Header struct {
	Validity uint32 // V, UIDVALIDITY; 0: missing or damaged
	Next     uint32 // N as written, which may be old; 0: missing
	GUID     string // G, 32 hex digits; "" when missing or damaged
	ModSeq   uint64 // R, Roost's mark: no MODSEQ above it was shown; 0: none
	Others   []Key  // all other keys, as found
}

// Key is one key of one letter and its value.
type Key struct {
	Letter byte
	Value  string
}

// Record says which UID a message has.
type Record struct {
	UID  uint32
	Keys string // "W530 Gother": keys A-Z with their values, one space between; "" for none
	Base string // name of the file up to its first colon
}

// Key gives the value of a record key: 'S' size, 'W' size with CRLF, 'G' GUID, 'P'
// and 'O' of POP3, and others' own.
func (r Record) Key(letter byte) (string, bool) {
	for k := range strings.SplitSeq(r.Keys, " ") {
		if k != "" && k[0] == letter {
			return k[1:], true
		}
	}
	return "", false
}

// A List is what a file says.
type List struct {
	Version int // 1 or 3
	Header  Header
	Records []Record // ascending UIDs; no UID and no base name twice
	Lines   int      // record lines in the file, damaged and dead ones too
	Last    uint32   // highest UID that any line claims: none up to here may be given again
	Bad     int      // lines that prove nothing: damaged, or two of them contradict each other
	Torn    bool     // the last line has no LF: nothing may be appended
}

// Next is UIDNEXT. Above MaxUID no message can be added.
func (l *List) Next() uint32 { return max(l.Header.Next, l.Last+1, 1) }

// Parse reads versions 1 and 3. It skips and counts a damaged line, for the lines
// around it still prove their UIDs: order does not matter to us, and where a message
// stands twice its higher UID holds. Where two messages claim one UID neither has it,
// for either may have been shown with it. The error says what is wrong with the
// first line; records are given even so where the version is known (ErrHeader), since
// the caller may know UIDVALIDITY from elsewhere. Records share the memory of one copy
// of b, the header does not.
func Parse(b []byte, limit Limits) (*List, error) {
	l := new(List)
	rest := string(b)
	first, rest, whole := cutLine(rest)
	first = strings.Clone(first) // the header outlives the records
	l.Torn = !whole
	err := l.parseHeader(first)
	if errors.Is(err, ErrVersion) {
		return l, err
	}
	if err == nil && !whole {
		// A power cut left a part of it: of 1795500001 perhaps 1795500.
		l.Header, err = Header{}, ErrHeader
	}
	if lerr := l.parseLines(rest, limit); err == nil {
		err = lerr
	}
	return l, err
}

// parseLines reads records and settles what they contradict each other in.
func (l *List) parseLines(rest string, limit Limits) error {
	ordered := true
	var err error
	for rest != "" {
		if len(l.Records) >= limit.Records {
			err = fmt.Errorf("more than %d records", limit.Records)
			break
		}
		var line string
		line, rest, l.Torn = cutTorn(rest)
		l.Lines++
		rec, ok := Record{}, false
		if len(line) <= limit.LineBytes {
			rec, ok = l.parseRecord(line)
		}
		if !ok {
			l.Bad++
			l.burn(line)
			continue
		}
		if n := len(l.Records); n > 0 && l.Records[n-1].UID >= rec.UID {
			ordered = false
		}
		l.Records = append(l.Records, rec)
		l.Last = max(l.Last, rec.UID)
	}
	if !ordered {
		l.settleUIDs()
	}
	l.settleBases()
	return err
}

func cutTorn(s string) (line, rest string, torn bool) {
	line, rest, whole := cutLine(s)
	return line, rest, !whole
}

// cutLine takes the first line without its end; whole is false when it has no LF.
func cutLine(s string) (line, rest string, whole bool) {
	line, rest, whole = strings.Cut(s, "\n")
	return strings.TrimSuffix(line, "\r"), rest, whole
}

func (l *List) parseHeader(line string) error {
	version, rest, _ := strings.Cut(line, " ")
	switch version {
	case "1":
		l.Version = 1
		v, n, _ := strings.Cut(rest, " ")
		l.Header.Validity, _ = number(v)
		l.Header.Next, _ = number(n)
	case "3":
		l.Version = 3
		l.Header = parseKeys(rest)
	default:
		return fmt.Errorf("%w %.20q", ErrVersion, version)
	}
	if l.Header.Validity == 0 {
		return ErrHeader
	}
	return nil
}

func parseKeys(s string) (h Header) {
	for f := range strings.SplitSeq(s, " ") {
		if f == "" || strings.ContainsAny(f, "\x00\r") {
			continue // a CR is part of a line end, and of nothing that is kept
		}
		switch v := f[1:]; f[0] {
		case 'V':
			h.Validity, _ = number(v)
		case 'N':
			h.Next, _ = number(v)
		case 'G':
			if isGUID(v) {
				h.GUID = v
			}
		case 'R':
			if n, err := strconv.ParseUint(v, 10, 63); err == nil {
				h.ModSeq = n
			} else {
				h.Others = append(h.Others, Key{'R', v}) // not ours
			}
		default:
			if f[0] > ' ' && f[0] < 0x7f {
				h.Others = append(h.Others, Key{f[0], v})
			}
		}
	}
	return h
}

// parseRecord reads one line of the list's version.
func (l *List) parseRecord(line string) (Record, bool) {
	digits, rest, ok := strings.Cut(line, " ")
	uid, isNumber := number(digits)
	if !ok || !isNumber || uid == 0 || uid > MaxUID {
		return Record{}, false
	}
	rec := Record{UID: uid, Base: rest}
	if l.Version == 3 {
		if rec.Keys, rec.Base, ok = parseRecordKeys(rest); !ok {
			return Record{}, false
		}
	}
	// A record that was glued to a torn one: where the first name ended nobody knows.
	if i := strings.Index(rec.Base, " :"); i >= 0 && !strings.HasPrefix(rec.Base[i+2:], "2,") {
		return Record{}, false
	}
	rec.Base, _, _ = strings.Cut(rec.Base, ":")
	if rec.Base == "" || strings.ContainsAny(rec.Base, "/\x00\r") {
		return Record{}, false
	}
	return rec, true
}

// parseRecordKeys parts "S12 W13 :base"; keys that are not A-Z are dropped, as
// Dovecot does.
func parseRecordKeys(s string) (keys, base string, ok bool) {
	if strings.HasPrefix(s, ":") {
		return "", s[1:], true
	}
	keys, base, ok = strings.Cut(s, " :")
	if !ok || strings.ContainsAny(keys, "\x00\r") {
		return "", "", false
	}
	plain := true
	for k := range strings.SplitSeq(keys, " ") {
		plain = plain && k != "" && k[0] >= 'A' && k[0] <= 'Z'
	}
	if !plain {
		var kept []string
		for k := range strings.SplitSeq(keys, " ") {
			if k != "" && k[0] >= 'A' && k[0] <= 'Z' {
				kept = append(kept, k)
			}
		}
		keys = strings.Join(kept, " ")
	}
	return keys, base, true
}

// burn raises Last above the UIDs that a damaged line may have given: the number at
// its start, and, where two lines were glued, the digits before the second colon, of
// which any tail may be the number.
func (l *List) burn(line string) {
	known := uint64(l.Last)
	claim := func(digits string) {
		for ; digits != ""; digits = digits[1:] {
			n, err := strconv.ParseUint(digits, 10, 64)
			if err == nil && n > known && n <= min(known+farthest, MaxUID) {
				l.Last = max(l.Last, uint32(n))
				return
			}
			if len(digits) > 10 {
				digits = digits[len(digits)-10:]
			}
		}
	}
	digits, _, _ := strings.Cut(line, " ")
	if n, ok := number(digits); ok && uint64(n) <= known+farthest && n <= MaxUID {
		l.Last = max(l.Last, n)
	}
	i := strings.LastIndex(line, " :")
	if i == strings.Index(line, " :") {
		return // one record, or none
	}
	head := line[:i]
	for { // over the keys of the second record
		j := strings.LastIndexByte(head, ' ')
		if j < 0 || j+1 == len(head) || head[j+1] < 'A' || head[j+1] > 'Z' {
			break
		}
		head = head[:j]
	}
	claim(head[len(strings.TrimRight(head, "0123456789")):])
}

// settleUIDs sorts, and drops all records of a UID that different messages claim.
func (l *List) settleUIDs() {
	slices.SortStableFunc(l.Records, func(a, b Record) int { return int(int64(a.UID) - int64(b.UID)) })
	kept := l.Records[:0]
	for i := 0; i < len(l.Records); {
		j := i + 1
		same := true
		for ; j < len(l.Records) && l.Records[j].UID == l.Records[i].UID; j++ {
			same = same && l.Records[j].Base == l.Records[i].Base
		}
		if same {
			kept = append(kept, l.Records[j-1]) // the later line: its keys are newer
		} else {
			l.Bad += j - i
		}
		i = j
	}
	clear(l.Records[len(kept):])
	l.Records = kept
}

// settleBases drops the lower UIDs of a message that stands there twice, as Dovecot
// does.
func (l *List) settleBases() {
	if !l.twice() {
		return
	}
	newest := make(map[string]uint32, len(l.Records))
	for _, r := range l.Records {
		newest[r.Base] = r.UID
	}
	if len(newest) < len(l.Records) {
		l.Records = slices.DeleteFunc(l.Records, func(r Record) bool { return newest[r.Base] != r.UID })
	}
}

// twice reports whether a base may stand there twice. A list is read whenever a mailbox is
// opened by it, so this is a table of hashes and no map of names.
func (l *List) twice() bool {
	seed := maphash.MakeSeed()
	seen := make([]uint64, 2*len(l.Records)+1) // open addressing; 0 is free
	for i := range l.Records {
		h := maphash.String(seed, l.Records[i].Base) | 1
		slot, _ := bits.Mul64(h, uint64(len(seen)))
		for ; seen[slot] != 0; slot++ {
			if seen[slot] == h {
				return true
			}
			if slot == uint64(len(seen))-1 {
				slot = ^uint64(0) // goes on at the start
			}
		}
		seen[slot] = h
	}
	return false
}

// Append prints the list as version 3: the header with UIDNEXT in N, then the
// records.
func (l *List) Append(dst []byte) []byte {
	h := l.Header
	h.Next = l.Next()
	size := 256
	for i := range l.Records {
		size += len(l.Records[i].Base) + len(l.Records[i].Keys) + 16
	}
	dst = h.append(slices.Grow(dst, size))
	for _, r := range l.Records {
		dst = r.append(dst)
	}
	return dst
}

func (h Header) append(dst []byte) []byte {
	dst = append(dst, "3 V"...)
	dst = strconv.AppendUint(dst, uint64(h.Validity), 10)
	dst = append(dst, " N"...)
	dst = strconv.AppendUint(dst, uint64(h.Next), 10)
	if h.GUID != "" {
		dst = append(dst, " G"...)
		dst = append(dst, h.GUID...)
	}
	if h.ModSeq != 0 {
		dst = append(dst, " R"...)
		dst = strconv.AppendUint(dst, h.ModSeq, 10)
	}
	for _, k := range h.Others {
		dst = append(dst, ' ', k.Letter)
		dst = append(dst, k.Value...)
	}
	return append(dst, '\n')
}

func (r Record) append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(r.UID), 10)
	if r.Keys != "" {
		dst = append(dst, ' ')
		dst = append(dst, r.Keys...)
	}
	dst = append(dst, " :"...)
	dst = append(dst, r.Base...)
	return append(dst, '\n')
}

// writable reports whether a record can be written so that it is read again.
func (r Record) writable() bool {
	if r.UID == 0 || r.UID > MaxUID || r.Base == "" || r.Keys != "" && strings.ContainsAny(r.Keys, "\r\n\x00:") {
		return false
	}
	for i := range len(r.Base) { // of 100,000 names at once
		if c := r.Base[i]; c <= '\r' && (c == '\r' || c == '\n' || c == 0) || c == '/' || c == ':' {
			return false
		}
	}
	return true
}

func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

func isGUID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}
