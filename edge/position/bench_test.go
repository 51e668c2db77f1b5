package position

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"herd/edge/wire"
)

// fill puts n clients into a table and returns their ids.
func fill(table *Table, n int) {
	ops := make([]Op, 1)
	for i := range n {
		line := benchLine(nil, i, 0)
		a, _ := wire.ParseAT(line[:len(line)-1])
		table.PreparePut(&ops[0], line, &a)
		table.Apply(0, Source{}, ops)
	}
}

// benchLine returns an AT line of about 85 bytes, a usual length.
func benchLine(dst []byte, client, round int) []byte {
	dst = append(dst, "AT Clark +0.263873386 client-"...)
	for d := 1_000_000; d > 0; d /= 10 {
		dst = append(dst, byte('0'+client/d%10))
	}
	dst = append(dst, " +34.068930-118.445127 16"...)
	for d := 10_000_000; d > 0; d /= 10 {
		dst = append(dst, byte('0'+round/d%10))
	}
	return append(dst, ".959498503\n"...)
}

// BenchmarkReceiveLine measures a line of a full link message: parsing and merging, in batches of
// 700 lines of clients in random order, each newer than the line held. The time under the table's
// lock limits what an edge can store, however many cores it has.
func BenchmarkReceiveLine(b *testing.B) {
	for _, clients := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			table := New(Config{})
			fill(table, clients)
			const batch, batches = 700, 200
			ops := make([]Op, batch)
			lines := make([][]byte, batch*batches)
			seed := uint64(1)
			for i := range lines {
				seed = seed*6364136223846793005 + 1442695040888963407
				lines[i] = benchLine(nil, int((seed>>33)%uint64(clients)), 0)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var locked time.Duration
			for n, k := 0, 0; n < b.N; n, k = n+batch, (k+1)%batches {
				for i, line := range lines[k*batch : (k+1)*batch] {
					younger(line)
					a, _ := wire.ParseAT(line[:len(line)-1])
					table.PreparePut(&ops[i], line, &a)
				}
				begun := time.Now()
				table.Apply(0, Source{1, "e"}, ops)
				locked += time.Since(begun)
			}
			b.ReportMetric(float64(locked)/float64((b.N+batch-1)/batch*batch), "ns-locked/op")
		})
	}
}

// younger makes a benchLine a second newer.
func younger(line []byte) {
	for i := len(line) - len(".959498503\n") - 1; ; i-- {
		if line[i]++; line[i] <= '9' {
			return
		}
		line[i] = '0'
	}
}

// batchOf prepares a Put per line and returns ops.
func batchOf(table *Table, ops []Op, lines [][]byte) []Op {
	for i, line := range lines {
		a, _ := wire.ParseAT(line[:len(line)-1])
		table.PreparePut(&ops[i], line, &a)
	}
	return ops[:len(lines)]
}

// wantOutcome checks that all operations of a batch had this outcome.
func wantOutcome(b *testing.B, ops []Op, want Outcome) {
	b.Helper()
	for i := range ops {
		if ops[i].Outcome != want {
			b.Fatalf("line %d of the batch: outcome %d, want %d", i, ops[i].Outcome, want)
		}
	}
}

// BenchmarkNewClient measures a line of an unknown client: parsing and storing, in batches of 700
// lines, while the table grows to 100,000 clients. It allocates what the table grows by.
func BenchmarkNewClient(b *testing.B) {
	const batch, batches = 700, 143
	lines := make([][]byte, batch*batches)
	for i := range lines {
		lines[i] = benchLine(nil, i, 0)
	}
	ops := make([]Op, batch)
	var table *Table
	b.ReportAllocs()
	b.ResetTimer()
	for n, k := 0, 0; n < b.N; n, k = n+batch, (k+1)%batches {
		if k == 0 {
			table = New(Config{})
		}
		some := batchOf(table, ops, lines[k*batch:(k+1)*batch])
		table.Apply(0, Source{1, "e"}, some)
		wantOutcome(b, some, Stored)
	}
	if clients, head, _ := table.Stats(); uint64(clients) != head {
		b.Fatalf("%d clients after %d changes", clients, head)
	}
}

// BenchmarkDuplicate measures a line that is held already, as it comes from every neighbour but the
// first: parsing and comparing, in batches of 700 lines of 100,000 clients in random order.
func BenchmarkDuplicate(b *testing.B) {
	table := New(Config{})
	const clients = 100_000
	fill(table, clients)
	const batch, batches = 700, 200
	lines := make([][]byte, batch*batches)
	seed := uint64(1)
	for i := range lines {
		seed = seed*6364136223846793005 + 1442695040888963407
		lines[i] = benchLine(nil, int((seed>>33)%clients), 0)
	}
	ops := make([]Op, batch)
	b.ReportAllocs()
	b.ResetTimer()
	for n, k := 0, 0; n < b.N; n, k = n+batch, (k+1)%batches {
		some := batchOf(table, ops, lines[k*batch:(k+1)*batch])
		table.Apply(0, Source{1, "e"}, some)
		wantOutcome(b, some, Held)
	}
	if table.Head() != clients {
		b.Fatalf("revision %d, want %d: a duplicate is no change", table.Head(), clients)
	}
}

// BenchmarkForget measures a record that is forgotten, and one that is looked at and stays, among
// 100,000 in steps of 1000, as an edge does it.
func BenchmarkForget(b *testing.B) {
	const clients, step = 100_000, 1000
	lines := make([][]byte, clients)
	for i := range lines {
		lines[i] = benchLine(nil, i, 0)
	}
	first, _ := wire.ParseAT(lines[0][:len(lines[0])-1])
	past := first.Stamp + second
	b.Run("dropped", func(b *testing.B) {
		table := New(Config{Retain: 1})
		ops := make([]Op, clients)
		b.ReportAllocs()
		for n := 0; n < b.N; n += clients {
			b.StopTimer()
			some := batchOf(table, ops, lines)
			table.Apply(first.Stamp, Source{}, some)
			wantOutcome(b, some, Stored)
			b.StartTimer()
			for sum, end := 0, false; !end; {
				var dropped int
				dropped, end = table.Forget(past, step, nil)
				if sum += dropped; end && sum != clients {
					b.Fatalf("%d of %d were forgotten", sum, clients)
				}
			}
		}
	})
	b.Run("kept", func(b *testing.B) {
		table := New(Config{Retain: 1})
		table.Apply(first.Stamp, Source{}, batchOf(table, make([]Op, clients), lines))
		b.ReportAllocs()
		b.ResetTimer()
		for n := 0; n < b.N; n += step {
			if dropped, _ := table.Forget(first.Stamp, step, nil); dropped != 0 {
				b.Fatalf("%d were forgotten before their time", dropped)
			}
		}
	})
}

// BenchmarkReadLine measures a line on its way from the table to a message: for a neighbour that
// lacks all lines, with and without an idle second hand (H3), and for a neighbour from which every
// other line came (H4).
func BenchmarkReadLine(b *testing.B) {
	const clients = 100_000
	for _, c := range []struct {
		name string
		to   Source
		hand *Hand
		want int
	}{
		{"all", Source{}, nil, clients},
		{"resting", Source{}, new(Hand), clients},
		{"neighbour", Source{1, "e"}, nil, clients / 2},
	} {
		b.Run(c.name, func(b *testing.B) {
			table := New(Config{})
			ops := make([]Op, 1)
			for i := range clients {
				table.Apply(0, Source{i % 2, "e"}, batchOf(table, ops, [][]byte{benchLine(nil, i, 0)}))
			}
			var dst []byte
			var cursor uint64
			lines := 0 // since the cursor was at the start
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				var span Span
				dst, span = table.Read(dst[:0], cursor, 1<<16, c.to, 0, c.hand)
				n += span.Lines
				lines += span.Lines
				if cursor = span.Through; cursor == span.Head {
					if lines != c.want {
						b.Fatalf("%d lines were read, want %d", lines, c.want)
					}
					cursor, lines = 0, 0
				}
			}
		})
	}
}

// BenchmarkMemoryPerClient reports the bytes of heap that a client's record and
// its line of 85 bytes take.
func BenchmarkMemoryPerClient(b *testing.B) {
	const clients = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		table := New(Config{})
		fill(table, clients)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/clients, "B/client")
		runtime.KeepAlive(table)
	}
}
