package session

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/server/wire"
	"roost/store"
)

// selected is the mailbox that a session has open, and what the client knows of it.
type selected struct {
	name     store.Name
	unnamed  bool // the client cannot know that it has this name now
	box      store.Mailbox
	readOnly bool // EXAMINE, or the mailbox cannot be written
	noModSeq bool // the mailbox has no MODSEQs (RFC 7162 section 3.1.2.2)

	view     store.View // the client's sequence numbers are its indexes
	recent   []imap.UID // \Recent for this session, ascending (RFC 3501 section 2.3.2)
	foretold foretold   // what an idling client was told of before it had UIDs
	keywords int        // how many of the mailbox's keywords FLAGS has named

	// told holds, by UID, the newest state that an answer of a command already gave;
	// Advance comes to it later, and it is not repeated then.
	told map[imap.UID]store.ModSeq

	// shown is the highest MODSEQ that the command at hand has told; 0 none.
	shown store.ModSeq

	// untold is the lowest MODSEQ of the changed flags that NOTIFY kept from the client;
	// 0 none.
	untold store.ModSeq

	ownAdded []imap.UID       // by this client, and not told yet: no FETCH tells of them
	contexts []*searchContext // searches that are kept up to date (context.go)

	saved []imap.UID // "$": the result of SEARCH RETURN (SAVE), ascending (RFC 5182)
}

// maxTold bounds told; beyond it changes are repeated, which harms nothing.
const maxTold = 1 << 16

// seq is the sequence number of uid, 0 when the client does not know it.
func (sel *selected) seq(uid imap.UID) uint32 {
	i, ok := sel.view.UIDs.Find(uid)
	if !ok {
		return 0
	}
	return uint32(i) + 1
}

// cursor is the MODSEQ with which the client may come back and miss nothing.
func (sel *selected) cursor() store.ModSeq {
	if sel.untold > 0 {
		return min(sel.view.ModSeq, sel.untold-1)
	}
	return sel.view.ModSeq
}

// answered notes that the client was sent the flags of row.
func (sel *selected) answered(row store.Row) {
	if sel.told == nil {
		sel.told = make(map[imap.UID]store.ModSeq)
	}
	if len(sel.told) < maxTold {
		sel.told[row.UID] = row.ModSeq
	}
}

// knows reports whether the client was sent the flags of row, or nothing of it yet
// that row contradicts.
func (sel *selected) knows(row store.Row) bool {
	return row.ModSeq <= sel.view.ModSeq || sel.wasTold(row)
}

// wasTold reports whether an answer of a command gave this state already.
func (sel *selected) wasTold(row store.Row) bool { return sel.told[row.UID] == row.ModSeq }

// indexes is a range of indexes of a view, to excluded.
type indexes struct{ from, to int }

// resolve gives the UIDs that set names in the view, ascending, each once.
// Sequence numbers that no message has are BAD (RFC 9051 section 9, seq-number);
// UIDs that no message has are passed over.
func (sel *selected) resolve(set imap.NumSet) ([]imap.UID, error) {
	if imap.IsSearchRes(set) {
		return sel.searchResult(), nil
	}
	ranges, err := sel.ranges(set)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, r := range ranges {
		n += r.to - r.from
	}
	uids := make([]imap.UID, 0, n)
	for _, r := range ranges {
		uids = sel.view.UIDs.AppendSlice(uids, r.from, r.to)
	}
	return uids, nil
}

// resolveChanged is resolve without messages of which the store knows that they have not
// changed since. It costs what has.
func (sel *selected) resolveChanged(set imap.NumSet, since store.ModSeq) ([]imap.UID, error) {
	if since == 0 || imap.IsSearchRes(set) {
		return sel.resolve(set)
	}
	changed, known, err := sel.box.Changed(since, sel.view)
	if err != nil {
		return nil, err
	}
	if !known {
		return sel.resolve(set)
	}
	ranges, err := sel.ranges(set)
	if err != nil {
		return nil, err
	}
	uids := changed[:0]
	for _, uid := range changed {
		at, ok := sel.view.UIDs.Find(uid)
		for len(ranges) > 0 && ranges[0].to <= at {
			ranges = ranges[1:]
		}
		if ok && len(ranges) > 0 && ranges[0].from <= at {
			uids = append(uids, uid)
		}
	}
	return uids, nil
}

// ranges is resolve without the UIDs, for a set that is not "$".
func (sel *selected) ranges(set imap.NumSet) ([]indexes, error) {
	var out []indexes
	add := func(from, to int) {
		if from < to {
			out = append(out, indexes{from, to})
		}
	}
	col := sel.view.UIDs
	n := col.Len()
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			first, last := r.Start, r.Stop
			if first == 0 {
				first = uint32(n)
			}
			if last == 0 {
				last = uint32(n)
			}
			if n == 0 || int64(max(first, last)) > int64(n) {
				return nil, bad("No message has sequence number %s: the mailbox has %d", imap.SeqSet{r}.String(), n)
			}
			add(int(min(first, last))-1, int(max(first, last)))
		}
	case imap.UIDSet:
		if n == 0 {
			return nil, nil
		}
		newest := col.At(n - 1)
		for _, r := range set {
			first, last := r.Start, r.Stop
			if first == 0 {
				first = newest
			}
			if last == 0 {
				last = newest
			}
			first, last = min(first, last), max(first, last)
			from, _ := col.Find(first)
			to, ok := col.Find(last)
			if ok {
				to++
			}
			add(from, to)
		}
	}
	// "n:*" beyond the end, turned round, may begin before what stands in front of it.
	slices.SortFunc(out, func(a, b indexes) int { return a.from - b.from })
	return joinIndexes(out), nil
}

func joinIndexes(in []indexes) []indexes {
	out := in[:0]
	for _, r := range in {
		if k := len(out) - 1; k >= 0 && r.from <= out[k].to {
			out[k].to = max(out[k].to, r.to)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// searchResult is "$" as far as its messages are still in the view.
func (sel *selected) searchResult() []imap.UID {
	var out []imap.UID
	for _, uid := range sel.saved {
		if _, ok := sel.view.UIDs.Find(uid); ok {
			out = append(out, uid)
		}
	}
	return out
}

// tellChanges moves the view on and writes what that brings.
func (s *session) tellChanges(ctx context.Context, how tell) error {
	sel := s.sel
	if sel == nil || how == tellNothing {
		return nil
	}
	n := s.notify
	if n != nil && !n.selected.messages && !s.expunged {
		return nil // RFC 5465 section 3.1: the client wants to be told of nothing
	}
	s.push.clear()
	old := sel.view
	coming := 0
	if sel.foretold.messages > 0 {
		coming, _ = sel.box.Coming() // before Advance, which then has what came of it
	}
	view, d, err := sel.box.Advance(old, how == tellAll)
	if err != nil {
		return err
	}
	var changed []imap.UID
	if len(sel.contexts) > 0 {
		s.expungeResults(old, d.Vanished)
		for _, row := range d.Changed {
			changed = append(changed, row.UID)
		}
	}
	sel.view = view
	if n != nil && !n.selected.flags {
		for _, row := range d.Changed {
			if !sel.wasTold(row) && (sel.untold == 0 || row.ModSeq < sel.untold) {
				sel.untold = row.ModSeq
			}
		}
		d.Changed = nil
	}
	s.writeDelta(old, d)
	if coming == 0 {
		s.takeBack()
	}
	if n != nil && d.Grown || len(sel.contexts) > 0 {
		if err := s.tellFresh(ctx, old, changed); err != nil {
			return err
		}
	}
	if how == tellAll {
		sel.told = nil // the view is the newest now, and all of told is behind it
	}
	return nil
}

// writeDelta tells the way from the view old to the session's. EXPUNGE comes
// first, each by the number that its message has then (RFC 9051 section 7.5.1).
func (s *session) writeDelta(old store.View, d store.Delta) {
	sel := s.sel
	vanished := s.uidOnly || s.qresync && !sel.noModSeq // RFC 9586; RFC 7162 section 3.2.10.2
	if vanished && len(d.Vanished) > 0 {
		s.enc.Raw("* VANISHED ").Raw(string(wire.AppendSet(nil, d.Vanished))).CRLF()
	}
	for i, uid := range d.Vanished {
		at, ok := old.UIDs.Find(uid)
		if !ok {
			continue
		}
		if !vanished {
			s.enc.Untagged(uint32(at + 1 - i)).Raw("EXPUNGE\r\n")
		}
		delete(sel.told, uid)
	}
	if len(d.Vanished) > 0 {
		sel.recent = slices.DeleteFunc(sel.recent, func(uid imap.UID) bool {
			_, gone := slices.BinarySearch(d.Vanished, uid)
			return gone
		})
	}
	if d.Grown {
		sel.recent = append(sel.recent, d.Recent...)
		s.writeGrown(int(d.Exists)-old.UIDs.Len()+len(d.Vanished), len(d.Recent))
	}
	fresh := slices.DeleteFunc(d.Changed, sel.wasTold)
	if len(d.Changed) > 0 || d.Grown {
		s.writeNewKeywords()
	}
	if s.condstore {
		// A client may keep the MODSEQ of each line as its cursor, and be cut off behind it:
		// what comes later must not be below (RFC 7162 section 3.2).
		slices.SortStableFunc(fresh, func(a, b store.Row) int { return cmp.Compare(a.ModSeq, b.ModSeq) })
	}
	for _, row := range fresh {
		if n := sel.seq(row.UID); n > 0 {
			s.writeFlagsFetch(n, row, true)
		}
	}
}

// writeRecent tells how many messages are \Recent; IMAP4rev2 knows none.
func (s *session) writeRecent() {
	if !s.rev2 {
		s.enc.Untagged(uint32(len(s.sel.recent))).Raw("RECENT\r\n")
	}
}

// writeNewKeywords sends FLAGS again when the mailbox got keywords that the client
// was not told of: some clients show only those (RFC 9051 section 7.3.5).
func (s *session) writeNewKeywords() {
	info := s.sel.box.Info()
	if len(info.Keywords) != s.sel.keywords {
		s.writeFlagsLines(info)
	}
}

// writeFlagsFetch writes the FETCH that tells the flags of row. Those who know
// MODSEQs get UIDs along with them (RFC 7162 section 3.2.4).
func (s *session) writeFlagsFetch(seq uint32, row store.Row, uid bool) {
	s.writeFetch(seq, row, uid, true)
}

// writeModSeqFetch writes a FETCH without FLAGS, for a client that asked for silence.
func (s *session) writeModSeqFetch(seq uint32, row store.Row) {
	s.writeFetch(seq, row, true, false)
}

// startFetch begins what is told of a message, to the parenthesis. It is appended to room
// of the encoder, which is handed what follows too in one piece.
func (s *session) startFetch(seq uint32, uid imap.UID) []byte {
	b := append(s.enc.Free(512), "* "...)
	if s.uidOnly {
		b = strconv.AppendUint(b, uint64(uid), 10)
		return append(b, " UIDFETCH ("...)
	}
	b = strconv.AppendUint(b, uint64(seq), 10)
	return append(b, " FETCH ("...)
}

func (s *session) writeFetch(seq uint32, row store.Row, uid, flags bool) {
	modSeq := s.condstore && !s.sel.noModSeq
	b := s.startFetch(seq, row.UID)
	between := ""
	if (uid || modSeq) && !s.uidOnly {
		b = appendUID(b, row.UID)
		between = " "
	}
	if flags {
		b = s.appendFlags(append(b, between...), &row)
		between = " "
	}
	if modSeq {
		b = s.appendModSeq(append(b, between...), row.ModSeq)
	}
	s.enc.Write(append(b, ")\r\n"...)) // an error stays in enc
}

func appendUID(b []byte, uid imap.UID) []byte {
	return strconv.AppendUint(append(b, "UID "...), uint64(uid), 10)
}

// appendFlags appends FLAGS with those of row, \Recent among them for those who know it.
func (s *session) appendFlags(b []byte, row *store.Row) []byte {
	b = append(b, "FLAGS ("...)
	empty := len(b)
	b = append(b, systemFlags[row.Flags&allFlags]...)
	add := func(name string) {
		if len(b) > empty {
			b = append(b, ' ')
		}
		b = append(b, name...)
	}
	for _, k := range row.Keywords.Names() {
		add(k)
	}
	if !s.rev2 && len(s.sel.recent) > 0 {
		if _, ok := slices.BinarySearch(s.sel.recent, row.UID); ok {
			add(`\Recent`)
		}
	}
	return append(b, ')')
}

// allFlags has the bit of every system flag.
const allFlags = store.FlagDraft<<1 - 1

// systemFlags are the lists of system flags, by their bits.
var systemFlags = func() (lists [allFlags + 1]string) {
	for bits := range lists {
		var names []string
		for _, f := range store.Flags(bits).Names() {
			names = append(names, string(f))
		}
		lists[bits] = strings.Join(names, " ")
	}
	return lists
}()

// rowsOf reads the rows of uids at once: a command on many messages reads them in
// chunks instead.
func (s *session) rowsOf(ctx context.Context, uids []imap.UID, newer store.ModSeq) ([]store.Row, error) {
	var out []store.Row
	for rows, err := range s.sel.box.Rows(ctx, uids, newer) {
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}
