package journal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"herd/edge/position"
)

const (
	batchMost  = 1000      // entries per write
	batchTurn  = 250       // entries per write while several peers wait (C18)
	batchBytes = 512 << 10 // bytes of lines per write
	deleteMost = 256       // entries per deletion, for which a write may have to wait
	scanMost   = 16 << 10  // entries per scan, likewise

	lookMost    = 10 * time.Second // between two checks of the store's state (D5)
	lookNearly  = time.Second      // … while it is nearly full and written to
	retryFirst  = 100 * time.Millisecond
	retryMost   = time.Second
	retryAbsent = 5 * time.Second // … if there can be no store, or only an unfit one
	deleteRetry = time.Minute     // the longest rest of deletions that fail
	doubtsMost  = 3               // checks in a row that must find the store gone back
	lateAfter   = 500 * time.Millisecond
	skipLogged  = 10 * time.Second // the least time between two logs of skipped lines

	// patience is the time limit of a call: a second, or four times the duration of the last
	// write. It is short because reading the store soon shows what became of a call whose
	// answer was lost. It doubles each time that a call exceeds it.
	patienceLeast = time.Second
	patienceMost  = 8 * time.Second
	openLimit     = 5 * time.Second // making a store can take longer than a write
)

// ErrNever is why Await makes no promise for a line that the store will never take (D6).
var ErrNever = errors.New("the journal's store can never take this line")

var (
	errNotOwner   = errors.New("another run owns the journal's store, or none does")
	errNearlyFull = errors.New("the journal's store is nearly full: new clients are not taken")
	errEnded      = errors.New("the journal has ended")
	errBack       = errors.New("the journal's store has gone back, or lacks what it acknowledged")
	errLoading    = errors.New("the journal is not loaded yet")
)

// A phase is how far a run has come with its store. A run gets to serving only through the
// phases before it (D5).
type phase uint8

const (
	opening   phase = iota // find or create the store
	asking                 // ask who owns it
	owning                 // become the owner, before reading
	looking                // check whether the store is as this run knows it
	reading                // read what this run has not read; at first everything
	serving                // write what is behind the cursor
	regaining              // no longer the owner: ask whether this run still has its name
	nameless               // it does not
)

// A call is what to do next.
type call uint8

const (
	rest call = iota
	callOpen
	callOwner
	callOwn
	callState
	callRead
	callWrite
	callDelete
	callScan // a Read that looks for expired entries, and may end early
	callRegain
	end
)

// A task is what a step asks for: a call of the store or of Regain, or a rest.
type task struct {
	call     call
	limit    time.Duration // the call's time limit; for a read: the longest time without an entry
	sequence uint64        // Own, Write, Delete: the one to expect; Read: the one to start after
	entries  []Entry

	// For a rest: when it ends at the latest, and whether changes or forgotten clients end it.
	until              time.Time
	changes, forgotten bool
}

// An event is what happened since the last step: the result of its task.
type event struct {
	call        call
	err         error
	epoch       string
	sequence    uint64
	state       State
	enough      bool // for a scan: it ended early
	reconnected bool // the broker connection was re-established
}

// A machine is the journal without its goroutine. A step takes the time and the result of the
// last task, and returns the next task. One task is under way at a time. The machine reads no
// clock of its own and makes no call of the store.
type machine struct {
	cfg    Config
	awaits awaits
	gone   gone
	loaded chan struct{} // closed when the store was merged for the first time
	none   chan struct{} // closed when there first turned out to be no store

	// May be read from any goroutine:
	cursor     atomic.Uint64
	flushed    atomic.Bool // Flush was called
	up         atomic.Bool // the last write was acknowledged, or there was nothing to write
	why        atomic.Pointer[error]
	downSince  atomic.Pointer[time.Time] // nil: it is up, or was not tried yet
	upSince    atomic.Pointer[time.Time] // since when it is up; stale while it is not
	nearlyFull atomic.Bool
	skipped    atomic.Uint64
	writes     atomic.Uint64
	errors     atomic.Uint64
	used       atomic.Uint64 // Stats.Full, as bits
	replicas   atomic.Int64
	copies     atomic.Int64

	phase     phase
	lost      error // that Regain returned
	failing   bool  // the journal is not written, and that was logged
	retryAt   time.Time
	retry     time.Duration
	patience  time.Duration
	asked     task      // the last task
	begun     time.Time // when it began
	contested bool      // an Own was answered since this run was last known to have its name

	// What is known of the store:
	id        string
	owner     uint64 // the sequence of its owner's entry, as last read or written
	known     uint64 // its last sequence: everything through it was read or written
	reloading bool   // this run has not read everything yet
	stray     bool   // somebody else changed a key that is a hash

	look   bool // its state is to be checked
	looked time.Time
	flush  uint64 // the cursor for which a Flush has it checked; 0: none
	room   room

	// Reading it:
	ops     []position.Op
	lines   []byte // the lines of ops
	read    uint64 // the last sequence that was read
	entries int    // entries merged
	strange int    // entries that are no lines of their clients
	reading time.Time
	rescan  uint64 // from here on, expired entries had no room in gone; 0: none had
	scanned int

	// Writing it:
	batch    batch
	hand     position.Hand
	first    []position.Ref
	out      []Entry // the entries of batch
	keys     []byte
	through  uint64 // the cursor once the batch is written
	pending  bool   // the batch is to be tried again without the skipped lines
	doubts   int    // checks in a row that found the store gone back
	refusals int    // refused writes in a row, while reading found nothing new
	seen     uint64 // the table's head when it was last read
	recent   uint64 // the table's head at turned
	old      uint64 // the table's head one turn earlier, at least lateAfter before
	turned   time.Time
	resting  time.Time // until when changes collect; zero: they do not

	skipsLogged time.Time

	// Deleting from it:
	dying    []byte // ids whose deletion is not acknowledged yet
	dead     []Entry
	buried   map[string]bool // keys of dead
	turn     bool            // after a write, a deletion goes first
	deleteAt time.Time       // no deletion before this
	backoff  time.Duration
}

func (m *machine) init(cfg Config) {
	m.cfg = cfg
	m.buried = map[string]bool{}
	m.loaded, m.none = make(chan struct{}), make(chan struct{})
	m.retry, m.patience, m.backoff = retryFirst, patienceLeast, patienceLeast
	m.room.wait = lookMost
	m.why.Store(&errLoading)
}

// step takes the result of the last task and returns the next task.
func (m *machine) step(now time.Time, e event) task {
	if e.reconnected {
		m.look, m.retry, m.retryAt = true, retryFirst, time.Time{}
	}
	m.took(now, &e)
	if m.phase == serving {
		return m.ask(now, m.serve(now))
	}
	if now.Before(m.retryAt) {
		return task{until: m.retryAt}
	}
	t := task{limit: m.patience}
	switch m.phase {
	case opening:
		t.call, t.limit = callOpen, max(openLimit, 2*m.patience)
	case asking:
		t.call = callOwner
	case owning:
		t.call, t.sequence = callOwn, m.owner
	case looking:
		t.call = callState
	case reading:
		t.call, t.sequence, t.limit = callRead, m.known, 2*m.patience
		m.read = m.known
	case regaining:
		t.call = callRegain
	case nameless:
		t.call = end
	}
	return m.ask(now, t)
}

func (m *machine) ask(now time.Time, t task) task {
	m.asked, m.begun = t, now
	return t
}

// took handles the result of a task.
func (m *machine) took(now time.Time, e *event) {
	if e.err != nil && m.asked.limit > 0 && now.Sub(m.begun) >= m.asked.limit {
		m.patience = min(2*m.patience, patienceMost)
	}
	if e.err != nil && !e.enough && e.call != callRegain { // Regain is no call of the store
		m.errors.Add(1)
	}
	switch e.call {
	case callOpen:
		if e.err != nil {
			if errors.Is(e.err, ErrUnfit) {
				m.distrust()
			}
			m.failed(now, fmt.Errorf("open the journal's store: %w", e.err))
			return
		}
		m.phase = asking
	case callOwner:
		switch {
		case e.err != nil:
			m.phase = opening
			m.failed(now, fmt.Errorf("ask who owns the journal's store: %w", e.err))
		case m.contested && e.epoch != m.cfg.Epoch:
			m.fenced(now, "owner", e.epoch)
		default:
			m.phase, m.owner = owning, e.sequence
		}
	case callOwn:
		m.tookOwn(now, e)
	case callState:
		if errors.Is(e.err, ErrUnfit) { // somebody changed it; Open corrects that
			m.distrust()
			m.cfg.Log.Warn("the journal's store was changed and is opened again", "error", e.err)
			m.pause(now, retryMost)
			m.phase = opening
			return
		}
		if e.err != nil {
			m.failed(now, fmt.Errorf("check the journal's store: %w", e.err))
			return
		}
		m.compare(now, e.state)
	case callRead:
		m.tookRead(now, e)
	case callScan:
		m.tookScan(now, e)
	case callWrite:
		m.tookWrite(now, e)
	case callDelete:
		m.tookDelete(now, e)
	case callRegain:
		if e.err != nil {
			m.phase, m.lost = nameless, e.err
			return
		}
		m.awaits.open()
		m.phase, m.contested = opening, false
	}
}

// tookOwn handles the result of Own. Once this run is the owner no other run writes, so what it
// reads then is everything.
func (m *machine) tookOwn(now time.Time, e *event) {
	switch {
	case errors.Is(e.err, ErrRefused): // by another run's Own, or one of ours whose answer was lost
		m.phase, m.contested = asking, true
	case e.err != nil:
		m.phase = opening
		m.failed(now, fmt.Errorf("become the owner of the journal's store: %w", e.err))
	default:
		m.phase, m.contested = looking, true
		m.id, m.owner, m.known = "", e.sequence, 0
		m.reloading, m.stray, m.rescan, m.refusals = true, false, 0, 0
		m.entries, m.strange, m.reading = 0, 0, now
		m.gone.clear()
		m.dying = m.dying[:0]
		m.distrust()
		m.awaits.retry()
	}
}

// distrust forgets what the store holds, and how full it is, until it is read anew. It is called as soon
// as the store may drop what it acknowledged, has lost some of that, or is not this run's any more: then
// it holds nothing that an answer may count on (D5), so old and repeated lines wait too.
func (m *machine) distrust() {
	unmark(m.cfg.Table)
	m.nearlyFull.Store(false)
	m.room = room{wait: lookMost}
}

// compare decides what to do about the store's state (D5).
func (m *machine) compare(now time.Time, s State) {
	if m.id == "" { // the first check since this run became the owner
		m.id = s.ID
	}
	_, held := m.cfg.Table.OwnClients()
	back := s.Last < m.known || !m.reloading && s.Messages <= uint64(held) // one message is the owner's
	if s.ID == "" || back && s.ID == m.id && s.Owner == m.owner {
		// A server that has just become the store's leader may not have all of it yet.
		if m.doubts++; m.doubts < doubtsMost {
			m.phase = looking
			m.pause(now, retryMost)
			return
		}
	}
	flush := m.flush
	m.flush, m.look, m.doubts = 0, false, 0
	switch {
	case s.ID == "" || s.ID != m.id || s.Owner != m.owner:
		m.fenced(now, "was", m.id, "is", s.ID, "owned at", m.owner, "is owned at", s.Owner)
	case back:
		m.cfg.Log.Warn("the journal's store has gone back and is written anew",
			"acknowledged", m.known, "holds", s.Last, "kept", held, "messages", s.Messages)
		m.again(now)
	case m.reloading || s.Last > m.known:
		m.phase = reading
	case m.stray: // it was met by a read that failed, or by a scan
		m.again(now)
	case m.refusals > 1: // the store's last sequence is as expected, and still it refuses a key
		m.cfg.Log.Warn("the journal's store refuses writes though nobody else wrote: it is read anew")
		m.again(now)
	default:
		m.phase, m.looked = serving, now
		m.seeRoom(s)
		m.awaits.passed(flush)
	}
}

// again takes the store anew, as at a start, but not from another run: it was this run's until now.
func (m *machine) again(now time.Time) {
	m.distrust()
	m.down(now)
	m.setWhy(errBack)
	m.failing = true
	m.phase = asking
}

// fenced handles that this run is no longer the owner: it stops promising anything.
func (m *machine) fenced(now time.Time, facts ...any) {
	m.cfg.Log.Warn("the journal's store has another owner or none: this run claims its name again", facts...)
	m.distrust()
	m.setWhy(errNotOwner)
	m.down(now)
	m.failing = true
	m.awaits.close(errNotOwner)
	m.phase = regaining
	m.pause(now, retryMost)
}

func (m *machine) tookRead(now time.Time, e *event) {
	m.merge()
	switch {
	case e.err != nil: // reading goes on after m.known
		m.phase = looking
		m.failed(now, fmt.Errorf("read the journal: %w", e.err))
	case e.state.ID != m.id, e.state.Owner != m.owner, e.state.Last < m.known:
		m.compare(now, e.state)
	case m.stray:
		m.again(now)
	default:
		if e.state.Last > m.known {
			m.known, m.refusals = e.state.Last, 0
		}
		m.phase, m.looked = serving, now
		m.seeRoom(e.state)
		if m.reloading {
			m.loadedAll(now)
		}
	}
}

// loadedAll is called when the table holds all that the store holds. The cursor begins anew:
// what the store holds is not written again, and everything else is.
func (m *machine) loadedAll(now time.Time) {
	m.reloading = false
	m.back()
	m.cfg.Log.Info("journal loaded", "clients", m.entries, "took", now.Sub(m.reading))
	if m.strange > 0 {
		m.cfg.Log.Warn("the journal's store has entries that are not the herd's", "count", m.strange)
	}
	select {
	case <-m.loaded:
	default:
		close(m.loaded)
	}
}

// back moves the cursor back to the beginning. A batch that was to be tried again ends where the cursor
// was going before; what is in it is read again.
func (m *machine) back() {
	m.cursor.Store(0)
	m.hand.Reset()
	m.pending = false
}

// serve returns the next task of a run that owns the store and has read it.
func (m *machine) serve(now time.Time) task {
	if now.Before(m.retryAt) {
		return task{until: m.retryAt}
	}
	if m.look || now.Sub(m.looked) >= m.lookEvery() || m.flushes(m.cursor.Load()) || m.reckon(now) {
		return m.lookNow()
	}
	if m.turn {
		if t, ok := m.deletion(now); ok {
			return t
		}
	}
	if !m.pending {
		if m.collects(now) {
			if t, ok := m.deletion(now); ok {
				return t
			}
			return task{until: m.resting}
		}
		m.readOwn()
	}
	if m.pending = false; len(m.batch.items) > 0 {
		m.address()
		return task{call: callWrite, limit: m.patience, sequence: m.known, entries: m.out}
	}
	m.cursor.Store(m.through)
	m.works(now)
	if m.flushes(m.through) {
		return m.lookNow()
	}
	if t, ok := m.deletion(now); ok {
		return t
	}
	until := m.looked.Add(m.lookEvery())
	waits := now.Before(m.deleteAt)
	if waits && m.deleteAt.Before(until) {
		until = m.deleteAt
	}
	return task{until: until, changes: true, forgotten: !waits}
}

func (m *machine) lookNow() task {
	m.phase = looking
	return task{call: callState, limit: m.patience}
}

// lookEvery is how long after a check of the store's state the next one is due.
func (m *machine) lookEvery() time.Duration {
	if m.nearlyFull.Load() && m.room.since > 0 {
		return lookNearly
	}
	return lookMost
}

// flushes reports whether a Flush waits for the cursor to be here. The store's state is checked
// before a stop is complete (D5).
func (m *machine) flushes(cursor uint64) bool {
	if !m.flushed.Load() || !m.awaits.passes(cursor) {
		return false
	}
	m.flush = cursor
	return true
}

// works notes that the journal was written, or had nothing to write.
func (m *machine) works(now time.Time) {
	m.retry = retryFirst
	if m.up.Load() && !m.failing {
		return
	}
	if !m.up.Load() {
		m.upSince.Store(&now)
	}
	m.up.Store(true)
	m.downSince.Store(nil)
	m.why.Store(nil)
	if m.failing {
		m.failing = false
		m.cfg.Log.Info("journal written again")
	}
}

// down records that the journal cannot be written, and since when.
func (m *machine) down(now time.Time) {
	m.up.Store(false)
	if m.downSince.Load() == nil {
		m.downSince.Store(&now)
	}
}

// failed notes an error. The first error of an outage is logged as a warning or an error, the
// others at debug level.
func (m *machine) failed(now time.Time, err error) {
	m.setWhy(err)
	m.down(now)
	most := retryMost
	absent, unfit := errors.Is(err, ErrNone), errors.Is(err, ErrUnfit)
	if absent || unfit {
		most = retryAbsent
	}
	m.pause(now, most)
	switch {
	case absent:
		select {
		case <-m.none:
		default:
			close(m.none)
			m.cfg.Log.Warn("no journal: the broker has no JetStream")
		}
	case m.failing:
		m.cfg.Log.Debug("journal", "error", err)
	case unfit:
		m.cfg.Log.Error("the journal's store cannot be used", "error", err)
	default:
		m.cfg.Log.Warn("journal not written", "error", err)
	}
	m.failing = true
}

func (m *machine) setWhy(err error) { m.why.Store(&err) }

// pause delays the next call, longer with each failure in a row.
func (m *machine) pause(now time.Time, most time.Duration) {
	m.retryAt = now.Add(m.retry)
	m.retry = min(2*m.retry, most)
}
