// Package position holds the newest position of every client: the table of the
// newest lines (S1 to S3), the order in which they changed (H3), who is near a
// point (L1) and when they are forgotten (S4).
//
// It is pure state. It knows nothing of connections, neighbours' names, NATS or
// files, starts no goroutine and has no clock of its own: whoever calls says
// what time it is.
package position

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"math"
	"sync"
	"time"
	"unsafe"

	"herd/edge/wire"
)

// A Kind says what an Op asks for.
type Kind uint8

const (
	// Put merges a line that came from a neighbour or the journal: S2 alone
	// decides (C11), and a new client is stored whatever MaxClients and MaxBytes are (C18).
	Put Kind = iota
	// PutOwn merges the line of an IAMAT that this edge received: C11, MaxClients
	// and MaxBytes count. The client is one of this edge's from then on (D1).
	PutOwn
	// PutKept merges a line that this edge's journal holds: as Put, and the client
	// is one of this edge's (D2).
	PutKept
	// Get asks for the line held for a client.
	Get
)

// An Outcome says what became of an Op.
type Outcome uint8

const (
	Stored  Outcome = iota // Put: newer than what was held; it has a new revision (S3)
	Held                   // Put: the same bytes were held. Get: Line is what is held
	Older                  // Put: what is held is newer (S2)
	Same                   // PutOwn: held with this time and location (C11)
	Expired                // Put: past HERD_RETAIN, stored from nowhere (S4)
	Full                   // PutOwn: a new client beyond MaxClients or MaxBytes (C18)
	Unknown                // Get: nothing is held for the client (C13)
)

// An Op is one step of a batch. Fill it with PreparePut,
// PreparePutOwn, PreparePutKept or PrepareGet.
type Op struct {
	Kind    Kind
	Outcome Outcome
	// Revision is that of the record held after the step, 0 where none is.
	Revision uint64
	// Line is the AT line with its LF: as given for Put, what is held for Get
	// (in room of the Op's own that its next PrepareGet uses again).
	Line []byte
	// Slot is where the record is while the client is known, and Kept that the
	// journal holds the very line that is held after the step (D3). For PutOwn and PutKept.
	Slot uint32
	Kept bool
	// Behind is, for PutOwn, by how many nanoseconds of effective time (S2) it is older than
	// what is held, where its Outcome is Older, or Expired and a newer line is held; else 0.
	Behind int64

	client   []byte
	clientAt uint8 // where it begins in Line
	stamp    int64
	receipt  int64
	hash     uint64
	point    wire.Point // where Line says that the client is, if the table keeps the index
	cell     Cell       // of the point
	was      wire.Point // where fetch found the client,
	from     Cell       // and its cell
	likely   uint32     // slot + 1 of what fetch found: to be checked; 0: nothing
	room     []byte

	sequence uint64 // PutKept
}

// A Source says from where the lines of a batch come: the neighbour numbered
// Neighbour (1 to MaxNeighbours) in the epoch that its message named (H4). The zero
// Source is none of them: a client or the journal.
type Source struct {
	Neighbour int
	Epoch     string
}

// MaxNeighbours is for how many neighbours the table remembers what they hold. One
// with a higher number is just sent everything, which is harmless (H4).
const MaxNeighbours = 32

// Config is what a table is made with.
type Config struct {
	Retain     time.Duration // S4; 0 is for ever
	MaxClients int           // C18; 0 is no limit
	MaxBytes   int           // that the table may take before new clients are refused (C18); 0 is no limit
	Journal    bool          // a journal reads along: what becomes this edge's own is a change for it (D1)
	Live       bool          // clients are found by where they are, too, and may be followed (L)
}

// A Table keeps one record a client. All methods may be called from any
// goroutine.
type Table struct {
	retain     int64
	maxClients int
	maxBytes   int
	journal    bool
	seed       maphash.Seed

	mu             sync.Mutex // held for one batch, one read or one step of forgetting; never over I/O
	index          index
	records        records
	lines          arena
	changes        changes
	grid           *grid // nil where Config.Live is off; the pointer never changes
	head           uint64
	holders        [MaxNeighbours + 1]holder
	waiting        []*Reader
	forgot         uint64
	own, sequenced int    // records with own, and those with a sequence
	sweep          uint32 // the next slot to look at for Forget
	fetched        uint64 // of no meaning; see fetch

	followed bool   // what is forgotten is a change for the one who follows, and keeps its slot (L4)
	since    uint64 // the newest revision when that began
}

// A record is what is kept of a client besides its line. It has no pointer.
type record struct {
	revision  uint64 // 0 is a free slot
	effective int64  // S2; negative: it was forgotten, and keeps its slot (L4)
	sequence  uint64 // the last one of the client's key in the journal that is known; 0: none (D5)
	holders   uint32 // bit h-1: neighbour h has this line; see holder
	place     uint32 // of the line in the arena; of a free slot: the next free one
	size      uint16 // of the line
	clientLen uint16
	clientAt  uint8
	origin    origin // from whom the line came, and whether effective is the client's own time
	own       bool   // this edge has accepted an IAMAT of the client, or its journal had (D1)
	kept      bool   // the journal holds this line
}

// A holder is what is known of the neighbour with this number: its epoch as the
// last message that taught us named it, and the newest revision of ours at the
// moment when that epoch took the place of another, or came in doubt; 0 for the first. A record's bit
// counts only if it got its revision later: so a new epoch makes all older knowledge
// void (H4) without a look at a single record.
type holder struct {
	epoch string
	floor uint64
}

const (
	recordChunk      = 1 << 10
	recordChunkBytes = recordChunk * int(unsafe.Sizeof(record{}))
)

// records is a growing array in chunks that stay where they are.
type records struct {
	chunks []*[recordChunk]record
	used   uint32
	free   uint32 // first free slot + 1
	live   int
	gone   int // forgotten, in slots that they keep (L4)
}

func (r *records) at(slot uint32) *record {
	return &r.chunks[slot/recordChunk][slot%recordChunk]
}

func (r *records) take() uint32 {
	r.live++
	if r.free != 0 {
		slot := r.free - 1
		r.free = r.at(slot).place
		return slot
	}
	slot := r.used
	if int(slot/recordChunk) == len(r.chunks) {
		r.chunks = append(r.chunks, new([recordChunk]record))
	}
	r.used++
	return slot
}

// growth is by how many bytes the array grows if a slot is taken next.
func (r *records) growth() int {
	if r.free == 0 && int(r.used/recordChunk) == len(r.chunks) {
		return recordChunkBytes
	}
	return 0
}

func (r *records) release(slot uint32) {
	*r.at(slot) = record{place: r.free}
	r.free = slot + 1
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = math.MaxInt
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = math.MaxInt
	}
	t := &Table{retain: int64(cfg.Retain), maxClients: cfg.MaxClients, maxBytes: cfg.MaxBytes, journal: cfg.Journal, seed: maphash.MakeSeed()}
	if cfg.Live {
		t.grid = newGrid(maphash.Bytes(t.seed, nil))
	}
	return t
}

// PreparePut makes op a Put of line, from which at was parsed. line is a whole AT
// line with its LF and must stay as it is until the batch has been applied.
func (t *Table) PreparePut(op *Op, line []byte, at *wire.AT) {
	op.Kind, op.Outcome, op.Revision, op.Kept = Put, 0, 0, false
	op.Line, op.client, op.stamp, op.receipt = line, at.Client, at.Stamp, at.Receipt
	op.clientAt = uint8(len("AT ") + len(at.Edge) + len(" ") + len(at.Skew) + len(" "))
	if t.grid != nil {
		op.point = at.Point
		op.cell = CellAt(gridLevel, op.point)
		op.was.Lat = nowhere
	}
	op.hash = maphash.Bytes(t.seed, at.Client)
}

// PreparePutOwn makes op a PutOwn of line, the AT line that answers the IAMAT m, with its
// LF, received at this Unix time in nanoseconds. line and what m's client is a part of
// must stay as they are until the batch has been applied.
func (t *Table) PreparePutOwn(op *Op, line []byte, m *wire.IAMAT, receipt int64) {
	op.Kind, op.Outcome, op.Revision, op.Kept, op.Behind = PutOwn, 0, 0, false, 0
	op.Line, op.client, op.stamp, op.receipt = line, m.Client, m.Stamp, receipt
	op.clientAt = uint8(len(line) - len(m.Client) - len(" ") - len(m.Location) - len(" ") - len(m.Time) - len("\n"))
	if t.grid != nil {
		op.point = m.Point
		op.cell = CellAt(gridLevel, op.point)
		op.was.Lat = nowhere
	}
	op.hash = maphash.Bytes(t.seed, m.Client)
}

// PreparePutKept makes op a PutKept of line, which the journal holds at this sequence of
// its key, and returns the client whose line it is; the error is that of wire.ParseAT.
// line is a whole AT line with its LF and must stay as it is until the batch has been applied.
func (t *Table) PreparePutKept(op *Op, line []byte, sequence uint64) (client []byte, err error) {
	at, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		return nil, err
	}
	t.PreparePut(op, line, &at)
	op.Kind, op.sequence = PutKept, sequence
	return at.Client, nil
}

// PrepareGet makes op a Get of a client, whose id must stay as it is until the
// batch has been applied.
func (t *Table) PrepareGet(op *Op, client []byte) {
	op.Kind, op.Outcome, op.Revision, op.Kept = Get, 0, 0, false
	op.Line, op.client = nil, client
	op.hash = maphash.Bytes(t.seed, client)
}

// Apply does the steps of a batch in their order under one lock, at the given
// Unix time in nanoseconds, and wakes the readers that wait if anything was stored.
func (t *Table) Apply(now int64, from Source, ops []Op) {
	if len(ops) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	bit := t.taught(from)
	before := t.head
	for len(ops) > 0 {
		some := ops[:min(len(ops), fetchMost)]
		ops = ops[len(some):]
		t.fetch(some)
		for i := range some {
			if op := &some[i]; op.Kind == Get {
				t.get(now, op)
			} else {
				t.put(now, op, bit)
			}
		}
	}
	if t.head != before && len(t.waiting) > 0 {
		t.wake()
	}
}

// taught notes that a neighbour's epoch teaches us, and returns its bit.
func (t *Table) taught(from Source) uint32 {
	if from.Neighbour < 1 || from.Neighbour > MaxNeighbours || from.Epoch == "" {
		return 0
	}
	if h := &t.holders[from.Neighbour]; h.epoch != from.Epoch {
		if h.epoch != "" { // what is marked until now is the last epoch's
			h.floor = t.head
		}
		h.epoch = from.Epoch
	}
	return 1 << (from.Neighbour - 1)
}

// Doubt voids what a neighbour is known to hold: it may have lost that in its present epoch (H4).
func (t *Table) Doubt(neighbour int) {
	if neighbour < 1 || neighbour > MaxNeighbours {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holders[neighbour].floor = t.head
}

// fetchMost is for how many steps fetch works ahead: about as many as a core can have
// memory under way for.
const fetchMost = 32

// fetch brings what the steps are going to look at into the cache: of each the entry of
// the index, then the record, then the line. These three wait for each other, and in a
// large table each is in memory only; but those of different steps do not, so the
// processor waits for many at a time. Unless it has guessed wrong what comes next, in
// which case it has begun in vain: so no branch depends on what was not fetched before.
func (t *Table) fetch(ops []Op) {
	var lines [fetchMost][]byte
	var firsts [fetchMost]uint32 // of the lists that clients go to
	sum := uint64(0)
	for i := range ops {
		sum += t.index.touch(ops[i].hash)
	}
	for i := range ops {
		slot := t.index.likely(ops[i].hash)
		ops[i].likely = slot
		if slot != 0 {
			r := t.records.at(slot - 1)
			sum += r.revision + uint64(r.clientAt) // its first and its last bytes
			if t.grid != nil && ops[i].Kind != Get {
				sum += uint64(t.grid.at(slot - 1).next)
			}
		}
	}
	for i := range ops {
		if ops[i].likely != 0 {
			lines[i] = t.line(t.records.at(ops[i].likely - 1))
		}
	}
	for i := range ops {
		if l := lines[i]; len(l) > 0 {
			sum += uint64(l[0]) + uint64(l[len(l)/2]) + uint64(l[len(l)-1])
		}
	}
	if t.grid != nil {
		for i := range ops {
			op := &ops[i]
			if op.likely == 0 || op.Kind == Get {
				continue
			}
			pl := t.grid.at(op.likely - 1)
			if op.was, op.from = pl.point, CellAt(gridLevel, pl.point); op.from != op.cell && pl.prev != 0 {
				firsts[i] = t.grid.first(op.cell)
				sum += t.grid.touch(pl, op.from, op.cell)
			}
		}
		for _, first := range firsts[:len(ops)] {
			if first != 0 {
				sum += uint64(t.grid.at(first - 1).prev)
			}
		}
	}
	t.fetched = sum // or the compiler would see that nobody needs it
}

func (t *Table) find(op *Op) (uint32, bool) {
	if op.likely != 0 && t.is(op.likely-1, op.client) {
		return op.likely - 1, true
	}
	return t.index.find(op.hash, func(slot uint32) bool { return t.is(slot, op.client) })
}

// is says whether a slot is that of a client. A free slot is nobody's.
func (t *Table) is(slot uint32, client []byte) bool {
	r := t.records.at(slot)
	return int(r.clientLen) == len(client) && bytes.Equal(t.client(r), client)
}

func (t *Table) line(r *record) []byte { return t.lines.bytes(r.place, int(r.size)) }

func (t *Table) client(r *record) []byte {
	return t.line(r)[r.clientAt : int(r.clientAt)+int(r.clientLen)]
}

// expired says whether a line with this effective time is past HERD_RETAIN (S4). A record that
// was forgotten is, whatever the time.
func (t *Table) expired(effective, now int64) bool {
	return effective < 0 || t.retain > 0 && now-effective >= t.retain
}

func (t *Table) get(now int64, op *Op) {
	slot, ok := t.find(op)
	if !ok || t.expired(t.records.at(slot).effective, now) {
		op.Outcome = Unknown
		return
	}
	r := t.records.at(slot)
	op.room = append(op.room[:0], t.line(r)...)
	op.Line, op.Revision, op.Outcome = op.room, r.revision, Held
}

func (t *Table) put(now int64, op *Op, bit uint32) {
	effective := wire.Effective(op.stamp, op.receipt)
	if t.expired(effective, now) {
		op.Outcome = Expired
		switch op.Kind {
		case PutKept:
			t.supersede(op)
		case PutOwn:
			t.behind(now, op, effective)
		}
		return
	}
	slot, known := t.find(op)
	var r, past *record
	if known {
		if r = t.records.at(slot); t.expired(r.effective, now) {
			known = false
			if r.effective >= 0 {
				past = r
			}
		}
	}
	if known {
		t.merge(op, slot, r, effective, bit)
	} else {
		if op.Kind == PutOwn && t.full(len(op.Line), past) {
			op.Outcome = Full // Forget tells the journal of what is past
			return
		}
		own, sequence := false, uint64(0)
		if past != nil {
			own, sequence = past.own, past.sequence
			t.forget(slot) // whatever comes after it is newer (S4)
		}
		if r != nil && r.effective < 0 { // it comes back before those who follow it have heard
			t.replace(op, r)
			t.records.live++
			t.records.gone--
		} else {
			slot = t.records.take()
			r = t.records.at(slot)
			r.place, r.size = t.lines.store(op.Line), uint16(len(op.Line))
			t.index.add(op.hash, slot)
		}
		t.changed(op, slot, r, effective, bit)
		if own { // or the entry of what was forgotten would stay in the journal (S4)
			t.setOwn(r)
			t.setSequence(r, sequence)
		}
	}
	t.owned(op, slot, r)
}

// behind notes by how much an IAMAT that is past its time is older than what is held, which
// is not.
func (t *Table) behind(now int64, op *Op, effective int64) {
	slot, known := t.find(op)
	if !known {
		return
	}
	if r := t.records.at(slot); !t.expired(r.effective, now) {
		op.Behind = r.effective - effective
	}
}

// full says whether the table may not take one more client, with a line of n bytes, in place of a
// record that is past its time, if there is one (C18).
func (t *Table) full(n int, past *record) bool {
	live, slot, line := t.records.live, t.growth(), t.lines.growth(n)
	if past != nil {
		live, slot = live-1, 0
		if sizeClass(int(past.size)) == sizeClass(n) {
			line = 0
		}
	}
	return live >= t.maxClients || t.bytes()+slot+line > t.maxBytes
}

// growth is by how much the table grows, its lines aside, if a slot is taken next.
func (t *Table) growth() int {
	n := t.records.growth()
	if n > 0 && t.grid != nil {
		n += placeChunkBytes
	}
	return n
}

// bytes is what the table takes, as the allocator counts it.
func (t *Table) bytes() int {
	n := len(t.records.chunks)*recordChunkBytes + t.lines.size + t.index.size + t.changes.bytes()
	if t.grid != nil {
		n += t.grid.bytes()
	}
	return n
}

// merge puts a line to a client that is known, whose record r is.
func (t *Table) merge(op *Op, slot uint32, r *record, effective int64, bit uint32) {
	if op.Kind == PutOwn && t.repeats(op, r, effective) {
		op.Outcome, op.Revision = Same, r.revision
		return
	}
	c := cmp.Compare(effective, r.effective)
	if c == 0 {
		c = t.compare(op, r)
	}
	switch {
	case c < 0:
		op.Outcome, op.Revision, op.Behind = Older, r.revision, r.effective-effective
	case c == 0:
		r.holders |= bit // it has had the same line from there since (H4)
		op.Outcome, op.Revision = Held, r.revision
	default:
		t.replace(op, r)
		t.changed(op, slot, r, effective, bit)
	}
}

// replace stores a line in place of a record's.
func (t *Table) replace(op *Op, r *record) {
	if sizeClass(int(r.size)) == sizeClass(len(op.Line)) {
		copy(t.lines.bytes(r.place, len(op.Line)), op.Line)
	} else {
		t.lines.release(r.place, int(r.size))
		r.place = t.lines.store(op.Line)
	}
	r.size = uint16(len(op.Line))
}

// changed completes a record whose line was just stored: it is the newest change.
func (t *Table) changed(op *Op, slot uint32, r *record, effective int64, bit uint32) {
	t.head++
	r.revision, r.effective, r.holders = t.head, effective, bit
	r.origin, r.kept = originOf(op.Kind, bit, effective != op.stamp), false
	r.clientAt, r.clientLen = op.clientAt, uint16(len(op.client))
	t.changes.add(slot, t.head, &t.records)
	if t.grid != nil {
		t.grid.move(slot, op.point, op.cell, op.was, op.from)
	}
	op.Outcome, op.Revision = Stored, t.head
}

// owned notes what a step says of the journal, after it was merged.
func (t *Table) owned(op *Op, slot uint32, r *record) {
	switch op.Kind {
	case PutKept:
		op.Slot = slot
		// The very line: stored now, or held before.
		t.setOwn(r)
		t.setSequence(r, op.sequence)
		r.kept = op.Outcome == Stored || op.Outcome == Held
		op.Kept = r.kept
		if !r.kept { // what is held is newer than the journal's, and now to be written
			t.touch(slot, r)
		}
	case PutOwn:
		if !r.own {
			t.setOwn(r)
			if op.Outcome != Stored && t.journal { // a neighbour's line, until now
				t.touch(slot, r)
				op.Revision = r.revision
			}
		}
		op.Slot, op.Kept = slot, r.kept
	}
}

// supersede notes that the journal holds, of a client of this edge's own, a line that is
// past its time, under a key that is to get what is held.
func (t *Table) supersede(op *Op) {
	slot, known := t.find(op)
	if !known {
		return
	}
	r := t.records.at(slot)
	if !r.own {
		return
	}
	t.setSequence(r, op.sequence)
	if r.kept {
		r.kept = false
		t.touch(slot, r)
	}
}

// touch makes a record the newest change, its line as it is, so that who reads the
// order of changes comes by it. Nobody is known to hold it any more: what a neighbour's
// earlier epoch taught would count for its present one, whose revisions the record's new one
// is among, and the record would never be sent there (H4).
func (t *Table) touch(slot uint32, r *record) {
	t.head++
	r.revision, r.holders = t.head, 0
	t.changes.add(slot, t.head, &t.records)
}

// compare is S2 where the effective times are equal.
func (t *Table) compare(op *Op, r *record) int {
	held := t.line(r)
	if bytes.Equal(op.Line, held) {
		return 0
	}
	a, errA := wire.ParseAT(op.Line[:len(op.Line)-1])
	b, errB := wire.ParseAT(held[:len(held)-1])
	if errA != nil || errB != nil { // whoever gave us the line had parsed it
		return bytes.Compare(op.Line, held)
	}
	return wire.Compare(&a, &b, op.Line, held)
}

// repeats says whether an IAMAT has the held line's time, to the nanosecond, and
// location (C11).
//
// A held line may count for less than its client's time (S2), because the clock of the edge
// that received it was slow. Then one that counts for all of it is no repetition: an older
// line could take the place of what is held, but not of what the client is answered. Nor is,
// where positions are forgotten, one that counts as over a minute newer: what is held would
// be past (S4) when what the client is answered is not.
func (t *Table) repeats(op *Op, r *record, effective int64) bool {
	clamped := r.origin.clamped()
	switch {
	case !clamped && r.effective != op.stamp,
		clamped && effective == op.stamp,
		clamped && t.retain > 0 && effective-r.effective > int64(time.Minute):
		return false
	}
	held := t.line(r)
	b, err := wire.ParseAT(held[:len(held)-1])
	if err != nil || b.Stamp != op.stamp {
		return false
	}
	a, err := wire.ParseAT(op.Line[:len(op.Line)-1])
	return err == nil && bytes.Equal(a.Location, b.Location)
}

// Head is the newest revision (H3).
func (t *Table) Head() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.head
}

// Bytes is how many the table takes (C18).
func (t *Table) Bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes()
}

// Stats says how many clients are held, the newest revision, and how many
// records were ever forgotten (S4).
func (t *Table) Stats() (clients int, head, forgotten uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.records.live, t.head, t.forgot
}

// Client is whom the Op is about; it aliases what that was filled from.
func (op *Op) Client() []byte { return op.client }

// Receipt is when the first edge received the line of a Put, in Unix nanoseconds.
func (op *Op) Receipt() int64 { return op.receipt }

// Sequence is the journal's for the line of a PutKept.
func (op *Op) Sequence() uint64 { return op.sequence }
