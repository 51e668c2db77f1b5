package position

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"herd/edge/wire"
)

// fill puts n clients into a table and returns the ids.
func fill(table *Table, n int) {
	ops := make([]Op, 1)
	for i := range n {
		line := benchLine(nil, i, 0)
		a, _ := wire.ParseAT(line[:len(line)-1])
		table.PutLine(&ops[0], line, &a)
		table.Apply(0, Source{}, ops)
	}
}

// benchLine is a line as the herd hands them on, about 85 bytes.
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

// BenchmarkReceiveLine is what a line of a full link message costs: parse and
// merge, 700 lines a batch of clients in no order, every one newer. What of it is under the
// table's lock bounds what an edge can store, whatever its cores.
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
					table.PutLine(&ops[i], line, &a)
				}
				begun := time.Now()
				table.Apply(0, Source{1, "e"}, ops)
				locked += time.Since(begun)
			}
			b.ReportMetric(float64(locked)/float64((b.N+batch-1)/batch*batch), "ns-locked/op")
		})
	}
}

// younger makes a benchLine a second younger.
func younger(line []byte) {
	for i := len(line) - len(".959498503\n") - 1; ; i-- {
		if line[i]++; line[i] <= '9' {
			return
		}
		line[i] = '0'
	}
}

// batchOf prepares a Put of each line, and returns ops.
func batchOf(table *Table, ops []Op, lines [][]byte) []Op {
	for i, line := range lines {
		a, _ := wire.ParseAT(line[:len(line)-1])
		table.PutLine(&ops[i], line, &a)
	}
	return ops[:len(lines)]
}

// wantOutcome checks that all of a batch ended alike.
func wantOutcome(b *testing.B, ops []Op, want Outcome) {
	b.Helper()
	for i := range ops {
		if ops[i].Outcome != want {
			b.Fatalf("line %d of the batch: outcome %d, want %d", i, ops[i].Outcome, want)
		}
	}
}

// BenchmarkNewClient is what a line of a client costs that was not known: parse and
// store, 700 lines a batch, the table growing to 100,000 clients. It allocates what the
// table grows by.
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

// BenchmarkDuplicate is what a line costs that is held already, as one comes from all
// neighbours but the first: parse and compare, 700 lines a batch of 100,000 clients in no
// order.
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

// BenchmarkForget is what a record costs that is forgotten, and one that is looked at and
// stays, of 100,000 in steps of 1000 as an edge takes them.
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

// BenchmarkReadLine is what a line costs on its way from the table to a message: to one
// to whom all is news, and to a neighbour that has taught us every other line (H4).
func BenchmarkReadLine(b *testing.B) {
	const clients = 100_000
	for _, c := range []struct {
		name string
		to   Source
		want int
	}{
		{"all", Source{}, clients},
		{"neighbour", Source{1, "e"}, clients / 2},
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
				dst, span = table.Read(dst[:0], cursor, 1<<16, c.to, 0)
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
