package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"

	"roost/server/wire"
	"roost/store"
)

// FETCH and UID FETCH: RFC 9051 section 6.4.5, RFC 3501 section 6.4.5 (the RFC822 items),
// RFC 3516, RFC 7162 section 3.1.4, RFC 9394 section 3.3 (PARTIAL),
// RFC 8970 (PREVIEW), RFC 8514 (SAVEDATE), RFC 8474 (EMAILID, THREADID).
//
// Items are answered in the order in which they were asked, for some clients read
// them so. What the store keeps as notes is copied; a message is opened only
// for what is not there, and its bytes are streamed.

// fetchKind says what an item is made of.
type fetchKind uint8

const (
	fetchUID fetchKind = iota
	fetchFlags
	fetchDate
	fetchSaved
	fetchSize
	fetchModSeq
	fetchPreview
	fetchEmail
	fetchThread
	fetchNote // ENVELOPE, BODYSTRUCTURE, BODY: bytes that are ready
	fetchSection
	fetchBinary
	fetchBinarySize
)

// fetchItem is one data item.
type fetchItem struct {
	kind    fetchKind
	name    string // as the response has it, without its section
	note    store.NoteKind
	bare    bool // RFC822 and its kin: the section is not shown
	peek    bool // does not set \Seen
	lazy    bool // PREVIEW (LAZY): only what is there already
	listed  bool // stands in a list of items
	section section
	partial partial

	label []byte // of an item that is written apart: all that stands before its value
}

// plainItems are the items without a section.
var plainItems = map[string]fetchItem{
	"UID":           {kind: fetchUID},
	"FLAGS":         {kind: fetchFlags},
	"INTERNALDATE":  {kind: fetchDate},
	"SAVEDATE":      {kind: fetchSaved}, // RFC 8514 section 4.2
	"RFC822.SIZE":   {kind: fetchSize},
	"MODSEQ":        {kind: fetchModSeq},
	"PREVIEW":       {kind: fetchPreview},
	"EMAILID":       {kind: fetchEmail}, // RFC 8474 section 5.3
	"THREADID":      {kind: fetchThread},
	"ENVELOPE":      {kind: fetchNote, note: noteEnvelope},
	"BODYSTRUCTURE": {kind: fetchNote, note: noteStructure},
	"BODY":          {kind: fetchNote, note: noteBody},
	"RFC822":        {kind: fetchSection, bare: true},
	"RFC822.HEADER": {kind: fetchSection, bare: true, peek: true, section: section{text: textHeader}},
	"RFC822.TEXT":   {kind: fetchSection, bare: true, section: section{text: textBody}},
}

// sectionItems are the items with one.
var sectionItems = map[string]fetchItem{
	"BODY":        {kind: fetchSection, name: "BODY"},
	"BODY.PEEK":   {kind: fetchSection, name: "BODY", peek: true},
	"BINARY":      {kind: fetchBinary, name: "BINARY"},
	"BINARY.PEEK": {kind: fetchBinary, name: "BINARY", peek: true},
	"BINARY.SIZE": {kind: fetchBinarySize, name: "BINARY.SIZE", peek: true},
}

var fetchMacros = map[string]string{
	"ALL":  "FLAGS INTERNALDATE RFC822.SIZE ENVELOPE",
	"FAST": "FLAGS INTERNALDATE RFC822.SIZE",
	"FULL": "FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY",
}

// maxItems bounds one FETCH; each item costs an answer for each message.
const maxItems = 1000

// parseItems reads the items of a FETCH: one, a macro, or a list.
func parseItems(lex *wire.Lexer) ([]fetchItem, error) {
	var items []fetchItem
	list := false
	one := func() error {
		for {
			atom, err := lex.Atom()
			if err != nil {
				return err
			}
			names := []string{atom}
			if macro, ok := fetchMacros[strings.ToUpper(atom)]; ok {
				names = strings.Fields(macro)
			}
			for _, name := range names {
				item, err := parseItem(lex, name)
				if err != nil {
					return err
				}
				item.listed = list
				items = append(items, item)
			}
			if len(items) > maxItems {
				return bad("Too many data items")
			}
			last := &items[len(items)-1]
			if !list || last.kind != fetchPreview || !lex.Accept(' ') {
				return nil
			}
			if c, err := lex.Peek(); err == nil && c == '(' {
				last.lazy = true
				return lazyList(lex)
			}
			// The blank stood before the next item.
		}
	}
	c, err := lex.Peek()
	if err == nil && c == '(' {
		list = true
		err = lex.List(one)
	} else if err == nil {
		err = one()
	}
	if err == nil && len(items) == 0 {
		err = bad("FETCH asks for nothing")
	}
	return items, err
}

// parseItem reads the item that atom begins: a section stands in it up to the
// first blank or closing bracket.
func parseItem(lex *wire.Lexer, atom string) (fetchItem, error) {
	name, spec, sectioned := strings.Cut(atom, "[")
	name = strings.ToUpper(name)
	if !sectioned {
		item, ok := plainItems[name]
		if !ok {
			return item, bad("Unknown data item %s", shown(atom))
		}
		item.name = name
		return item, nil
	}
	item, ok := sectionItems[name]
	if !ok {
		return item, bad("Unknown data item %s", shown(atom))
	}
	var err error
	if item.section, err = parseSection(lex, spec); err != nil {
		return item, err
	}
	if item.kind != fetchSection && item.section.text != textWhole {
		return item, bad("%s takes the number of a part", name)
	}
	if err := lex.Expect(']'); err != nil {
		return item, err
	}
	if item.kind != fetchBinarySize {
		item.partial, err = parsePartial(lex)
	}
	return item, err
}

// fetchPlan is what a FETCH needs beside the rows.
type fetchPlan struct {
	items   []fetchItem
	kinds   []store.NoteKind // to ask the store for
	open    bool             // each message must be opened
	parts   bool             // and its parts be known
	sized   bool             // and its true size
	size    bool             // RFC822.SIZE, which a row may not know
	measure bool             // a date or a size, which a row may not know before it is measured
	seen    bool             // reading sets \Seen
	flags   bool             // FLAGS is among the items
	mod     bool             // so is MODSEQ
	uid     bool             // so is UID

	onlyUID bool // UID is, and nothing else
	preview bool // PREVIEW is, and not only what is there already
}

// addModSeq has MODSEQ told too.
func (p *fetchPlan) addModSeq() {
	p.items = append(p.items, fetchItem{kind: fetchModSeq})
	p.mod, p.onlyUID = true, false
}

// planOf says what items need. utf8 is that of the encoder that will write them.
func planOf(items []fetchItem, utf8 bool) *fetchPlan {
	p := &fetchPlan{items: items, onlyUID: true}
	ask := func(kind store.NoteKind) {
		if !slices.Contains(p.kinds, kind) {
			p.kinds = append(p.kinds, kind)
		}
	}
	for i, item := range items {
		if item.kind >= fetchNote {
			items[i].label = item.labelled(utf8)
		}
		p.onlyUID = p.onlyUID && item.kind == fetchUID
		switch item.kind {
		case fetchUID:
			p.uid = true
		case fetchFlags:
			p.flags = true
		case fetchModSeq:
			p.mod = true
		case fetchSize:
			p.size, p.measure = true, true
		case fetchDate, fetchSaved:
			p.measure = true
		case fetchPreview:
			ask(notePreview)
			if !item.lazy {
				p.preview = true
				ask(noteParts)
			}
		case fetchEmail:
			ask(noteDigest)
		case fetchNote:
			ask(item.note)
		case fetchSection:
			p.seen = p.seen || !item.peek
			switch sec := item.section; {
			case sec.kept:
				ask(noteFields)
			case sec.byHeader():
				p.open = true
			case sec.text == textWhole && len(sec.path) == 0:
				p.open, p.sized = true, true
			default:
				p.open, p.parts, p.sized = true, true, true
			}
		case fetchBinary, fetchBinarySize:
			p.seen = p.seen || !item.peek
			p.open, p.parts, p.sized = true, true, true
		}
	}
	if p.parts {
		ask(noteParts)
	}
	return p
}

// labelled is what stands before the value of an item: the same in each row.
func (item *fetchItem) labelled(utf8 bool) []byte {
	var b bytes.Buffer
	enc := wire.NewEncoder(&b)
	enc.UTF8 = utf8
	enc.Raw(item.name)
	if item.kind != fetchNote && !item.bare {
		item.section.write(enc, item.partial)
	}
	enc.SP().Flush()
	return b.Bytes()
}

func (p *fetchPlan) slice() int {
	if len(p.kinds) == 0 {
		return plainSlice
	}
	return slice
}

func (p *fetchPlan) has(kind store.NoteKind) bool { return slices.Contains(p.kinds, kind) }

// missing tells whether a note that the items need is not there.
func (p *fetchPlan) missing(notes *rowNotes) bool {
	return slices.ContainsFunc(p.kinds, func(k store.NoteKind) bool {
		return k != noteParts && (k != notePreview || p.preview) && notes.of(k) == nil
	})
}

// header tells whether the header must be read from the message.
func (p *fetchPlan) header(notes *rowNotes) bool {
	if p.has(noteEnvelope) && notes.of(noteEnvelope) == nil || p.has(noteFields) && notes.of(noteFields) == nil {
		return true
	}
	return slices.ContainsFunc(p.items, func(item fetchItem) bool {
		return item.kind == fetchSection && item.section.byHeader() && !item.section.kept
	})
}

// fetcher runs one FETCH.
type fetcher struct {
	s    *session
	box  store.Mailbox
	enc  *wire.Encoder
	uid  bool // UID FETCH
	down bool // from the highest UID to the lowest
	plan *fetchPlan

	notes  []rowNotes   // of the slice at hand
	uids   []imap.UID   // whose they are
	copied []byte       // what notes holds
	chosen []byte       // of a header, for the answer at hand
	seq    uint32       // of the message before, 0 none
	next   []imap.UID   // some behind it in the view: the next row is most often their first
	near   [64]imap.UID // room for next

	crowd     crowd
	opened    bool  // a message, for the row at hand
	answered  int   // in all
	failed    error // of the first message that could not be read: the rest goes on
	failedUID imap.UID
}

// fetch runs FETCH and UID FETCH.
func (s *session) fetch(ctx context.Context, c call) (string, error) {
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	set, err := s.lex.NumSet(c.uid)
	if err != nil {
		return "", err
	}
	if err := s.lex.SP(); err != nil {
		return "", err
	}
	items, err := parseItems(s.lex)
	if err != nil {
		return "", err
	}
	mods, err := s.fetchModifiers(c, items)
	if err != nil {
		return "", err
	}
	var uids []imap.UID
	if mods.partial.text != "" || s.messageLimit() > 0 { // which count what has not changed too
		uids, err = s.sel.resolve(set)
	} else {
		uids, err = s.sel.resolveChanged(set, mods.since)
	}
	if err != nil {
		return "", err
	}
	if mods.partial.text != "" {
		from, to := mods.partial.Of(len(uids))
		if n := s.messageLimit(); n > 0 && to-from > n { // RFC 9738 section 3.1
			return "", no(limitCode(n, 0), "At most %d messages can be fetched at once", n)
		}
		uids = uids[from:to]
	}
	uids, limit := s.limited(uids)
	plan := planOf(items, s.enc.UTF8)
	if mods.changedSince && !plan.mod { // RFC 7162 section 3.1.4.1
		plan.addModSeq()
	}
	if plan.mod {
		if err := s.needsModSeq("MODSEQ"); err != nil {
			return "", err
		}
	}
	if mods.vanished {
		earlier, ok := set.(imap.UIDSet)
		if imap.IsSearchRes(set) || !ok {
			earlier = nil // "$" holds what is there
		}
		if err := s.writeEarlier(earlier, mods.since, 0); err != nil {
			return "", err
		}
	}
	if len(uids) > 1 { // of one there is nothing to tell or to stop between the messages
		watched, stop := s.watched(ctx)
		defer stop()
		ctx = watched
		progress := s.working(false)
		defer progress.stop()
		if !mods.changedSince {
			progress.counted.Of(len(uids))
		}
	}

	f := &fetcher{s: s, box: s.sel.box, enc: s.enc, uid: c.uid, plan: plan, down: limit != "", crowd: newCrowd(&begun)}
	answered, err := f.all(ctx, uids, mods.since)
	switch {
	case err != nil:
		return "", err
	case f.failed != nil:
		r := s.status(f.failed)
		r.text += fmt.Sprintf(" (UID %d)", f.failedUID)
		s.writeLimit(limit)
		return "", r
	case !c.uid && answered < len(uids) && !mods.changedSince:
		if limit != "" {
			s.writeLimit(limit)
			return "", reply{"OK", "EXPUNGEISSUED", "Some of the messages were expunged"}
		}
		return "", store.ErrGone // RFC 2180 section 4.1.2
	case limit != "":
		return "", partly(limit)
	}
	return "", nil
}

// slice is how many messages are answered for between two looks at the notes, and plainSlice
// where there are none to look at.
const (
	slice      = 128
	plainSlice = 512
)

// all answers for those of uids that changed after since and counts them.
func (f *fetcher) all(ctx context.Context, uids []imap.UID, since store.ModSeq) (answered int, err error) {
	if !f.down {
		return f.run(ctx, uids, since)
	}
	for len(uids) > 0 && err == nil {
		from := max(0, len(uids)-slice)
		var n int
		n, err = f.run(ctx, uids[from:], since)
		answered += n
		uids = uids[:from]
	}
	return answered, err
}

// run answers for those of uids that changed after since and counts them.
func (f *fetcher) run(ctx context.Context, uids []imap.UID, since store.ModSeq) (answered int, err error) {
	for all, err := range f.box.Rows(ctx, uids, since) {
		if err == nil && f.plan.measure {
			err = f.box.Measure(ctx, all)
		}
		if err != nil {
			return answered, err
		}
		for rows := range slices.Chunk(all, f.plan.slice()) {
			notes := f.notesOf(ctx, rows)
			if f.plan.flags {
				f.s.writeNewKeywords()
			}
			n, err := f.rows(ctx, rows, notes)
			answered += n
			if err != nil {
				return answered, err
			}
		}
	}
	return answered, nil
}

// rows answers for a slice and counts.
func (f *fetcher) rows(ctx context.Context, rows []store.Row, notes []rowNotes) (answered int, err error) {
	a := f.readAhead(ctx, rows, notes)
	defer a.stop()
	for i := range rows {
		i = f.nth(i, len(rows))
		if err := ctx.Err(); err != nil {
			return answered, err
		}
		switch err := f.row(ctx, a, i, rows[i], &notes[i]); {
		case err == nil:
		case errors.Is(err, store.ErrGone):
			continue
		case errors.Is(err, store.ErrReplaced):
			return answered, err
		case f.failed == nil:
			f.failed, f.failedUID = err, rows[i].UID
		}
		answered++
		f.answered++
		if f.opened || i%16 == 0 { // a row without is too short to look at the time
			f.opened = false
			f.s.progress.step(f.answered)
		}
		if err := f.enc.Err(); err != nil {
			return answered, err
		}
	}
	return answered, nil
}

// nth is the index of the i-th of n rows in the order of the answers.
func (f *fetcher) nth(i, n int) int {
	if f.down {
		return n - 1 - i
	}
	return i
}

// notesOf asks the store for what it keeps with rows.
func (f *fetcher) notesOf(ctx context.Context, rows []store.Row) []rowNotes {
	if len(f.plan.kinds) == 0 && len(rows) <= len(f.notes) {
		return f.notes[:len(rows)] // all are empty
	}
	notes := slices.Grow(f.notes[:0], len(rows))[:len(rows)]
	f.notes = notes
	clear(notes)
	uids := f.uids[:0]
	for i := range rows {
		uids = append(uids, rows[i].UID)
	}
	f.uids = uids
	f.copied = f.copied[:0]
	for _, kind := range f.plan.kinds {
		i := 0
		for uid, b := range f.box.Notes(ctx, uids, kind) {
			for i < len(uids) && uids[i] < uid {
				i++
			}
			if i < len(uids) && uids[i] == uid && b != nil {
				start := len(f.copied)
				f.copied = append(f.copied, b...)
				notes[i].set(kind, f.copied[start:len(f.copied):len(f.copied)])
			}
		}
	}
	return notes
}

// row answers for row i of a slice. All that may fail is done before the first byte
// of the answer, so that an error leaves none; what fails later ends the
// connection, or is NIL.
func (f *fetcher) row(ctx context.Context, a *ahead, i int, row store.Row, notes *rowNotes) error {
	p := f.plan
	var m *opened
	if p.opensFor(row, notes) {
		var err error
		if m, err = f.open(ctx, a, i, row, notes); err != nil {
			return err
		}
		defer m.Close()
		if m.size >= 0 {
			row.Size = m.size
		}
		if err := m.decodable(p.items); err != nil {
			return err
		}
	}
	tell := p.flags
	if p.seen && row.Flags&store.FlagSeen == 0 && !f.s.sel.readOnly {
		// RFC 9051 section 6.4.5: \Seen is set, and told. That it cannot be kept (a full
		// disk) must not keep anyone from reading.
		op := store.FlagOp{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagSeen}}
		rows, _, err := f.box.SetFlags(ctx, []imap.UID{row.UID}, op)
		if err != nil {
			f.s.log.Warn("\\Seen not set", "event", "seen_failed", "uid", row.UID, "err", err)
		} else if len(rows) == 1 {
			now := rows[0]
			now.Internal, now.Saved, now.Size = row.Internal, row.Saved, row.Size
			row, tell = now, true
			f.s.writeNewKeywords()
		}
	}
	if tell && row.ModSeq > f.s.sel.view.ModSeq {
		f.s.sel.answered(row)
	}
	return f.write(&row, m, notes, tell)
}

// seqOf is the sequence number of uid.
func (f *fetcher) seqOf(uid imap.UID) uint32 {
	if len(f.next) == 0 {
		f.next = f.s.sel.view.UIDs.AppendSlice(f.near[:0], int(f.seq), int(f.seq)+len(f.near))
	}
	if len(f.next) > 0 && f.next[0] == uid {
		f.seq++
		f.next = f.next[1:]
	} else {
		f.seq, f.next = f.s.sel.seq(uid), nil
	}
	return f.seq
}

// write writes the answer for one message. What is short is appended to room of the
// encoder, which costs a row of flags a third of what a call for each word of it did.
func (f *fetcher) write(row *store.Row, m *opened, notes *rowNotes, tell bool) (failed error) {
	enc := f.enc
	b := f.s.startFetch(f.seqOf(row.UID), row.UID)
	between := ""
	unasked := tell && !f.plan.flags
	modSeq := unasked && f.s.condstore && !f.s.sel.noModSeq // RFC 7162 section 3.2.4
	if (f.uid || modSeq) && !f.plan.uid && !f.s.uidOnly {
		b = appendUID(b, row.UID)
		between = " "
	}
	if unasked {
		// Before what may be a literal: Mail::IMAPClient takes the rest of a header's answer
		// for header lines.
		b = f.s.appendFlags(append(b, between...), row)
		between = " "
	}
	if modSeq && !f.plan.mod {
		b = f.s.appendModSeq(append(b, between...), row.ModSeq)
	}
	for i := range f.plan.items {
		item := &f.plan.items[i]
		if item.kind == fetchUID && f.s.uidOnly && !f.plan.onlyUID {
			continue // it was told
		}
		b = append(b, between...)
		between = " "
		switch item.kind {
		case fetchUID:
			b = appendUID(b, row.UID)
			continue
		case fetchFlags:
			b = f.s.appendFlags(b, row)
			continue
		case fetchDate:
			b = wire.AppendUnixTime(append(b, "INTERNALDATE "...), row.Internal)
			continue
		case fetchSaved:
			b = wire.AppendUnixTime(append(b, "SAVEDATE "...), row.Saved)
			continue
		case fetchSize:
			b = strconv.AppendUint(append(b, "RFC822.SIZE "...), uint64(row.Size), 10)
			continue
		case fetchModSeq:
			b = f.s.appendModSeq(b, row.ModSeq)
			continue
		case fetchThread:
			b = append(b, "THREADID NIL"...)
			continue
		}
		enc.Write(append(b, item.label...)) // an error stays in enc
		switch item.kind {
		case fetchPreview:
			f.writePreview(m, notes)
		case fetchEmail:
			enc.Raw("EMAILID (").Raw(emailID(ready(noteDigest, m, notes))).Raw(")")
		case fetchNote:
			enc.Write(ready(item.note, m, notes))
		default:
			if err := f.writeBytesOf(item, m, notes); err != nil && failed == nil {
				failed = err
			}
		}
		b = enc.Free(512)
	}
	enc.Write(append(b, ")\r\n"...))
	return failed
}

// ready is a note of the store, or what was derived in its place.
func ready(kind store.NoteKind, m *opened, notes *rowNotes) []byte {
	if m != nil && m.derived.of(kind) != nil {
		return m.derived.of(kind)
	}
	return notes.of(kind)
}

func (f *fetcher) writeBytesOf(item *fetchItem, m *opened, notes *rowNotes) error {
	sec := &item.section
	switch {
	case item.kind == fetchBinary:
		return m.writeBinary(f.enc, *sec, item.partial)
	case item.kind == fetchBinarySize:
		return m.writeBinarySize(f.enc, *sec)
	case sec.kept:
		if b := ready(noteFields, m, notes); b != nil {
			f.chosen = sec.choose(f.chosen, b)
			writeBytes(f.enc, f.chosen, item.partial)
			return nil
		}
	}
	return m.writeSection(f.enc, *sec, item.partial)
}
