package position

import (
	"fmt"
	"runtime"
	"testing"

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
// merge, 700 lines a batch of clients in no order, every one newer.
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
			for n, k := 0, 0; n < b.N; n, k = n+batch, (k+1)%batches {
				for i, line := range lines[k*batch : (k+1)*batch] {
					younger(line)
					a, _ := wire.ParseAT(line[:len(line)-1])
					table.PutLine(&ops[i], line, &a)
				}
				table.Apply(0, Source{1, "e"}, ops)
			}
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

// BenchmarkReadLine is what a line costs on its way from the table to a message.
func BenchmarkReadLine(b *testing.B) {
	table := New(Config{})
	fill(table, 100_000)
	var dst []byte
	var cursor uint64
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		var span Span
		dst, span = table.Read(dst[:0], cursor, 1<<16, Source{}, 0)
		n += span.Lines
		if cursor = span.Through; cursor == span.Head {
			cursor = 0
		}
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
