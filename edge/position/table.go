// Package position holds the newest position of every client: what "newer" is
// (S2), the table of the newest lines (S1, S3), the order in which they changed
// (H3) and when they are forgotten (S4).
//
// It is pure state. It knows nothing of connections, neighbours' names, NATS or
// files, starts no goroutine and has no clock of its own: whoever calls says
// what time it is.
package position

import (
	"bytes"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"herd/edge/wire"
)

// A Kind says what an Op asks for.
type Kind uint8

const (
	// Put merges a line that came from a neighbour or the journal: S2 alone
	// decides (C11), and a new client is stored whatever MaxClients is (C18).
	Put Kind = iota
	// PutOwn merges the line of an IAMAT that this edge received: C11 and
	// MaxClients count. The client is one of this edge's from then on (D1).
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
	Full                   // PutOwn: a new client beyond MaxClients (C18)
	Unknown                // Get: nothing is held for the client (C13)
)

// An Op is one step of a batch. Fill it with PutLine, PutOwnLine or GetLine.
type Op struct {
	Kind    Kind
	Outcome Outcome
	// Revision is that of the record held after the step, 0 where none is.
	Revision uint64
	// Line is the AT line with its LF: as given for Put, what is held for Get
	// (in room of the Op's own that its next GetLine uses again).
	Line []byte
	// Slot is where the record is while the client is known, and Kept that the
	// journal holds the very line that is held after the step (D3). For PutOwn and PutKept.
	Slot uint32
	Kept bool

	client   []byte
	clientAt uint8 // where it begins in Line
	stamp    int64
	receipt  int64
	hash     uint64
	likely   uint32 // slot + 1 of what fetch found: to be checked; 0: nothing
	room     []byte

	sequence uint64 // PutKept
}

// A Source says from where the lines of a batch come: the neighbour numbered
// Holder (1 to MaxHolders) in the epoch that its message named (H4). The zero
// Source is none of them: a client or the journal.
type Source struct {
	Holder int
	Epoch  string
}

// MaxHolders is for how many neighbours the table remembers what they hold. One
// with a higher number is just sent everything, which is harmless (H4).
const MaxHolders = 32

// Config is what a table is made with.
type Config struct {
	Retain     time.Duration // S4; 0 is for ever
	MaxClients int           // C18; 0 is no limit
	Journal    bool          // a journal reads along: what becomes this edge's own is a change for it (D1)
}

// A Table keeps one record a client. All methods may be called from any
// goroutine.
type Table struct {
	retain     int64
	maxClients int
	journal    bool
	seed       maphash.Seed

	mu      sync.Mutex // held for one batch, one read or one step of forgetting; never over I/O
	index   index
	records records
	lines   arena
	changes changes
	head    uint64
	holders [MaxHolders + 1]holder
	waiting []*Reader
	forgot  uint64
	sweep   uint32 // the next slot to look at for Forget
	fetched uint64 // of no meaning; see fetch
}

// A record is what is kept of a client besides its line. It has no pointer.
type record struct {
	revision  uint64 // 0 is a free slot
	effective int64  // S2
	sequence  uint64 // the last one of the client's key in the journal that is known; 0: none (D5)
	holders   uint32 // bit h-1: neighbour h has this line; see holder
	place     uint32 // of the line in the arena; of a free slot: the next free one
	size      uint16 // of the line
	clientLen uint16
	clientAt  uint8
	clamped   bool // effective is not the client's own time
	own       bool // this edge has accepted an IAMAT of the client, or its journal had (D1)
	kept      bool // the journal holds this line
}

// A holder is what is known of the neighbour with this number: its epoch as the
// last message that taught us named it, and the newest revision of ours at the
// moment when that epoch took the place of another; 0 for the first. A record's bit
// counts only if it got its revision later: so a new epoch makes all older knowledge
// void (H4) without a look at a single record.
type holder struct {
	epoch string
	floor uint64
}

const recordChunk = 1 << 10

// records is a growing array in chunks that stay where they are.
type records struct {
	chunks []*[recordChunk]record
	used   uint32
	free   uint32 // first free slot + 1
	live   int
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

func (r *records) release(slot uint32) {
	*r.at(slot) = record{place: r.free}
	r.free = slot + 1
	r.live--
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = math.MaxInt
	}
	return &Table{retain: int64(cfg.Retain), maxClients: cfg.MaxClients, journal: cfg.Journal, seed: maphash.MakeSeed()}
}

// PutLine makes op a Put of line, from which at was parsed. line is a whole AT
// line with its LF and must stay as it is until the batch has been applied.
func (t *Table) PutLine(op *Op, line []byte, at *wire.AT) {
	op.Kind, op.Outcome, op.Revision, op.Kept = Put, 0, 0, false
	op.Line, op.client, op.stamp, op.receipt = line, at.Client, at.Stamp, at.Receipt
	op.clientAt = uint8(len("AT ") + len(at.Edge) + len(" ") + len(at.Skew) + len(" "))
	op.hash = maphash.Bytes(t.seed, at.Client)
}

// PutOwnLine makes op a PutOwn of line, the AT line that answers the IAMAT m, with its
// LF, received at this Unix time in nanoseconds. line and what m's client is a part of
// must stay as they are until the batch has been applied.
func (t *Table) PutOwnLine(op *Op, line []byte, m *wire.IAMAT, receipt int64) {
	op.Kind, op.Outcome, op.Revision, op.Kept = PutOwn, 0, 0, false
	op.Line, op.client, op.stamp, op.receipt = line, m.Client, m.Stamp, receipt
	op.clientAt = uint8(len(line) - len(m.Client) - len(" ") - len(m.Location) - len(" ") - len(m.Time) - len("\n"))
	op.hash = maphash.Bytes(t.seed, m.Client)
}

// PutKeptLine makes op a PutKept of line, which the journal holds at this sequence of
// its key, and returns the client whose line it is; the error is that of wire.ParseAT.
// line is a whole AT line with its LF and must stay as it is until the batch has been applied.
func (t *Table) PutKeptLine(op *Op, line []byte, sequence uint64) (client []byte, err error) {
	at, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		return nil, err
	}
	t.PutLine(op, line, &at)
	op.Kind, op.sequence = PutKept, sequence
	return at.Client, nil
}

// GetLine makes op a Get of a client, whose id must stay as it is until the
// batch has been applied.
func (t *Table) GetLine(op *Op, client []byte) {
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
	if from.Holder < 1 || from.Holder > MaxHolders || from.Epoch == "" {
		return 0
	}
	if h := &t.holders[from.Holder]; h.epoch != from.Epoch {
		if h.epoch != "" { // what is marked until now is the last epoch's
			h.floor = t.head
		}
		h.epoch = from.Epoch
	}
	return 1 << (from.Holder - 1)
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

// expired says whether a line with this effective time is past HERD_RETAIN (S4).
func (t *Table) expired(effective, now int64) bool {
	return t.retain > 0 && now-effective >= t.retain
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
	effective := Effective(op.stamp, op.receipt)
	if t.expired(effective, now) {
		op.Outcome = Expired
		return
	}
	slot, known := t.find(op)
	var r *record
	if known {
		if r = t.records.at(slot); t.expired(r.effective, now) {
			t.forget(slot) // whatever comes after it is newer (S4)
			known = false
		}
	}
	if known {
		t.merge(op, slot, r, effective, bit)
	} else {
		if op.Kind == PutOwn && t.records.live >= t.maxClients {
			op.Outcome = Full
			return
		}
		slot = t.records.take()
		r = t.records.at(slot)
		r.place, r.size = t.lines.store(op.Line), uint16(len(op.Line))
		t.index.add(op.hash, slot)
		t.changed(op, slot, r, effective, bit)
	}
	t.owned(op, slot, r)
}

// merge puts a line to a client that is known, whose record r is.
func (t *Table) merge(op *Op, slot uint32, r *record, effective int64, bit uint32) {
	if op.Kind == PutOwn && t.repeats(op, r) {
		op.Outcome, op.Revision = Same, r.revision
		return
	}
	c := compareInt(effective, r.effective)
	if c == 0 {
		c = t.compare(op, r)
	}
	switch {
	case c < 0:
		op.Outcome, op.Revision = Older, r.revision
	case c == 0:
		r.holders |= bit // it has had the same line from there since (H4)
		op.Outcome, op.Revision = Held, r.revision
	default:
		if sizeClass(int(r.size)) == sizeClass(len(op.Line)) {
			copy(t.lines.bytes(r.place, len(op.Line)), op.Line)
		} else {
			t.lines.release(r.place, int(r.size))
			r.place = t.lines.store(op.Line)
		}
		r.size = uint16(len(op.Line))
		t.changed(op, slot, r, effective, bit)
	}
}

// changed completes a record whose line was just stored: it is the newest change.
func (t *Table) changed(op *Op, slot uint32, r *record, effective int64, bit uint32) {
	t.head++
	r.revision, r.effective, r.holders = t.head, effective, bit
	r.clamped, r.kept = effective != op.stamp, false
	r.clientAt, r.clientLen = op.clientAt, uint16(len(op.client))
	t.changes.add(slot, t.head, &t.records)
	op.Outcome, op.Revision = Stored, t.head
}

// owned notes what a step says of the journal, after it was merged.
func (t *Table) owned(op *Op, slot uint32, r *record) {
	switch op.Kind {
	case PutKept:
		op.Slot = slot
		// The very line: stored now, or held before.
		r.own, r.sequence, r.kept = true, op.sequence, op.Outcome == Stored || op.Outcome == Held
		op.Kept = r.kept
		if !r.kept { // what is held is newer than the journal's, and now to be written
			t.touch(slot, r)
		}
	case PutOwn:
		if !r.own {
			r.own = true
			if op.Outcome != Stored && t.journal { // a neighbour's line, until now
				t.touch(slot, r)
				op.Revision = r.revision
			}
		}
		op.Slot, op.Kept = slot, r.kept
	}
}

// touch makes a record the newest change, its line as it is, so that who reads the
// order of changes comes by it. Neighbours may get the line once more, which is harmless.
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
	return Compare(&a, &b, op.Line, held)
}

// repeats says whether an IAMAT has the held line's time, to the nanosecond, and
// location (C11).
func (t *Table) repeats(op *Op, r *record) bool {
	if !r.clamped && r.effective != op.stamp {
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

// Stats says how many clients are held, the newest revision, and how many
// records were ever forgotten (S4).
func (t *Table) Stats() (clients int, head, forgotten uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.records.live, t.head, t.forgot
}

// Receipt is when the first edge received the line of a Put, in Unix nanoseconds.
func (op *Op) Receipt() int64 { return op.receipt }

// Sequence is the journal's for the line of a PutKept.
func (op *Op) Sequence() uint64 { return op.sequence }
