package journal

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"herd/edge/position"
	"herd/edge/wire"
)

// numbers is a Store that takes everything at once, and only counts.
type numbers struct{ last uint64 }

func (s *numbers) Open(context.Context) error                       { return nil }
func (s *numbers) Load(context.Context, func(Entry)) (State, error) { return State{}, nil }
func (s *numbers) Get(context.Context, string) (Entry, bool, error) { return Entry{}, false, nil }
func (s *numbers) Delete(context.Context, []Entry) error            { return nil }
func (s *numbers) State(context.Context) (State, error)             { return State{Last: s.last}, nil }
func (s *numbers) Write(_ context.Context, e []Entry) (uint64, error) {
	for i := range e {
		s.last++
		e[i].Sequence = s.last
	}
	return s.last, nil
}

// BenchmarkWrite is what a batch costs the edge without its store: reading it from the
// table, and noting that it is kept.
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
				table.PutOwnLine(&ops[i], m.AppendAT(nil, "Clark", now), &m, now)
			}
			table.Apply(17e17, position.Source{}, ops)
			b.ReportAllocs()
			for b.Loop() {
				table.Unkeep() // so that there is something to write
				j.cursor.Store(0)
				if err := j.write(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			if j.state.Last != uint64(n*(b.N)) {
				b.Fatalf("%d entries written, want %d batches of %d", j.state.Last, b.N, n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}

// BenchmarkAwait is what it costs an answer to wait for its line, besides the write: 256
// at a time (D3).
func BenchmarkAwait(b *testing.B) {
	const n = 256
	j := New(Config{Table: position.New(position.Config{Journal: true}), Store: &numbers{}, Log: slog.New(slog.DiscardHandler)})
	items := make([]position.Item, n)
	waits := make([][]position.Ref, n)
	for i := range items {
		items[i] = position.Item{Slot: uint32(i), Revision: 1}
		waits[i] = []position.Ref{{Slot: uint32(i), Revision: 1}}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range waits {
			j.awaits.enter(waits[i], &waiter{left: 1, done: make(chan struct{})})
		}
		j.awaits.kept(items)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/answer")
}
