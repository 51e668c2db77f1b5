package link

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"herd/edge/position"
)

// discard is a Transport that drops what it is given.
type discard struct{}

func (discard) Send(*Message) error { return nil }
func (discard) Ack(Ack) error       { return nil }

// benchLink returns a link that does not run, and its table.
func benchLink() (*Link, *position.Table) {
	table := position.New(position.Config{})
	l := NewLinks(table).Add(Config{Neighbour: "B", Epoch: us, Number: 1, Window: 8, Heartbeat: 1e9, MaxBytes: func() int { return 64 << 10 },
		Out: discard{}, Log: slog.New(slog.DiscardHandler)})
	return l, table
}

// benchMessages are full messages of 85-byte lines, whose clients are in random order. Each time
// a message is used, its lines are a second newer.
type benchMessages struct {
	lines [][]byte
	next  int
}

const benchLines = 700 // per message

func newBenchMessages(clients int) *benchMessages {
	m := &benchMessages{}
	seed := uint64(1)
	for range 2 * (clients/benchLines + 1) {
		var text []byte
		for range benchLines {
			seed = seed*6364136223846793005 + 1442695040888963407
			text = fmt.Appendf(text, "AT Clark +0.263873386 client-%07d +34.068930-118.445127 1600000000.959498503\n", (seed>>33)%uint64(clients))
		}
		m.lines = append(m.lines, text)
	}
	return m
}

func (m *benchMessages) take() []byte {
	text := m.lines[m.next]
	m.next = (m.next + 1) % len(m.lines)
	size := len(text) / benchLines
	for end := size; end <= len(text); end += size {
		i := end - len(".959498503\n") - 1
		for text[i]++; text[i] > '9'; text[i]++ {
			text[i] = '0'
			i--
		}
	}
	return text
}

// BenchmarkReceive measures receiving a line of a full message: parsing and merging. Each line is
// newer than the one held. One operation is one line.
func BenchmarkReceive(b *testing.B) {
	for _, clients := range []int{10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			l, _ := benchLink()
			messages := newBenchMessages(clients)
			m := Message{Epoch: them}
			step := func() {
				m.Lines = messages.take()
				m.After, m.Through, m.Head = m.Through, m.Through+benchLines, m.Through+benchLines
				l.Receive(time.Now(), &m)
			}
			for range len(messages.lines) {
				step()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += benchLines {
				step()
			}
		})
	}
}

// BenchmarkDuplicates measures the same for lines that are held already. An edge with several
// neighbours receives a line from each of them, and all but the first are such duplicates.
func BenchmarkDuplicates(b *testing.B) {
	l, _ := benchLink()
	messages := newBenchMessages(100_000)
	m := Message{Epoch: them}
	for _, m.Lines = range messages.lines {
		l.Receive(time.Now(), &m)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n, k := 0, 0; n < b.N; n, k = n+benchLines, (k+1)%len(messages.lines) {
		m.Lines = messages.lines[k]
		l.Receive(time.Now(), &m)
	}
}
