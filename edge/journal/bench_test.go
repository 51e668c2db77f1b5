package journal

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// numbers is a Store that accepts every call at once and only counts sequences.
type numbers struct{ last uint64 }

func (s *numbers) Open(context.Context) error                    { return nil }
func (s *numbers) Owner(context.Context) (string, uint64, error) { return "", 0, nil }
func (s *numbers) State(context.Context) (State, error)          { return s.state(), nil }
func (s *numbers) Own(context.Context, string, uint64) (uint64, error) {
	s.last++
	return s.last, nil
}
func (s *numbers) Read(context.Context, uint64, func(Entry)) (State, error) { return s.state(), nil }
func (s *numbers) Write(_ context.Context, _ uint64, e []Entry) (uint64, error) {
	for i := range e {
		s.last++
		e[i].Sequence = s.last
	}
	return s.last, nil
}
func (s *numbers) Delete(_ context.Context, last uint64, _ []Entry) (uint64, error) { return last, nil }

func (s *numbers) state() State { return State{ID: "one", Last: s.last, Owner: 1, Messages: 1e9} }

// BenchmarkWrite measures a batch without the store: reading it from the table and noting that
// it is kept.
func BenchmarkWrite(b *testing.B) {
	for _, n := range []int{1, 100, batchMost} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := position.New(position.Config{Journal: true})
			j := New(Config{Table: table, Store: &numbers{}, Log: slog.New(slog.DiscardHandler)})
			ops := make([]position.Op, n)
			for i := range ops {
				m, err := wire.ParseIAMAT(fmt.Appendf(nil, "client-%07d +34.068930-118.445127 1700000000.959498503", i))
				if err != nil {
					b.Fatal(err)
				}
				now := m.Stamp + 263_873_386
				table.PreparePutOwn(&ops[i], m.AppendAT(nil, "Clark", now), &m, now)
			}
			table.Apply(17e17, position.Source{}, ops)
			now := time.Now() // stands still, so that no check of the store is due
			var e event
			step := func() call {
				t := j.step(now, e)
				e = event{call: t.call}
				if t.call != rest {
					j.do(b.Context(), t, &e)
				}
				return t.call
			}
			for step() != rest {
			}
			first := j.known
			b.ReportAllocs()
			for b.Loop() {
				unmark(table) // so that there is something to write
				j.cursor.Store(0)
				for step() != rest {
				}
			}
			if j.known-first != uint64(n*(b.N)) {
				b.Fatalf("%d entries written, want %d batches of %d", j.known-first, b.N, n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}

// BenchmarkAwait measures Await without the write, with 256 waiters at a time (D3).
func BenchmarkAwait(b *testing.B) {
	const n = 256
	j := New(Config{Table: position.New(position.Config{Journal: true}), Store: &numbers{}, Log: slog.New(slog.DiscardHandler)})
	items := make([]item, n)
	waits := make([][]position.Ref, n)
	for i := range items {
		items[i] = item{Ref: position.Ref{Slot: uint32(i), Revision: 1}}
		waits[i] = []position.Ref{{Slot: uint32(i), Revision: 1}}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range waits {
			j.awaits.enter(Peer{Conn: uint64(i)}, waits[i], &waiter{left: 1, done: make(chan struct{})})
		}
		j.awaits.kept(items)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/answer")
}
