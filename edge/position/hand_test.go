package position

import (
	"bytes"
	"fmt"
	"testing"

	"herd/edge/wire"
)

// A crowd is many clients that move in virtual time, each at its own rate.
type crowd struct {
	t     *testing.T
	table *Table
	tick  int // of 100 ms
}

func (c *crowd) put(name byte, i int) {
	line := fmt.Appendf(nil, "AT A +0.000000000 %c%d +1+1 %d.%d\n", name, i, 1000+c.tick/10, c.tick%10)
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		c.t.Fatal(err)
	}
	ops := make([]Op, 1)
	c.table.PreparePut(&ops[0], line, &a)
	c.table.Apply(0, Source{}, ops)
}

// A link carries two thirds of what changes: every client is still updated at the far end.
func TestNobodyStarvesWhereLessIsReadThanChanges(t *testing.T) {
	const (
		slow, slowEvery = 4_000, 200 // every 20 s
		hot, hotEvery   = 40, 10     // every second
		perTick         = 16         // lines that are read per tick: 160/s of 240/s
		ticks           = 12000      // twenty minutes
	)
	for _, share := range []struct {
		name    string
		perTick int
	}{{"two thirds", perTick}, {"an eighth", perTick * 3 / 16}} {
		t.Run("H3 "+share.name, func(t *testing.T) {
			c := &crowd{t: t, table: New(Config{})}
			var cursor uint64
			var hand Hand
			var buf []byte
			told, last := map[string]int{}, map[string]int{}
			for ; c.tick < ticks; c.tick++ {
				for i := c.tick % slowEvery; i < slow; i += slowEvery {
					c.put('s', i)
				}
				for i := c.tick % hotEvery; i < hot; i += hotEvery {
					c.put('h', i)
				}
				var span Span
				buf, span = c.table.Read(buf[:0], cursor, share.perTick*35, Source{}, 0, &hand)
				cursor = span.Through
				for l := range bytes.Lines(buf) {
					client := string(bytes.Fields(l)[3])
					told[client]++
					last[client] = c.tick
				}
			}
			round := 2 * (slow + hot) / share.perTick // a round of all records, with half of what is read per tick
			starved := 0
			for i := range hot {
				if id := fmt.Sprint("h", i); told[id] < ticks/round/2 || c.tick-last[id] > 2*round {
					starved++
				}
			}
			for i := range slow {
				if told[fmt.Sprint("s", i)] == 0 {
					starved++
				}
			}
			t.Logf("h0 told %d times, s0 %d times, behind %d", told["h0"], told["s0"], c.table.Head()-cursor)
			if starved > 0 {
				t.Errorf("H3 %d of %d clients starve", starved, slow+hot)
			}
		})
	}
}

// A reader that catches up with many records that do not change reads each line once.
func TestWhoCatchesUpReadsNothingTwice(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	for i := range 50_000 {
		c.put('s', i)
	}
	var cursor uint64
	var hand Hand
	var buf []byte
	lines := 0
	for cursor < c.table.Head() {
		c.tick++
		for i := range 20 { // some move meanwhile, fewer than are read
			c.put('h', i)
		}
		var span Span
		buf, span = c.table.Read(buf[:0], cursor, 100*35, Source{}, 0, &hand)
		cursor = span.Through
		lines += span.Lines
	}
	if most := 50_000 + 20*2 + handWindow; lines > most {
		t.Errorf("H3 read %d lines, want at most %d", lines, most)
	}
}

// When less changes again, the cursor gets the whole of each read.
func TestTheHandRestsWhenTheReaderKeepsUp(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	var hand Hand
	for i := range 10_000 {
		c.put('s', i)
	}
	cursor := uint64(0)
	for range 2 * handWindow {
		c.tick++
		for i := range 300 {
			c.put('s', i)
		}
		_, span := c.table.Read(nil, cursor, 100*35, Source{}, 0, &hand)
		cursor = span.Through
	}
	if !hand.on {
		t.Fatal("the hand does not move though three times as much changes as is read")
	}
	for range 2 * handWindow {
		_, span := c.table.Read(nil, cursor, 100*35, Source{}, 0, &hand)
		cursor = span.Through
	}
	if hand.on {
		t.Error("the hand still moves though nothing changes")
	}
}

// What the hand took in one round it takes in the next only if it has changed, or if the reader
// went back, because the line may not have arrived.
func TestTheHandTakesNothingTwiceUnlessTheReaderGoesBack(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	const clients = 4000
	for i := range clients {
		c.put('s', i)
	}
	hand := Hand{on: true}
	told := map[string]int{}
	round := func() {
		for range clients / 50 { // 50 by the hand in each; the cursor stays
			hand.on = true
			buf, _ := c.table.Read(nil, 0, 100*35, Source{}, 0, &hand)
			_, inOrder, _ := bytes.Cut(buf, []byte(" s40 ")) // about half are the cursor's, the same each time
			for l := range bytes.Lines(inOrder) {
				if f := bytes.Fields(l); len(f) == 6 {
					told[string(f[3])]++
				}
			}
		}
	}
	for range 4 {
		round()
	}
	if n := told["s2000"]; n != 1 && n != 2 { // in the first round the beginning of the round before is unknown
		t.Errorf("H3 told %d times in four rounds, though it did not change", n)
	}
	clear(told)
	hand.Reset()
	round()
	if n := told["s2000"]; n != 1 {
		t.Errorf("H3 told %d times after the reader went back", n)
	}
}

// If few of the records have changed, the hand finds little in a step, and the message is still
// full.
func TestTheCursorGetsWhatTheHandDoesNotFill(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	for i := range 50_000 {
		c.put('s', i)
	}
	cursor := c.table.Head()
	hand := Hand{on: true}
	c.tick++
	for i := range 200 { // all adjacent, far from the hand
		c.put('s', 20_000+i)
	}
	_, span := c.table.Read(nil, cursor, 100*35, Source{}, 0, &hand)
	if span.Lines < 90 {
		t.Errorf("H3 a message of %d lines, want some 100", span.Lines)
	}
}

// A line that fits in a message but not beside others must not stop the hand.
func TestALongLineDoesNotStopTheHand(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	const limit = 1000
	put := func(name string) {
		line := fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d\n", name, 1000+c.tick)
		a := parse(t, line)
		ops := make([]Op, 1)
		c.table.PreparePut(&ops[0], line, &a)
		c.table.Apply(0, Source{}, ops)
	}
	long := make([]string, 30)
	for i := range long {
		long[i] = fmt.Sprint("l", i, string(bytes.Repeat([]byte("x"), 800)))
	}
	var cursor uint64
	var hand Hand
	var buf []byte
	told := 0
	for c.tick = range 1000 {
		for _, l := range long {
			put(l)
		}
		put("hot")
		var span Span
		buf, span = c.table.Read(buf[:0], cursor, limit, Source{}, 0, &hand)
		if len(buf) > limit {
			t.Fatalf("H5 a message of %d bytes", len(buf))
		}
		if cursor = span.Through; c.tick > 100 {
			told += bytes.Count(buf, []byte(" hot "))
		}
	}
	if told < 30 { // of 900 messages, with 31 records to go round
		t.Errorf("H3 told %d times", told)
	}
}

// A read that ends because it has looked at enough records has returned less than there is.
func TestAReaderThatLeavesOutMostMayFallBehindToo(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	to := Source{1, "e"} // most of them came from that neighbour
	lines := make([][]byte, 2*scanMost)
	var cursor uint64
	var hand Hand
	for range handWindow + 1 {
		c.tick++
		for i := range lines {
			lines[i] = fmt.Appendf(lines[i][:0], "AT A +0.000000000 s%d +1+1 %d\n", i, c.tick)
		}
		apply(t, c.table, 0, to, Put, lines[1:]...)
		apply(t, c.table, 0, Source{}, Put, lines[0])
		_, span := c.table.Read(nil, cursor, 64<<10, to, 0, &hand)
		cursor = span.Through
	}
	if !hand.on {
		t.Error("H3 the hand rests though twice as much changes as is looked at")
	}
}

// A line that fits in no message is passed by the cursor and by the hand (H5).
func TestALineThatFitsInNoMessageIsPassed(t *testing.T) {
	for _, hand := range []*Hand{nil, {}, {on: true}} {
		table := New(Config{})
		long := string(bytes.Repeat([]byte("x"), 500))
		apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 1, 0), at("A", long, "+1+1", 1, 0), at("A", "b", "+1+1", 1, 0))
		dst, span := table.Read(nil, 0, 200, Source{}, 0, hand)
		if span.TooLong != 1 || span.Through != 3 || bytes.Contains(dst, []byte("xx")) || !bytes.Contains(dst, []byte(" b ")) {
			t.Errorf("H5 read %q, %+v", dst, span)
		}
	}
}

// Neither an idle nor an active hand allocates.
func TestReadingWithAHandAllocatesNothing(t *testing.T) {
	c := &crowd{t: t, table: New(Config{})}
	for i := range 20_000 {
		c.put('s', i)
	}
	buf := make([]byte, 0, 64<<10)
	for _, on := range []bool{false, true} {
		hand := Hand{on: on, slot: 100}
		if got := testing.AllocsPerRun(100, func() {
			hand.on = on
			buf, _ = c.table.Read(buf[:0], 0, 64<<10, Source{}, 0, &hand)
		}); got != 0 {
			t.Errorf("%v allocations in a read, turning %v", got, on)
		}
	}
}
