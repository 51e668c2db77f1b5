package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/edge/journal"
)

// A Subject is a store to test, and what others can do to it. A field that is nil or 0 cannot
// be used with this store, and its tests are skipped.
type Subject struct {
	// Store is one run's connection to a store that does not exist yet. Open was not called.
	Store journal.Store
	// Twin is another run's connection to the same store.
	Twin journal.Store

	Put     func(key, value string) // an operator writes a key, without an expected sequence
	Remove  func(key string)        // an operator deletes a key, which leaves a marker
	Purge   func()                  // an operator removes all messages
	Destroy func()                  // an operator removes the store
	Limit   func(bytes uint64)      // the store takes at most this many bytes from now on

	MaxValue int // the most bytes of a value; 0: not known

	// Lags says that reads may be answered by a replica that lags: it may tell an entry and then,
	// in the same read, the one that took its place.
	Lags bool
}

// limit is the time limit of each call, generous enough for a busy machine.
const limit = 30 * time.Second

// A probe is a subject in a test. Its methods fail the test if a call fails.
type probe struct {
	Subject
	t *testing.T
}

func (p *probe) ctx() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	p.t.Cleanup(cancel)
	return ctx
}

func (p *probe) open() {
	p.t.Helper()
	for _, s := range []journal.Store{p.Store, p.Twin} {
		if s == nil {
			continue
		}
		if err := s.Open(p.ctx()); err != nil {
			p.t.Fatalf("open: %v", err)
		}
	}
}

// openAnew opens a store that was destroyed. What it was kept in may take a moment to go, and a
// store is refused meanwhile: whoever uses one tries again.
func (p *probe) openAnew() {
	p.t.Helper()
	ctx := p.ctx()
	for ctx.Err() == nil && p.Store.Open(ctx) != nil {
		time.Sleep(5 * time.Millisecond) // there is no event to wait for
	}
	p.open()
}

// state returns the store's state without Copies, which change by themselves.
func (p *probe) state() journal.State {
	p.t.Helper()
	s, err := p.Store.State(p.ctx())
	if err != nil {
		p.t.Fatalf("state: %v", err)
	}
	s.Copies = 0
	return s
}

func (p *probe) own(epoch string, expect uint64) uint64 {
	p.t.Helper()
	sequence, err := p.Store.Own(p.ctx(), epoch, expect)
	if err != nil {
		p.t.Fatalf("own: %v", err)
	}
	return sequence
}

func (p *probe) write(last uint64, entries ...journal.Entry) uint64 {
	p.t.Helper()
	newLast, err := p.Store.Write(p.ctx(), last, entries)
	if err != nil {
		p.t.Fatalf("write %d entries: %v", len(entries), err)
	}
	return newLast
}

func (p *probe) delete(last uint64, entries ...journal.Entry) uint64 {
	p.t.Helper()
	newLast, err := p.Store.Delete(p.ctx(), last, entries)
	if err != nil {
		p.t.Fatalf("delete %d entries: %v", len(entries), err)
	}
	return newLast
}

func (p *probe) read(after uint64) ([]journal.Entry, journal.State) {
	p.t.Helper()
	var all []journal.Entry
	state, err := p.Store.Read(p.ctx(), after, func(e journal.Entry) {
		e.Value = slices.Clone(e.Value)
		all = append(all, e)
	})
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	state.Copies = 0
	return all, state
}

// holds checks what the store holds above a sequence: "key=value", or "key" for a marker. Where reads
// lag, of several entries of a key the last one counts.
func (p *probe) holds(after uint64, want ...string) {
	p.t.Helper()
	all, state := p.read(after)
	newest := map[string]uint64{}
	for _, e := range all {
		newest[e.Key] = e.Sequence
	}
	got := []string{}
	before := after
	for _, e := range all {
		if e.Sequence <= before {
			p.t.Errorf("sequence %d of %s after %d", e.Sequence, e.Key, before)
		}
		before = e.Sequence
		switch {
		case p.Lags && e.Sequence != newest[e.Key]:
		case e.Marker && e.Value != nil:
			p.t.Errorf("the marker of %s has a value", e.Key)
		case e.Marker:
			got = append(got, e.Key)
		default:
			got = append(got, e.Key+"="+string(e.Value))
		}
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("read beyond %d: %v, want %v", after, got, want)
	}
	if state != p.state() || state.Last < before {
		p.t.Errorf("read ends with %+v, the state is %+v", state, p.state())
	}
}

// refuses checks that a write and a deletion are refused and have no effect.
func (p *probe) refuses(last uint64, entries ...journal.Entry) {
	p.t.Helper()
	before := p.state()
	if _, err := p.Store.Write(p.ctx(), last, entries); !errors.Is(err, journal.ErrRefused) {
		p.t.Errorf("write: %v, want a refusal", err)
	}
	if _, err := p.Store.Delete(p.ctx(), last, entries); !errors.Is(err, journal.ErrRefused) {
		p.t.Errorf("delete: %v, want a refusal", err)
	}
	if after := p.state(); after != before {
		p.t.Errorf("refused, but %+v became %+v", before, after)
	}
}

func entry(key, value string, expect uint64) journal.Entry {
	return journal.Entry{Key: key, Value: []byte(value), Expect: expect}
}

// Run runs the suite. It calls make for a new subject per test.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	run := func(name string, needs func(Subject) bool, f func(p *probe)) {
		t.Run(name, func(t *testing.T) {
			s := make(t)
			if needs != nil && !needs(s) {
				t.Skip("skipped: not possible with this store")
			}
			f(&probe{s, t})
		})
	}
	run("D5 an owner, and who expects it", nil, testOwner)
	run("D5 a write expects the store's last sequence, and its keys'", nil, testWrite)
	run("D6 deletions leave markers", nil, testDelete)
	run("D2 reading goes on where one stopped", nil, testRead)
	run("D2 what is written while it is read", func(s Subject) bool { return s.Put != nil }, testReadBesideWrites)
	run("full batches", nil, testFullBatches)
	run("D5 another run becomes the owner", func(s Subject) bool { return s.Twin != nil }, testTwin)
	run("D5 an operator writes", func(s Subject) bool { return s.Put != nil && s.Remove != nil }, testOperator)
	run("D5 purged", func(s Subject) bool { return s.Purge != nil }, testPurge)
	run("D5 made anew under its name", func(s Subject) bool { return s.Destroy != nil }, testDestroy)
	run("D6 full", func(s Subject) bool { return s.Limit != nil }, testFull)
	run("D6 what it will never take", func(s Subject) bool { return s.MaxValue > 0 }, testNever)
	run("calls end with their context", nil, testContext)
}

func testOwner(p *probe) {
	p.open()
	if err := p.Store.Open(p.ctx()); err != nil {
		p.t.Errorf("opened again: %v", err)
	}
	if s := p.state(); s.ID == "" || s.Owner != 0 || s.Messages != 0 {
		p.t.Errorf("a new store is %+v", s)
	}
	if epoch, sequence, err := p.Store.Owner(p.ctx()); err != nil || epoch != "" || sequence != 0 {
		p.t.Errorf("owned by %q at %d, %v, want nobody", epoch, sequence, err)
	}
	first := p.own("e1", 0)
	if epoch, sequence, err := p.Store.Owner(p.ctx()); err != nil || epoch != "e1" || sequence != first {
		p.t.Errorf("owned by %q at %d, %v, want e1 at %d", epoch, sequence, err, first)
	}
	for _, wrong := range []uint64{0, first + 1} {
		if _, err := p.Store.Own(p.ctx(), "e2", wrong); !errors.Is(err, journal.ErrRefused) {
			p.t.Errorf("owned at %d, expecting %d: %v, want a refusal", first, wrong, err)
		}
	}
	second := p.own("e2", first)
	if s := p.state(); s.Owner != second || s.Last != second || second <= first || s.Messages != 1 {
		p.t.Errorf("owned anew at %d, the state is %+v", second, s)
	}
	p.holds(0) // the owner's entry is left out
}

func testWrite(p *probe) {
	p.open()
	own := p.own("e1", 0)
	entries := []journal.Entry{entry("a", "1", 0), entry("b", "1", 0), entry("c=2A/x.y-_", "1", 0)}
	last := p.write(own, entries...)
	if last != own+3 || entries[0].Sequence != own+1 || entries[2].Sequence != own+3 {
		p.t.Errorf("written behind %d: last %d, %+v", own, last, entries)
	}
	p.refuses(own, entry("d", "1", 0))                     // one message, after a wrong sequence
	p.refuses(own, entry("d", "1", 0), entry("e", "1", 0)) // a batch
	p.refuses(last+1, entry("d", "1", 0))
	p.refuses(last, entry("a", "2", own+1), entry("b", "2", own+3)) // one key of a batch
	p.refuses(last, entry("a", "2", own+2))
	p.refuses(last, entry("new", "2", own+2))
	next := []journal.Entry{entry("a", "2", own+1), entry("b", "2", 0), entry("new", "1", 0)} // b is not checked
	last = p.write(last, next...)
	last = p.write(last, entry("a", "3", next[0].Sequence))
	p.holds(0, "c=2A/x.y-_=1", "b=2", "new=1", "a=3")
	if s := p.state(); s.Last != last || s.Messages != 5 || s.Owner != own || s.Bytes == 0 {
		p.t.Errorf("4 keys and the owner, last %d: %+v", last, s)
	}
}

func testDelete(p *probe) {
	p.open()
	own := p.own("e1", 0)
	entries := []journal.Entry{entry("a", "1", 0), entry("b", "1", 0), entry("c", "1", 0)}
	last := p.write(own, entries...)
	dead := []journal.Entry{{Key: "a", Expect: entries[0].Sequence}, {Key: "b"}, {Key: "never"}}
	last = p.delete(last, dead...)
	if dead[1].Sequence != last-1 {
		p.t.Errorf("deleted through %d, b at %d", last, dead[1].Sequence)
	}
	p.holds(0, "c=1", "a", "b", "never")
	if s := p.state(); s.Messages < 2 || s.Last != last {
		p.t.Errorf("a key, the owner and markers, last %d: %+v", last, s)
	}
	last = p.delete(last, journal.Entry{Key: "c"}) // one message
	last = p.write(last, entry("a", "2", dead[0].Sequence), entry("b", "2", 0))
	p.holds(last-3, "c", "a=2", "b=2")
}

func testRead(p *probe) {
	p.open()
	last := p.own("e1", 0)
	p.holds(0)
	p.holds(last)
	var want []string
	for i := range 10 {
		last = p.write(last, entry(fmt.Sprint("k", i), "1", 0))
		want = append(want, fmt.Sprintf("k%d=1", i))
	}
	p.holds(0, want...)
	p.holds(last-3, want[7:]...)
	last = p.write(last, entry("k0", "2", 0))
	p.holds(0, append(want[1:], "k0=2")...)
	p.holds(last-1, "k0=2")
	p.holds(last)
}

func testReadBesideWrites(p *probe) {
	p.open()
	last := p.own("e1", 0)
	for i := range 50 {
		last = p.write(last, entry(fmt.Sprint("k", i), "old", 0))
	}
	held := map[string]string{}
	n, before := 0, uint64(0)
	state, err := p.Store.Read(p.ctx(), 0, func(e journal.Entry) {
		if e.Sequence <= before {
			p.t.Errorf("sequence %d after %d", e.Sequence, before)
		}
		before = e.Sequence
		held[e.Key] = string(e.Value)
		if n++; n <= 20 {
			p.Put(fmt.Sprint("k", 50-n), "new") // of some before they are read
			p.Put(fmt.Sprint("more", n), "new")
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	state.Copies = 0
	if state.Last < last+40 || state != p.state() {
		p.t.Errorf("read through %d of at least %d: %+v", state.Last, last+40, p.state())
	}
	for i := range 50 {
		want := "old"
		if i >= 30 {
			want = "new"
		}
		if got := held[fmt.Sprint("k", i)]; got != want {
			p.t.Errorf("k%d was read as %q, want %q", i, got, want)
		}
	}
	for i := range 20 {
		if got := held[fmt.Sprint("more", i+1)]; got != "new" {
			p.t.Errorf("more%d was read as %q, want new", i+1, got)
		}
	}
}

func testFullBatches(p *probe) {
	p.open()
	last := p.own("e1", 0)
	entries := make([]journal.Entry, batchMost)
	value := strings.Repeat("x", 500)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("client-%04d", i), value, 0)
	}
	last = p.write(last, entries...)
	for i := range entries {
		if want := last - uint64(len(entries)) + uint64(i) + 1; entries[i].Sequence != want {
			p.t.Fatalf("entry %d is at %d, want %d", i, entries[i].Sequence, want)
		}
		entries[i].Expect = entries[i].Sequence
	}
	last = p.write(last, entries...)
	for i := range entries {
		entries[i].Expect, entries[i].Value = 0, nil
	}
	last = p.delete(last, entries[:batchMost/2]...)
	all, state := p.read(0)
	if len(all) != batchMost || state.Last != last {
		p.t.Errorf("%d entries and markers, want %d; %+v", len(all), batchMost, state)
	}
	for i, e := range all {
		if marker := i >= batchMost/2; e.Marker != marker {
			p.t.Fatalf("entry %d of the store is %q, marker %v", i, e.Key, e.Marker)
		}
	}
}

func testTwin(p *probe) {
	p.open()
	own := p.own("e1", 0)
	last := p.write(own, entry("a", "1", 0))
	theirs, err := p.Twin.Own(p.ctx(), "e2", own)
	if err != nil {
		p.t.Fatal(err)
	}
	p.refuses(last, entry("b", "1", 0))
	p.refuses(last, entry("b", "1", 0), entry("c", "1", 0))
	if s := p.state(); s.Owner != theirs || s.Last != theirs {
		p.t.Errorf("the twin owns it at %d, the state is %+v", theirs, s)
	}
	if _, err := p.Twin.Write(p.ctx(), theirs, []journal.Entry{entry("a", "2", last)}); err != nil {
		p.t.Errorf("the twin writes: %v", err)
	}
	p.holds(0, "a=2")
}

func testOperator(p *probe) {
	p.open()
	last := p.write(p.own("e1", 0), entry("a", "1", 0), entry("b", "1", 0))
	p.Put("a", "theirs")
	p.refuses(last, entry("c", "1", 0))
	p.holds(last, "a=theirs")
	p.Remove("b")
	p.holds(last, "a=theirs", "b")
	p.write(p.state().Last, entry("b", "2", 0))
	p.holds(last, "a=theirs", "b=2")
}

func testPurge(p *probe) {
	p.open()
	own := p.own("e1", 0)
	last := p.write(own, entry("a", "1", 0), entry("b", "1", 0))
	p.Purge()
	s := p.state()
	if s.Owner != 0 || s.Messages != 0 || s.Last < last {
		p.t.Errorf("purged at %d: %+v", last, s)
	}
	if epoch, sequence, err := p.Store.Owner(p.ctx()); err != nil || epoch != "" || sequence != 0 {
		p.t.Errorf("owned by %q at %d, %v, want nobody", epoch, sequence, err)
	}
	p.refuses(s.Last, entry("a", "2", last-1))
	own = p.own("e1", 0)
	p.write(own, entry("a", "2", 0))
	p.holds(0, "a=2")
}

func testDestroy(p *probe) {
	p.open()
	own := p.own("e1", 0)
	last := p.write(own, entry("a", "1", 0))
	before := p.state()
	p.Destroy()
	if s := p.state(); s != (journal.State{}) {
		p.t.Errorf("the store is gone, but its state is %+v", s)
	}
	for name, call := range map[string]func() error{
		"write": func() error {
			_, err := p.Store.Write(p.ctx(), last, []journal.Entry{entry("b", "1", 0)})
			return err
		},
		"own": func() error { _, err := p.Store.Own(p.ctx(), "e1", own); return err },
		"read": func() error {
			_, err := p.Store.Read(p.ctx(), 0, func(e journal.Entry) { p.t.Errorf("read %q", e.Key) })
			return err
		},
	} {
		if err := call(); err == nil {
			p.t.Errorf("%s: no error without a store", name)
		}
	}
	p.openAnew()
	if s := p.state(); s.ID == before.ID || s.ID == "" || s.Messages != 0 || s.Owner != 0 {
		p.t.Errorf("created again it is %+v, before it was %+v", s, before)
	}
	p.write(p.own("e1", 0), entry("a", "2", 0))
	p.holds(0, "a=2")
}

func testFull(p *probe) {
	p.open()
	last := p.own("e1", 0)
	value := strings.Repeat("x", 1000)
	const room = 1 << 20
	p.Limit(room)
	for i := 0; ; i++ {
		entries := make([]journal.Entry, 20)
		for k := range entries {
			entries[k] = entry(fmt.Sprintf("a%d.%d", i, k), value, 0)
		}
		before := p.state()
		if before.MaxBytes != room {
			p.t.Fatalf("the state lacks the limit: %+v", before)
		}
		next, err := p.Store.Write(p.ctx(), last, entries)
		if errors.Is(err, journal.ErrFull) {
			if after := p.state(); after != before {
				p.t.Errorf("refused because it is full, but %+v became %+v", before, after)
			}
			if i < 10 || before.Bytes > room {
				p.t.Errorf("full after %d batches with %d bytes", i, before.Bytes)
			}
			return
		}
		if err != nil || i > room/len(value) {
			p.t.Fatalf("batch %d: %v, want it to be full in the end", i, err)
		}
		last = next
	}
}

func testNever(p *probe) {
	p.open()
	last := p.own("e1", 0)
	fits, tooLong := strings.Repeat("x", p.MaxValue), strings.Repeat("x", p.MaxValue+1)
	last = p.write(last, entry("a", fits, 0), entry("b", fits, 0))
	for _, entries := range [][]journal.Entry{
		{entry("c", tooLong, 0)},
		{entry("a", "1", 0), entry("c", tooLong, 0), entry("b", "1", 0)},
	} {
		_, err := p.Store.Write(p.ctx(), last, entries)
		never, ok := errors.AsType[*journal.EntryError](err)
		if !ok {
			p.t.Errorf("%d entries: %v, want an EntryError", len(entries), err)
			continue
		}
		if want := len(entries) / 2; never.Index != want {
			p.t.Errorf("the error names entry %d of %d, want %d", never.Index, len(entries), want)
		}
	}
	if s := p.state(); s.Last != last {
		p.t.Errorf("something was stored: %+v, want last %d", s, last)
	}
}

func testContext(p *probe) {
	p.open()
	last := p.write(p.own("e1", 0), entry("a", "1", 0))
	ended, cancel := context.WithCancel(p.t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"open":  func() error { return p.Store.Open(ended) },
		"owner": func() error { _, _, err := p.Store.Owner(ended); return err },
		"own":   func() error { _, err := p.Store.Own(ended, "e2", 1); return err },
		"state": func() error { _, err := p.Store.State(ended); return err },
		"read":  func() error { _, err := p.Store.Read(ended, 0, func(journal.Entry) {}); return err },
		"write": func() error {
			_, err := p.Store.Write(ended, last, []journal.Entry{entry("b", "1", 0)})
			return err
		},
		"delete": func() error {
			_, err := p.Store.Delete(ended, last, []journal.Entry{entry("a", "", 0)})
			return err
		},
	} {
		begun := time.Now()
		if err := call(); err == nil {
			p.t.Errorf("%s: no error after the context's end", name)
		}
		if took := time.Since(begun); took > limit/2 {
			p.t.Errorf("%s took %v after the context's end", name, took)
		}
	}
	told := 0
	reading, stop := context.WithCancel(p.t.Context())
	defer stop()
	if _, err := p.Store.Read(reading, 0, func(journal.Entry) { told++; stop() }); err == nil && told > 1 {
		p.t.Errorf("read on for %d entries after its context had ended", told)
	}
}
