// Package storetest tests implementations of journal.Store with one suite. It also has a Fake,
// a store in memory that passes the same suite as the real bucket.
//
// The package knows the journal's interface to a store, and nothing of NATS.
package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"herd/edge/journal"
)

const (
	ownerKey   = "=owner"
	batchMost  = 1000
	overhead   = 100 // bytes per message besides its key and value
	markerLife = time.Hour
	readChunk  = 256 // entries that a read fetches at a time
)

// A Fault is what happens to one call.
type Fault uint8

const (
	OK     Fault = iota
	Before       // the call fails and has no effect
	After        // it takes effect and fails
	Hang         // it has no effect, and no answer comes
	Lost         // it takes effect, and no answer comes
	Late         // it takes effect a while later, and no answer comes
)

var (
	errFault   = errors.New("storetest: fault")
	errAway    = errors.New("storetest: not connected")
	errNoStore = errors.New("storetest: no such store")
)

// A Fake is a store in memory, seen from its broker's side. It is never kinder than a real
// store. A call takes a round trip and a time per entry, ends with its context, and takes
// effect even if its caller has returned. Reads run beside writes and may lag behind them.
// Times are those of package time, which are virtual in a synctest bubble. All methods may be
// called from any goroutine.
type Fake struct {
	mu       sync.Mutex
	made     int // stores created so far
	present  bool
	none     bool
	unfit    error
	last     uint64
	messages map[string]message
	order    []place            // of messages, by sequence; some were replaced since
	replaced map[uint64]message // by sequence, as long as a replica that lags may have them
	markers  []place            // of markers, likewise
	bytes    uint64
	maxBytes uint64
	maxValue int

	trip  time.Duration // the round trip of a call
	entry time.Duration // the additional time per entry
	lag   time.Duration // how far reads are behind the leader
	late  time.Duration // the additional time until a Late call takes effect

	calls   map[string]int
	refused int
	poached int
}

// A message is the last message of one key.
type message struct {
	value    []byte
	marker   bool
	sequence uint64
	at       time.Time
}

// A place is a message in the order of the store.
type place struct {
	sequence uint64
	key      string
}

// NewFake returns a Fake without a store. Open creates one.
func NewFake() *Fake {
	return &Fake{maxValue: 1280, trip: time.Millisecond, entry: 2 * time.Microsecond, late: 3 * time.Second, calls: map[string]int{}, replaced: map[uint64]message{}}
}

// Cost sets the round trip of a call and the additional time per entry.
func (f *Fake) Cost(trip, entry time.Duration) {
	f.do(func() { f.trip, f.entry = trip, entry })
}

// Lag sets how far reads are behind writes.
func (f *Fake) Lag(d time.Duration) { f.do(func() { f.lag = d }) }

// None sets whether there can be no store here.
func (f *Fake) None(none bool) { f.do(func() { f.none = none }) }

// Unfit sets the limit by which the store may drop what it acknowledged; nil means none.
func (f *Fake) Unfit(limit error) { f.do(func() { f.unfit = limit }) }

// Limit sets the most bytes that the store takes; 0 means no limit.
func (f *Fake) Limit(bytes uint64) { f.do(func() { f.maxBytes = bytes }) }

// Room returns how many bytes more the store takes; without a limit, more than anybody has.
func (f *Fake) Room() (bytes uint64) {
	f.do(func() {
		if bytes = math.MaxUint64; f.maxBytes > 0 {
			bytes = f.maxBytes - min(f.maxBytes, f.bytes)
		}
	})
	return bytes
}

// MaxValue sets the most bytes of a value.
func (f *Fake) MaxValue(n int) { f.do(func() { f.maxValue = n }) }

func (f *Fake) do(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// Put writes a key as an operator does, without an expected sequence. Without a store it does
// nothing.
func (f *Fake) Put(key, value string) { f.operate(key, message{value: []byte(value)}) }

// Remove deletes a key as an operator does. Without a store it does nothing.
func (f *Fake) Remove(key string) { f.operate(key, message{marker: true}) }

func (f *Fake) operate(key string, m message) {
	f.do(func() {
		if f.present {
			f.put(key, m)
		}
	})
}

// Usurp makes another run the owner, without an expected sequence. Without a store it does
// nothing.
func (f *Fake) Usurp(epoch string) { f.operate(ownerKey, message{value: []byte(epoch)}) }

// Purge removes all messages. The store's last sequence stays.
func (f *Fake) Purge() {
	f.do(f.empty)
}

// PurgeKey removes one key and leaves no marker.
func (f *Fake) PurgeKey(key string) {
	f.do(func() {
		f.bytes -= f.messages[key].size(key)
		delete(f.messages, key)
	})
}

// Destroy removes the store. Open creates another one.
func (f *Fake) Destroy() {
	f.do(func() {
		f.present, f.last = false, 0
		f.empty()
	})
}

// A Snapshot is a copy of the store at one moment.
type Snapshot struct {
	present  bool
	last     uint64
	messages map[string]message
	order    []place
	markers  []place
	bytes    uint64
}

// Snapshot returns a copy of the present store.
func (f *Fake) Snapshot() (s Snapshot) {
	f.do(func() {
		s = Snapshot{f.present, f.last, maps.Clone(f.messages), slices.Clone(f.order), slices.Clone(f.markers), f.bytes}
	})
	return s
}

// Restore sets the store back to s within the same life, as a power cut may.
func (f *Fake) Restore(s Snapshot) {
	f.do(func() {
		f.empty()
		f.present, f.last, f.bytes = s.present, s.last, s.bytes
		maps.Copy(f.messages, s.messages)
		f.order, f.markers = slices.Clone(s.order), slices.Clone(s.markers)
	})
}

// Values returns the store's values by key, without markers and the owner's entry.
func (f *Fake) Values() map[string]string {
	all := map[string]string{}
	f.do(func() {
		for key, m := range f.messages {
			if !m.marker && key != ownerKey {
				all[key] = string(m.value)
			}
		}
	})
	return all
}

// Calls returns how often the method with a name was called.
func (f *Fake) Calls(method string) (n int) {
	f.do(func() { n = f.calls[method] })
	return n
}

// Refused returns how many calls of Write, Delete and Own were refused.
func (f *Fake) Refused() (n int) {
	f.do(func() { n = f.refused })
	return n
}

// Poached returns how many calls of Write and Delete took effect although another run was the
// owner then. A journal makes none: the owner's entry moved the sequence that they expect (D5).
func (f *Fake) Poached() (n int) {
	f.do(func() { n = f.poached })
	return n
}

// f.mu must be held for the functions below, up to Client.

func (m message) size(key string) uint64 {
	if m.sequence == 0 {
		return 0
	}
	return uint64(len(key) + len(m.value) + overhead)
}

func (f *Fake) empty() {
	f.messages, f.order, f.markers, f.bytes = map[string]message{}, nil, nil, 0
	clear(f.replaced)
}

func (f *Fake) put(key string, m message) uint64 {
	f.last++
	was := f.messages[key]
	f.bytes -= was.size(key)
	m.sequence, m.at = f.last, time.Now()
	f.messages[key] = m
	if f.lag > 0 && was.sequence > 0 {
		f.replaced[was.sequence] = was
	}
	f.bytes += m.size(key)
	f.order = append(f.order, place{f.last, key})
	if m.marker {
		f.markers = append(f.markers, place{f.last, key})
	}
	if len(f.order) > 1024+2*len(f.messages) {
		f.order = slices.DeleteFunc(f.order, func(p place) bool { return f.messages[p.key].sequence != p.sequence })
		clear(f.replaced) // a replica may have dropped them too
	}
	return f.last
}

// expire drops the markers older than markerLife.
func (f *Fake) expire() {
	for now := time.Now(); len(f.markers) > 0; f.markers = f.markers[1:] {
		p := f.markers[0]
		m := f.messages[p.key]
		if m.sequence != p.sequence {
			continue
		}
		if now.Sub(m.at) < markerLife {
			return
		}
		f.bytes -= m.size(p.key)
		delete(f.messages, p.key)
	}
}

func (f *Fake) state() journal.State {
	if !f.present {
		return journal.State{}
	}
	return journal.State{
		ID: fmt.Sprint("life ", f.made), Last: f.last, Owner: f.messages[ownerKey].sequence,
		Messages: uint64(len(f.messages)), Bytes: f.bytes, MaxBytes: f.maxBytes, Replicas: 1, Copies: 1,
	}
}

// commit stores all entries or none.
func (f *Fake) commit(last uint64, entries []journal.Entry, marker bool) ([]uint64, error) {
	if n := len(entries); n == 0 || n > batchMost {
		return nil, fmt.Errorf("storetest: %d entries, want 1 to %d", n, batchMost)
	}
	need := uint64(0)
	keys := map[string]bool{}
	for i, e := range entries {
		if keys[e.Key] || e.Key == ownerKey {
			return nil, fmt.Errorf("storetest: key %q must not be written, or is in the batch twice", e.Key)
		}
		keys[e.Key] = true
		if len(e.Value) > f.maxValue {
			return nil, &journal.EntryError{Index: i, Err: fmt.Errorf("value of %d bytes, at most %d", len(e.Value), f.maxValue)}
		}
		need += uint64(len(e.Key) + len(e.Value) + overhead)
	}
	if f.last != last {
		f.refused++
		return nil, fmt.Errorf("%w: the store is at %d, not %d", journal.ErrRefused, f.last, last)
	}
	for _, e := range entries {
		if e.Expect != 0 && f.messages[e.Key].sequence != e.Expect {
			f.refused++
			return nil, fmt.Errorf("%w: %s is at %d, not %d", journal.ErrRefused, e.Key, f.messages[e.Key].sequence, e.Expect)
		}
	}
	if f.maxBytes > 0 && f.bytes+need > f.maxBytes { // counts what is to be replaced too
		return nil, fmt.Errorf("%w: %d of %d bytes", journal.ErrFull, f.bytes, f.maxBytes)
	}
	sequences := make([]uint64, len(entries))
	for i, e := range entries {
		m := message{marker: marker}
		if !marker {
			m.value = bytes.Clone(e.Value)
		}
		sequences[i] = f.put(e.Key, m)
	}
	return sequences, nil
}

// A Client is one run's connection to a Fake. It is a journal.Store.
type Client struct {
	f *Fake

	mu     sync.Mutex
	away   chan struct{} // closed while the connection is cut
	frozen chan struct{} // nil unless the run is frozen; closed by Thaw
	fault  func(method string) Fault
	epoch  string // that Own was last called with
}

var _ journal.Store = (*Client)(nil)

// Client returns a new connection to the store.
func (f *Fake) Client() *Client { return &Client{f: f, away: make(chan struct{})} }

// Faults sets a function that returns the Fault of each later call by its method's name; nil
// means no faults.
func (c *Client) Faults(fault func(method string) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
}

// Cut cuts the connection. Calls under way fail at once, and may still take effect. Later calls
// fail until Mend.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.away:
	default:
		close(c.away)
	}
}

// Mend restores the connection after Cut.
func (c *Client) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.away:
		c.away = make(chan struct{})
	default:
	}
}

// Freeze stops the run, as SIGSTOP does. Its calls neither begin nor return until Thaw. Calls
// under way take effect.
func (c *Client) Freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen == nil {
		c.frozen = make(chan struct{})
	}
}

// Thaw continues the run after Freeze.
func (c *Client) Thaw() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen != nil {
		close(c.frozen)
		c.frozen = nil
	}
}

// Melt waits while the run is frozen.
func (c *Client) Melt() {
	for {
		c.mu.Lock()
		frozen := c.frozen
		c.mu.Unlock()
		if frozen == nil {
			return
		}
		<-frozen
	}
}

// call simulates one call of the store: the way there, the effect, and the way back. The result
// of effect is passed over a channel, so that nothing is written to memory that a caller may
// use after it has returned.
func call[T any](ctx context.Context, c *Client, method string, entries int, effect func() (T, error)) (result T, err error) {
	c.Melt()
	defer c.Melt()
	c.mu.Lock()
	away, fault := c.away, OK
	if c.fault != nil {
		fault = c.fault(method)
	}
	c.mu.Unlock()
	select {
	case <-away:
		return result, errAway
	default:
	}
	if err := ctx.Err(); err != nil {
		return result, err
	}
	type answer struct {
		result T
		err    error
	}
	var way, price time.Duration
	c.f.do(func() {
		c.f.calls[method]++
		way, price = c.f.trip/2, time.Duration(entries)*c.f.entry
	})
	answered := make(chan answer, 1)
	arrive := func(a answer) { // after the way back
		time.AfterFunc(way, func() { answered <- a })
	}
	there := way + price
	if fault == Late {
		c.f.do(func() { there += c.f.late })
	}
	time.AfterFunc(there, func() {
		if fault == Before {
			arrive(answer{err: errFault})
			return
		}
		if fault == Hang {
			return
		}
		var a answer
		c.f.do(func() {
			if c.f.none {
				a.err = journal.ErrNone
				return
			}
			c.f.expire()
			a.result, a.err = effect()
		})
		switch fault {
		case After:
			arrive(answer{err: errFault})
		case OK:
			arrive(a)
		}
	})
	select {
	case a := <-answered:
		return a.result, a.err
	case <-away:
		return result, errAway
	case <-ctx.Done():
		return result, ctx.Err()
	}
}

// Open creates the store if there is none.
func (c *Client) Open(ctx context.Context) error {
	_, err := call(ctx, c, "Open", 0, func() (struct{}, error) {
		f := c.f
		if f.unfit != nil {
			return struct{}{}, fmt.Errorf("%w: %w", journal.ErrUnfit, f.unfit)
		}
		if !f.present {
			f.made++
			f.present, f.last = true, 0
			f.empty()
		}
		return struct{}{}, nil
	})
	return err
}

type owned struct {
	epoch    string
	sequence uint64
}

// Owner returns the epoch that owns the store.
func (c *Client) Owner(ctx context.Context) (epoch string, sequence uint64, err error) {
	o, err := call(ctx, c, "Owner", 0, func() (owned, error) {
		m := c.f.messages[ownerKey]
		return owned{string(m.value), m.sequence}, nil
	})
	return o.epoch, o.sequence, err
}

// Own makes epoch the owner.
func (c *Client) Own(ctx context.Context, epoch string, expect uint64) (sequence uint64, err error) {
	c.mu.Lock()
	c.epoch = epoch
	c.mu.Unlock()
	return call(ctx, c, "Own", 1, func() (uint64, error) {
		f := c.f
		switch {
		case !f.present:
			return 0, errNoStore
		case f.messages[ownerKey].sequence != expect:
			f.refused++
			return 0, fmt.Errorf("%w: the owner is at %d, not %d", journal.ErrRefused, f.messages[ownerKey].sequence, expect)
		}
		return f.put(ownerKey, message{value: []byte(epoch)}), nil
	})
}

// A chunk is one piece of a read.
type chunk struct {
	entries []journal.Entry
	through uint64 // the last sequence that was read
	end     bool   // the leader has nothing newer
	state   journal.State
}

// Read reads everything above after, a chunk at a time, and what is written meanwhile too.
func (c *Client) Read(ctx context.Context, after uint64, tell func(journal.Entry)) (journal.State, error) {
	for {
		got, err := call(ctx, c, "Read", readChunk, func() (chunk, error) { return c.f.chunk(after) })
		if err != nil {
			return journal.State{}, err
		}
		for _, e := range got.entries {
			if err := ctx.Err(); err != nil {
				return journal.State{}, err
			}
			tell(e)
		}
		if got.end {
			return got.state, nil
		}
		after = got.through
	}
}

// chunk returns the next piece after a sequence; f.mu is held.
func (f *Fake) chunk(after uint64) (c chunk, err error) {
	if !f.present {
		return c, errNoStore
	}
	now := time.Now()
	c.through, c.end = after, true
	from, _ := slices.BinarySearchFunc(f.order, after+1, func(p place, s uint64) int { return cmp.Compare(p.sequence, s) })
	for _, p := range f.order[from:] {
		m := f.messages[p.key]
		if m.sequence != p.sequence {
			was, known := f.replaced[p.sequence]
			if !known || now.Sub(m.at) >= f.lag {
				continue
			}
			m = was // a replica that lags has not heard of the newer one
		}
		c.end = false
		if len(c.entries) == readChunk || now.Sub(m.at) < f.lag { // the leader has more
			break
		}
		c.through = p.sequence
		if p.key != ownerKey {
			c.entries = append(c.entries, journal.Entry{Key: p.key, Value: m.value, Marker: m.marker, Sequence: m.sequence})
		}
	}
	c.state = f.state()
	return c, nil
}

// Write stores all entries or none.
func (c *Client) Write(ctx context.Context, last uint64, entries []journal.Entry) (uint64, error) {
	return c.commit(ctx, "Write", last, entries, false)
}

// Delete replaces all entries by markers, or none.
func (c *Client) Delete(ctx context.Context, last uint64, entries []journal.Entry) (uint64, error) {
	return c.commit(ctx, "Delete", last, entries, true)
}

func (c *Client) commit(ctx context.Context, method string, last uint64, entries []journal.Entry, marker bool) (uint64, error) {
	sent := slices.Clone(entries) // the caller may reuse entries once it has returned
	for i := range sent {
		sent[i].Value = bytes.Clone(sent[i].Value)
	}
	c.mu.Lock()
	epoch := c.epoch
	c.mu.Unlock()
	sequences, err := call(ctx, c, method, len(sent), func() ([]uint64, error) {
		if !c.f.present {
			return nil, errNoStore
		}
		sequences, err := c.f.commit(last, sent, marker)
		if owner := c.f.messages[ownerKey]; err == nil && len(owner.value) > 0 && string(owner.value) != epoch {
			c.f.poached++
		}
		return sequences, err
	})
	if err != nil {
		return 0, err
	}
	for i := range entries {
		entries[i].Sequence = sequences[i]
	}
	return sequences[len(sequences)-1], nil
}

// State returns the store's present state.
func (c *Client) State(ctx context.Context) (journal.State, error) {
	return call(ctx, c, "State", 0, func() (journal.State, error) {
		if c.f.unfit != nil {
			return journal.State{}, fmt.Errorf("%w: %w", journal.ErrUnfit, c.f.unfit)
		}
		return c.f.state(), nil
	})
}
