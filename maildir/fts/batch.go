package fts

import (
	"io"
	"math/rand/v2"
	"slices"

	"roost/message"
)

const (
	runDocs  = 256     // messages of a run: their numbers take a byte
	runPairs = 2 << 20 // trigrams of a run's messages, at 8 bytes each with what sorting takes

	// BatchDocs is how many messages make a full batch, whose runs take 10 to 20 MB.
	BatchDocs = 16 * runDocs

	// batchBytes ends a batch early that has grown big.
	batchBytes = 24 << 20

	// A message with so many trigrams, and one in so few bytes, is noise: indexing it costs
	// more than looking through it each time.
	noiseTrigrams = 64 << 10
	noiseShare    = 8
	maxTrigrams   = 1 << 20

	// wholeSize is up to what size a message is read at once.
	wholeSize = 1 << 20
)

// Source is a message as store.Message gives it.
type Source interface {
	io.ReaderAt
	Size() (int64, error)
	WriteRange(w io.Writer, off, n int64) (int64, error)
}

// A Batch gathers messages for Index.Add. It takes about 30 MB when full. One goroutine.
type Batch struct {
	// Breathe, if not nil, is called every 32 KiB of text, or about that: others may run.
	Breathe func()

	breath int // bytes of text since

	docs  []doc // of the run
	pairs []uint32
	sort  []uint32
	runs  []part
	size  int // bytes of the runs
	count int // messages in all
	last  uint32

	// Of the message at hand.
	seen     []uint64 // a bit for each trigram
	trigrams []uint32
	text     int64  // bytes of folded text
	window   uint32 // the last bytes of the passage
	filled   int    // how many there are, up to 2

	scan   *message.Scanner
	folder message.Folder
	raw    []byte
}

// NewBatch makes an empty batch.
func NewBatch() *Batch {
	b := &Batch{scan: message.NewScanner(message.Common)}
	b.scan.Lean = true
	b.folder.W = gatherer{b}
	return b
}

// Len is how many messages there are; Full tells that it is time to add them.
func (b *Batch) Len() int   { return b.count }
func (b *Batch) Full() bool { return b.count >= BatchDocs || b.size >= batchBytes }

// Last is the highest UID so far.
func (b *Batch) Last() uint32 { return b.last }

// Add takes the text of a message, whose UID is above all before. With an error of reading
// nothing was taken.
func (b *Batch) Add(uid, sum uint32, m Source) error {
	ok, err := b.read(m)
	if err != nil {
		b.forget()
		return err
	}
	if n := len(b.trigrams); n > noiseTrigrams && int64(n) > b.text/noiseShare || n > maxTrigrams {
		ok = false
	}
	if !ok {
		b.forget()
		sum = 0
	}
	b.end(uid, sum)
	return nil
}

// AddUnknown takes a message that is never ruled out.
func (b *Batch) AddUnknown(uid uint32) { b.end(uid, 0) }

// read gathers the trigrams of a message. It is not ok where searches may see its parts
// differently.
func (b *Batch) read(m Source) (ok bool, err error) {
	if b.seen == nil {
		b.seen = make([]uint64, 1<<24/64)
	}
	size, err := m.Size()
	if err != nil {
		return false, err
	}
	if size <= wholeSize {
		whole := wholeMessage{b.raw[:0]}
		if _, err := m.WriteRange(&whole, 0, size); err != nil {
			return false, err
		}
		b.raw = whole.b
		m = &whole
	}
	b.scan.Reset()
	if _, err := m.WriteRange(b.scan, 0, size); err != nil {
		return false, err
	}
	parts := b.scan.Finish()
	if !message.Within(parts, message.Common) {
		return false, nil
	}
	for p := range message.Passages(parts) {
		if ok, err = b.passage(m, p); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// passage gathers the trigrams of one passage. It is not ok where its text ended early.
func (b *Batch) passage(m Source, p message.Passage) (ok bool, err error) {
	rg := p.Range()
	if !p.Header {
		b.begin()
		// What fails here is the decoder of a charset, and so it does for a search.
		failed := &decoding{w: message.NewTextWriter(p.Part, &b.folder)}
		_, err := m.WriteRange(failed, rg.Off, rg.Len)
		if failed.err != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if err := failed.w.Close(); err != nil {
			return false, nil
		}
		b.folder.End()
		return true, nil
	}
	header := wholeMessage{}
	if w, ok := m.(*wholeMessage); ok {
		header.b = w.b[min(rg.Off, int64(len(w.b))):min(rg.End(), int64(len(w.b)))]
	} else if _, err := m.WriteRange(&header, rg.Off, rg.Len); err != nil {
		return false, err
	}
	for f := range message.Fields(header.b) {
		b.begin()
		message.WriteField(&b.folder, f)
		b.folder.End()
	}
	return true, nil
}

// decoding notes the error of its writer, to tell it from one of reading.
type decoding struct {
	w   io.WriteCloser
	err error
}

func (d *decoding) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.err = err
	return n, err
}

// begin starts a passage or a field of a header: no text reaches from one into the next.
func (b *Batch) begin() {
	b.window, b.filled = 0, 0
	b.folder.Reset()
}

// gatherer takes folded text.
type gatherer struct{ b *Batch }

func (g gatherer) Write(p []byte) (int, error) {
	b := g.b
	n := len(p)
	b.text += int64(n)
	for ; b.filled < 2 && len(p) > 0; b.filled++ {
		b.window = b.window<<8 | uint32(p[0])
		p = p[1:]
	}
	window, seen, trigrams := b.window, b.seen, b.trigrams
	for _, c := range p {
		window = (window<<8 | uint32(c)) & (1<<24 - 1)
		if bit := uint64(1) << (window & 63); seen[window>>6]&bit == 0 {
			seen[window>>6] |= bit
			trigrams = append(trigrams, window)
		}
	}
	b.window, b.trigrams = window, trigrams
	if b.breath += n; b.breath >= 32<<10 {
		b.breathe()
	}
	return n, nil
}

func (b *Batch) breathe() {
	b.breath = 0
	if b.Breathe != nil {
		b.Breathe()
	}
}

// forget drops what was gathered of the message at hand.
func (b *Batch) forget() {
	for _, t := range b.trigrams {
		b.seen[t>>6] = 0
	}
	b.trigrams, b.text = b.trigrams[:0], 0
	if cap(b.trigrams) > maxTrigrams {
		b.trigrams = nil
	}
}

// end puts what was gathered of a message into the run.
func (b *Batch) end(uid, sum uint32) {
	if len(b.docs) == runDocs || len(b.docs) > 0 && len(b.pairs)+len(b.trigrams) > runPairs {
		b.endRun()
	}
	n := uint32(len(b.docs))
	b.docs = append(b.docs, doc{uid, sum})
	for _, t := range b.trigrams {
		b.pairs = append(b.pairs, t<<8|n)
	}
	b.count++
	b.last = uid
	b.forget()
}

// endRun makes a segment of the run.
func (b *Batch) endRun() {
	if len(b.docs) == 0 {
		return
	}
	b.sortPairs()
	var mem memory
	w := newSegmentWriter(&mem, 0, slices.Clone(b.docs), b.docs[0].uid, b.docs[len(b.docs)-1].uid, rand.Uint32()) // #nosec G404 -- a salt of checksums, against old bytes and no enemy
	var list []uint32
	for i := 0; i < len(b.pairs); {
		t := b.pairs[i] >> 8
		list = list[:0]
		for ; i < len(b.pairs) && b.pairs[i]>>8 == t; i++ {
			list = append(list, b.pairs[i]&0xff)
		}
		w.add(t, list)
		if i&0xfff == 0 {
			b.breathe()
		}
	}
	size, _ := w.finish() // memory does not fail
	s, err := openSegment(mem, 0, size)
	if err != nil {
		panic("fts: a segment in memory cannot be read: " + err.Error())
	}
	b.runs = append(b.runs, part{segment: s, kept: w.docs})
	b.size += int(size)
	b.docs, b.pairs = b.docs[:0], b.pairs[:0]
}

// sortPairs sorts by trigram, 12 bits at once; messages came in order, and stay so.
func (b *Batch) sortPairs() {
	if cap(b.sort) < len(b.pairs) {
		b.sort = make([]uint32, cap(b.pairs))
	}
	from, to := b.pairs, b.sort[:len(b.pairs)]
	for _, shift := range []uint{8, 20} {
		var at [1 << 12]int
		for _, p := range from {
			at[p>>shift&0xfff]++
		}
		sum := 0
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for _, p := range from {
			k := p >> shift & 0xfff
			to[at[k]] = p
			at[k]++
		}
		from, to = to, from
		b.breathe()
	}
}

// memory is a file in memory.
type memory []byte

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := off + int64(len(p)); need > int64(len(*m)) {
		*m = append(*m, make([]byte, need-int64(len(*m)))...)
	}
	return copy((*m)[off:], p), nil
}

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off > int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// wholeMessage is a message that was read at once.
type wholeMessage struct{ b []byte }

func (w *wholeMessage) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}
func (w *wholeMessage) Size() (int64, error)                    { return int64(len(w.b)), nil }
func (w *wholeMessage) ReadAt(p []byte, off int64) (int, error) { return memory(w.b).ReadAt(p, off) }
func (w *wholeMessage) WriteRange(to io.Writer, off, n int64) (int64, error) {
	off = min(off, int64(len(w.b)))
	k, err := to.Write(w.b[off:min(off+n, int64(len(w.b)))])
	return int64(k), err
}
