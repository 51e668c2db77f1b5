package position

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"herd/edge/wire"
)

const second = int64(time.Second)

// at returns an AT line with its LF: the client's time is stamp seconds, and receipt is skew
// seconds later.
func at(edge, client, location string, stamp, skew float64) []byte {
	line := fmt.Appendf(nil, "AT %s ", edge)
	line = wire.AppendSkew(line, int64(skew*1e9))
	return fmt.Appendf(line, " %s %s %.9f\n", client, location, stamp)
}

func parse(t testing.TB, line []byte) wire.AT {
	t.Helper()
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		t.Fatalf("parse %q: %v", line, err)
	}
	return a
}

func apply(t testing.TB, table *Table, now int64, from Source, kind Kind, lines ...[]byte) []Op {
	t.Helper()
	ops := make([]Op, len(lines))
	for i, line := range lines {
		a := parse(t, line)
		if kind == PutOwn {
			table.PreparePutOwn(&ops[i], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
		} else {
			table.PreparePut(&ops[i], line, &a)
		}
	}
	table.Apply(now, from, ops)
	return ops
}

func held(table *Table, now int64, client string) string {
	ops := make([]Op, 1)
	table.PrepareGet(&ops[0], []byte(client))
	table.Apply(now, Source{}, ops)
	if ops[0].Outcome != Held {
		return ""
	}
	return string(ops[0].Line)
}

func lines(b []byte) []string {
	var s []string
	for l := range bytes.Lines(b) {
		s = append(s, string(l))
	}
	return s
}

func TestNewerIsDecidedInTheOrderOfS2(t *testing.T) {
	const place, other = "+34.068930-118.445127", "+34.068931-118.445127"
	for _, c := range []struct {
		name         string
		older, newer []byte
	}{
		{"S2 the client's time decides, not arrival", at("A", "c", place, 100, 50), at("A", "c", place, 101, -50)},
		{"S2 exact to the nanosecond", []byte("AT A +1.000000000 c " + place + " 5.000000001\n"), []byte("AT A +1.000000000 c " + place + " 5.000000002\n")},
		{"S2 a far future counts 60 s past its receipt", at("A", "c", place, 9e9, 1000-9e9), at("A", "c", place, 1061, 0)},
		{"S2 a far future beats what is before that", at("A", "c", place, 1059, 0), at("A", "c", place, 9e9, 1000-9e9)},
		{"S2 equal effective times: the client's time", at("A", "c", place, 1060, 0), at("A", "c", place, 2000, 1000-2000)},
		{"S2 equal times: the receipt", at("A", "c", place, 100, 1), at("A", "c", place, 100, 2)},
		{"S2 equal receipts: the location's text", at("B", "c", place, 100, 1), at("A", "c", other, 100, 1)},
		{"S2 equal locations: the edge's name", at("A", "c", place, 100, 1), at("B", "c", place, 100, 1)},
		{"S2 fraction digits past the ninth count only as bytes", []byte("AT A +1.000000000 c " + place + " 5.0000000011\n"), []byte("AT A +1.000000000 c " + place + " 5.0000000019\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, n := parse(t, c.older), parse(t, c.newer)
			if wire.Compare(&o, &n, c.older, c.newer) >= 0 || wire.Compare(&n, &o, c.newer, c.older) <= 0 {
				t.Errorf("%q is not older than %q", c.older, c.newer)
			}
			for _, order := range [][][]byte{{c.older, c.newer}, {c.newer, c.older}} {
				table := New(Config{})
				apply(t, table, 0, Source{}, Put, order...)
				if got := held(table, 0, "c"); got != string(c.newer) {
					t.Errorf("held %q, want %q", got, c.newer)
				}
			}
		})
	}
}

// anyLine draws from few clients, times, skews, places and edges, so that every kind of tie occurs.
func anyLine(clients int) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		stamp := rapid.SampledFrom([]string{"0", "100", "100.0", "100.000000000", "100.0000000009", "160", "160.000000001", "5000", "9200000000"}).Draw(t, "time")
		m, err := wire.ParseIAMAT([]byte("c +1+1 " + stamp))
		if err != nil {
			t.Fatal(err)
		}
		receipt := rapid.SampledFrom([]int64{0, 100, 101, 4940}).Draw(t, "receipt") * second
		line := fmt.Appendf(nil, "AT %s ", rapid.SampledFrom([]string{"A", "B", "Clark_2"}).Draw(t, "edge"))
		line = wire.AppendSkew(line, receipt-m.Stamp)
		client := rapid.SampledFrom([]string{"c", "kiwi.cs.ucla.edu", string(bytes.Repeat([]byte{0xff}, 300))}).Draw(t, "client")
		return fmt.Appendf(line, " %s%d %s %s\n", client, rapid.IntRange(0, clients-1).Draw(t, "n"),
			rapid.SampledFrom([]string{"+1+1", "+1.0+1", "-1-1/"}).Draw(t, "location"), stamp)
	})
}

func TestAnyOrderAnyRepetitionAnySplitHoldsTheSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(anyLine(3), 1, 40).Draw(t, "lines")
		// The oracle uses only Compare.
		want := map[string][]byte{}
		for _, line := range all {
			a, err := wire.ParseAT(line[:len(line)-1])
			if err != nil {
				t.Fatal(err)
			}
			if old, ok := want[string(a.Client)]; ok {
				b, _ := wire.ParseAT(old[:len(old)-1])
				if wire.Compare(&a, &b, line, old) <= 0 {
					continue
				}
			}
			want[string(a.Client)] = line
		}
		// Three edges get the lines in parts, and then each other's tables, until all have seen
		// all.
		tables := []*Table{New(Config{}), New(Config{}), New(Config{})}
		merge := func(to *Table, from Source, part [][]byte) {
			for len(part) > 0 {
				n := rapid.IntRange(1, len(part)).Draw(t, "batch")
				ops := make([]Op, n)
				for i, line := range part[:n] {
					a, _ := wire.ParseAT(line[:len(line)-1])
					to.PreparePut(&ops[i], line, &a)
				}
				to.Apply(0, from, ops)
				part = part[n:]
			}
		}
		shuffled := rapid.Permutation(all).Draw(t, "order")
		for i, line := range shuffled {
			merge(tables[i%3], Source{}, [][]byte{line})
			if rapid.Bool().Draw(t, "again") {
				merge(tables[rapid.IntRange(0, 2).Draw(t, "where")], Source{}, [][]byte{line})
			}
		}
		for range 2 {
			for i := range tables {
				from := tables[(i+2)%3]
				var part [][]byte
				dst, _ := from.Read(nil, 0, 1<<20, Source{}, 0, nil)
				for l := range bytes.Lines(dst) {
					part = append(part, l)
				}
				merge(tables[i], Source{Neighbour: 1, Epoch: "x"}, part)
			}
		}
		var state []string
		for _, line := range want {
			state = append(state, string(line))
		}
		slices.Sort(state)
		for i, table := range tables {
			dst, _ := table.Read(nil, 0, 1<<20, Source{}, 0, nil)
			got := lines(dst)
			slices.Sort(got)
			if !slices.Equal(got, state) {
				t.Fatalf("table %d holds %q, want %q", i, got, state)
			}
		}
	})
}

func TestARecordKnowsWhereItsClientIsInTheLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(Config{})
		ops := make([]Op, 1)
		for _, line := range rapid.SliceOfN(anyLine(3), 1, 20).Draw(t, "lines") {
			a, err := wire.ParseAT(line[:len(line)-1])
			if err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "own") {
				table.PreparePutOwn(&ops[0], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
			} else {
				table.PreparePut(&ops[0], line, &a)
			}
			table.Apply(0, Source{}, ops)
			slot, ok := table.find(&ops[0])
			if !ok {
				t.Fatalf("S1 the client of %q is not found", line)
			}
			if r := table.records.at(slot); r.clientAt != clientAt(table.line(r)) || !bytes.Equal(table.client(r), a.Client) {
				t.Fatalf("client %q in %q", table.client(r), table.line(r))
			}
		}
	})
}

func TestAnIAMATThatIsOlderOrRepeatedStoresNothing(t *testing.T) {
	const place = "+34.068930-118.445127"
	for _, c := range []struct {
		name         string
		first, again []byte
		want         Outcome
		retain       time.Duration
	}{
		{"C11 older", at("A", "c", place, 100, 1), at("A", "c", "+1+1", 99, 5), Older, 0},
		{"C11 same time and place, received later", at("A", "c", place, 100, 1), at("A", "c", place, 100, 5), Same, 0},
		{"C11 same time to the nanosecond", []byte("AT A +1.000000000 c +1+1 5\n"), []byte("AT A +2.000000000 c +1+1 5.0000000009\n"), Same, 0},
		{"C11 a far future repeated is no newer for its later receipt", at("A", "c", place, 9e9, 1000-9e9), at("A", "c", place, 9e9, 2000-9e9), Same, 0},
		{"C11 the same again, where the first edge's clock was two hours slow", at("A", "c", place, 10_000, -7200), at("B", "c", place, 10_000, 2), Stored, 0},
		{"C11 the same again, where this edge's clock is two hours slow", at("A", "c", place, 10_000, 2), at("B", "c", place, 10_000, -7200), Same, 0},
		{"S4 the same again, where both edges' clocks are slow, the first one's more", at("A", "c", place, 10_000, -7200), at("B", "c", place, 10_000, -1200), Stored, 24 * time.Hour},
		{"C11 the same where nothing is forgotten", at("A", "c", place, 10_000, -7200), at("B", "c", place, 10_000, -1200), Same, 0},
		{"C11 a far future repeated within a minute", at("A", "c", place, 9e9, 1000-9e9), at("A", "c", place, 9e9, 1060-9e9), Same, 24 * time.Hour},
		{"C11 same time, other place", at("A", "c", place, 100, 1), at("A", "c", "+1+1", 100, 5), Stored, 0},
		{"C11 newer", at("A", "c", place, 100, 1), at("A", "c", place, 101, 1), Stored, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := New(Config{Retain: c.retain})
			apply(t, table, 0, Source{}, PutOwn, c.first)
			head := table.Head()
			if got := apply(t, table, 0, Source{}, PutOwn, c.again)[0].Outcome; got != c.want {
				t.Errorf("outcome %d, want %d", got, c.want)
			}
			if stored := table.Head() != head; stored != (c.want == Stored) {
				t.Errorf("a new revision: %v", stored)
			}
			if c.want == Same { // for a neighbour's line only S2 decides
				a, b := parse(t, c.first), parse(t, c.again)
				newer := Older
				if wire.Compare(&a, &b, c.first, c.again) < 0 {
					newer = Stored
				}
				if got := apply(t, table, 0, Source{}, Put, c.again)[0].Outcome; got != newer {
					t.Errorf("C11 from a neighbour: outcome %d, want %d", got, newer)
				}
			}
		})
	}
}

func TestAnOlderIAMATIsToldByHowMuch(t *testing.T) {
	for _, c := range []struct {
		name       string
		retain     time.Duration
		stamp, now float64
		outcome    Outcome
		behind     float64
	}{
		{"C11 a little", 0, 9999.5, 10_000, Older, 0.5},
		{"C11 much", 0, 10_000 - 604.8, 10_000, Older, 604.8},
		{"C11 repeated", 0, 10_000, 10_000, Same, 0},
		{"S3 newer", 0, 10_001, 10_000, Stored, 0},
		{"S4 past, and newer is held", time.Hour, 10, 10_000, Expired, 9990},
		{"S4 past, and so is what is held", time.Hour, 10, 20_000, Expired, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := New(Config{Retain: c.retain})
			apply(t, table, 10_000*second, Source{}, PutOwn, at("A", "c", "+1+1", 10_000, 0))
			ops := apply(t, table, int64(c.now)*second, Source{}, PutOwn, at("A", "c", "+1+1", c.stamp, 0))
			if op := ops[0]; op.Outcome != c.outcome || op.Behind != int64(c.behind*1e9) {
				t.Errorf("outcome %v, older by %v, want %v by %v s", op.Outcome, time.Duration(op.Behind), c.outcome, c.behind)
			}
			// An Op is reused.
			a := parse(t, at("A", "other", "+1+1", 20_000, 0))
			table.PreparePutOwn(&ops[0], at("A", "other", "+1+1", 20_000, 0), &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
			table.Apply(20_000*second, Source{}, ops)
			if ops[0].Outcome != Stored || ops[0].Behind != 0 {
				t.Errorf("used again: %v, %v", ops[0].Outcome, ops[0].Behind)
			}
		})
	}
	table := New(Config{Retain: time.Hour})
	ops := apply(t, table, 10_000*second, Source{}, PutOwn, at("A", "c", "+1+1", 10, 0))
	if ops[0].Outcome != Expired || ops[0].Behind != 0 {
		t.Errorf("S4 of a client that is not known: %v, %v", ops[0].Outcome, ops[0].Behind)
	}
}

func TestMaxClientsRefusesNewClientsOfThisEdgeOnly(t *testing.T) {
	table := New(Config{MaxClients: 2})
	ops := apply(t, table, 0, Source{}, PutOwn, at("A", "a", "+1+1", 1, 0), at("A", "b", "+1+1", 1, 0), at("A", "c", "+1+1", 1, 0), at("A", "a", "+1+1", 2, 0))
	if got := []Outcome{ops[0].Outcome, ops[1].Outcome, ops[2].Outcome, ops[3].Outcome}; !slices.Equal(got, []Outcome{Stored, Stored, Full, Stored}) {
		t.Errorf("C18 outcomes %v", got)
	}
	if got := apply(t, table, 0, Source{1, "e"}, Put, at("B", "d", "+1+1", 1, 0))[0].Outcome; got != Stored {
		t.Errorf("C18 a neighbour's line: outcome %d, want it stored", got)
	}
}

func TestReadersFollowTheOrderOfChangesAndMeetEachRecordOnce(t *testing.T) {
	table := New(Config{})
	for i := range 10 {
		apply(t, table, 0, Source{}, Put, at("A", "busy", "+1+1", float64(i), 0), at("A", fmt.Sprint("c", i), "+1+1", 1, 0))
	}
	got, span := table.Read(nil, 0, 1<<20, Source{}, 0, nil)
	if span.Through != 20 || span.Head != 20 || span.Lines != 11 {
		t.Errorf("span %+v, want 11 lines through 20", span)
	}
	if l := lines(got); l[9] != string(at("A", "busy", "+1+1", 9, 0)) || l[10] != string(at("A", "c9", "+1+1", 1, 0)) {
		t.Errorf("H3 not in the order of changes: %q", l[8:])
	}
	limit := len(at("A", "c0", "+1+1", 1, 0)) * 3
	var pieces []byte
	for cursor := uint64(0); ; {
		piece, s := table.Read(nil, cursor, limit, Source{}, 0, nil)
		if len(piece) > limit {
			t.Fatalf("%d bytes, limit %d", len(piece), limit)
		}
		pieces = append(pieces, piece...)
		if cursor = s.Through; cursor == s.Head {
			break
		}
	}
	if !bytes.Equal(pieces, got) {
		t.Errorf("in pieces %q, at once %q", pieces, got)
	}
}

// TestTheOrderOfChangesEqualsANaiveOne runs the table and a model through so many changes that
// segments are cleaned and joined many times.
func TestTheOrderOfChangesEqualsANaiveOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(Config{})
		clients := rapid.IntRange(1, 3000).Draw(t, "clients")
		step := rapid.Uint64Range(1, 1<<40).Draw(t, "seed") | 1
		newest := map[string]uint64{}
		byRevision := map[uint64]string{}
		for i := range rapid.IntRange(1, 12000).Draw(t, "changes") {
			step = step*6364136223846793005 + 1442695040888963407
			client := fmt.Sprint("c", (step>>33)%uint64(clients))
			line := at("A", client, "+1+1", float64(i), 0)
			a, _ := wire.ParseAT(line[:len(line)-1])
			ops := make([]Op, 1)
			table.PreparePut(&ops[0], line, &a)
			table.Apply(0, Source{}, ops)
			delete(byRevision, newest[client])
			newest[client] = ops[0].Revision
			byRevision[ops[0].Revision] = string(line)
		}
		for _, after := range []uint64{0, table.Head() / 3, table.Head() - 1, table.Head()} {
			var want, got []string
			for _, r := range newest {
				if r > after {
					want = append(want, byRevision[r])
				}
			}
			for cursor := after; cursor < table.Head(); {
				piece, s := table.Read(nil, cursor, 1<<12, Source{}, 0, nil)
				if s.Through <= cursor {
					t.Fatalf("no progress at %d of %d", cursor, s.Head)
				}
				got = append(got, lines(piece)...)
				cursor = s.Through
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("behind %d: %d lines, want %d", after, len(got), len(want))
			}
		}
		if entries, most := len(table.changes.segments)*segmentLen, len(newest)*2+4*segmentLen; entries > most {
			t.Fatalf("room for %d entries for %d clients, want at most %d", entries, len(newest), most)
		}
	})
}

func TestWhatANeighboursEpochHoldsIsNotSentBackToIt(t *testing.T) {
	table := New(Config{})
	a, b := at("A", "a", "+1+1", 1, 0), at("A", "b", "+1+1", 1, 0)
	read := func(to Source) int {
		_, span := table.Read(nil, 0, 1<<20, to, 0, nil)
		if span.Through != table.Head() {
			t.Errorf("through %d, want %d: the cursor passes what is left out", span.Through, table.Head())
		}
		return span.Lines
	}
	apply(t, table, 0, Source{1, "e1"}, Put, a)
	apply(t, table, 0, Source{}, Put, b)
	if got := read(Source{1, "e1"}); got != 1 {
		t.Errorf("H4 to the teacher: %d lines, want only the other's", got)
	}
	if got := read(Source{2, "e1"}); got != 2 {
		t.Errorf("H4 to another neighbour: %d lines, want 2", got)
	}
	apply(t, table, 0, Source{1, "e1"}, Put, b)
	if got := read(Source{1, "e1"}); got != 0 {
		t.Errorf("H4 the same line came from there since: %d lines, want none", got)
	}
	apply(t, table, 0, Source{2, "e1"}, Put, b)
	if got := read(Source{2, "e1"}); got != 1 {
		t.Errorf("H4 a line of the journal came with the first that a neighbour says: %d lines, want only the other", got)
	}
	apply(t, table, 0, Source{Neighbour: 3}, Put, b)
	apply(t, table, 0, Source{3, "e1"}, Put, a)
	if got := read(Source{3, "e1"}); got != 1 {
		t.Errorf("H4 only what an epoch taught is known of it: %d lines, want 1", got)
	}
	if got := read(Source{1, "e2"}); got != 2 {
		t.Errorf("H4 acks of another epoch: %d lines, want everything back", got)
	}
	apply(t, table, 0, Source{1, "e2"}, Put, at("A", "c", "+1+1", 1, 0))
	if got := read(Source{1, "e2"}); got != 2 {
		t.Errorf("H4 the new epoch taught one of three: %d lines, want 2", got)
	}
	if got := read(Source{1, "e1"}); got != 3 {
		t.Errorf("H4 the old epoch's knowledge is void: %d lines, want 3", got)
	}
	apply(t, table, 0, Source{}, Put, at("A", "c", "+1+1", 2, 0))
	if got := read(Source{1, "e2"}); got != 3 {
		t.Errorf("H4 what changed since is not held: %d lines, want 3", got)
	}
}

func TestATouchedRecordIsNotKnownToBeHeld(t *testing.T) {
	a, older := at("A", "a", "+1+1", 2, 0), at("A", "a", "+1+1", 1, 0)
	for name, touch := range map[string]func(*Table){
		"D1 an older IAMAT makes it this edge's own": func(table *Table) {
			apply(t, table, 2*second, Source{}, PutOwn, older)
		},
		"D2 the journal held an older line": func(table *Table) {
			ops := make([]Op, 1)
			if _, err := table.PreparePutKept(&ops[0], older, 7); err != nil {
				t.Fatal(err)
			}
			table.Apply(2*second, Source{}, ops)
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := New(Config{Journal: true})
			apply(t, table, 2*second, Source{1, "e1"}, Put, a)
			// The neighbour has restarted, and its messages do not mention it.
			apply(t, table, 2*second, Source{1, "e2"}, Put, at("A", "b", "+1+1", 2, 0))
			before := table.Head()
			touch(table)
			if table.Head() != before+1 {
				t.Fatalf("the head is %d, was %d: nothing was touched", table.Head(), before)
			}
			if got, _ := table.Read(nil, 0, 1<<16, Source{1, "e2"}, 3*second, nil); string(got) != string(a) {
				t.Errorf("H4 the new epoch is sent %q, want %q", got, a)
			}
		})
	}
}

func TestAReaderIsWokenOnceForWhatIsBehindItsCursor(t *testing.T) {
	table := New(Config{})
	r := NewReader()
	woken := func() bool {
		select {
		case <-r.C:
			return true
		default:
			return false
		}
	}
	table.Wait(r, 0)
	if woken() {
		t.Error("woken without a change")
	}
	apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 1, 0))
	if !woken() {
		t.Error("not woken by a change")
	}
	apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 2, 0))
	if woken() {
		t.Error("woken while it did not wait")
	}
	if table.Wait(r, 1); !woken() {
		t.Error("not woken at once for a change behind its cursor")
	}
	table.Wait(r, 2)
	apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 2, 0)) // the same bytes
	if woken() {
		t.Error("woken by a duplicate")
	}
	other := NewReader()
	table.Wait(other, 2)
	table.Wait(r, 4) // for two more
	apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 3, 0), at("A", "b", "+1+1", 3, 0))
	if woken() {
		t.Error("woken before what it waits for")
	}
	if len(other.C) != 1 || len(table.waiting) != 1 {
		t.Error("who waits for less was not woken beside it")
	}
	if apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 4, 0)); !woken() || len(table.waiting) != 0 {
		t.Error("not woken by what it waits for")
	}
	table.Wait(r, 9)
	table.Wait(r, 5) // in its place
	if apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 5, 0)); !woken() {
		t.Error("not woken by what it waits for last")
	}
}

// TestForgettingFindsAllOthersAgain adds and removes index entries in any order: none may hide
// another entry.
func TestForgettingFindsAllOthersAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(Config{Retain: time.Minute})
		model := map[string]string{}
		now := 100 * second
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, 20).Draw(t, "pass") * second
			n := rapid.IntRange(0, 199).Draw(t, "client")
			for k := range rapid.IntRange(1, 50).Draw(t, "run") {
				client := fmt.Sprint("client", (n+k)%200)
				line := at("A", client, "+1+1", float64(now/second), 0)
				a, _ := wire.ParseAT(line[:len(line)-1])
				ops := make([]Op, 1)
				table.PreparePut(&ops[0], line, &a)
				table.Apply(now, Source{}, ops)
				model[client] = string(line)
			}
			table.Forget(now, rapid.IntRange(0, 300).Draw(t, "sweep"), nil)
			for client, line := range model {
				a, _ := wire.ParseAT([]byte(line[:len(line)-1]))
				if now-a.Stamp >= 60*second {
					delete(model, client)
				}
			}
			for i := range 200 {
				client := fmt.Sprint("client", i)
				ops := make([]Op, 1)
				table.PrepareGet(&ops[0], []byte(client))
				table.Apply(now, Source{}, ops)
				if got := string(ops[0].Line); got != model[client] {
					t.Fatalf("%s: held %q, want %q", client, got, model[client])
				}
			}
		}
	})
}

// TestRoomIsUsedAgain: the space of forgotten and outgrown lines is reused.
func TestRoomIsUsedAgain(t *testing.T) {
	table := New(Config{Retain: time.Minute})
	room := func() (bytes int) {
		for _, c := range table.lines.class {
			for _, chunk := range c.chunks {
				bytes += len(chunk)
			}
		}
		return bytes + len(table.records.chunks)*recordChunk
	}
	first := 0
	for round := range 30 {
		now := int64(round*200) * second
		for i := range 2000 {
			client := fmt.Sprintf("client-%d-%d", round, i)
			short := at("A", client, "+1+1", float64(round*200), 0)
			long := at("A", client, "+1.000000000000000000+1.0000000000000", float64(round*200+1), 0)
			apply(t, table, now, Source{}, Put, short, long)
		}
		for end := false; !end; {
			_, end = table.Forget(now+100*second, 500, nil)
		}
		switch round {
		case 2: // from now on the rounds' numbers have the same length, and all classes have their chunks
			first = room()
		default:
			if got := room(); round > 2 && got > first+4*chunkBytes {
				t.Fatalf("room for %d bytes after round %d, %d after the third", got, round, first)
			}
		}
	}
}

func TestLinesOfAllSizesKeepTheirBytes(t *testing.T) {
	table := New(Config{})
	for round := range 3 {
		for n := 1; n <= 1024; n += 7 {
			client := string(bytes.Repeat([]byte{'x'}, n))
			// Another number of fraction digits moves lines to other classes.
			line := fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d.%s\n", client, round, bytes.Repeat([]byte{'0'}, 1+(n+round*5)%40))
			apply(t, table, 0, Source{}, Put, line)
			if got := held(table, 0, client); got != string(line) {
				t.Fatalf("held %q, want %q", got, line)
			}
		}
	}
}

func TestMergingAllocatesNothing(t *testing.T) {
	table := New(Config{})
	const n = 64
	ops := make([]Op, n)
	buffers := make([][]byte, n)
	r := NewReader()
	var dst []byte
	i := 0
	step := func() {
		for k := range ops {
			i++
			b := append(buffers[k][:0], "AT Clark +0.263873386 client-"...)
			b = append(b, byte('a'+k%26), byte('a'+k/26), ' ')
			b = append(b, "+34.068930-118.445127 16"...)
			for d := int64(10_000_000); d > 0; d /= 10 {
				b = append(b, byte('0'+int64(i)/d%10))
			}
			b = append(b, ".959498503\n"...)
			buffers[k] = b
			a, err := wire.ParseAT(b[:len(b)-1])
			if err != nil {
				t.Fatal(err)
			}
			table.PreparePut(&ops[k], b, &a)
		}
		table.Wait(r, table.head)
		table.Apply(0, Source{1, "e"}, ops)
		dst, _ = table.Read(dst[:0], table.head-n, 1<<16, Source{2, "f"}, 0, nil)
	}
	for range 200 { // let pools, segments and chunks grow
		step()
	}
	if got := testing.AllocsPerRun(200, step); got != 0 {
		t.Errorf("%v allocations a batch, want none", got)
	}
}

func TestClientsWhoseHashesAgreeAreDifferentClients(t *testing.T) {
	table := New(Config{})
	clients := []string{"a", "b", "c"}
	batch := func(prepare func(op *Op, client string)) []Op {
		ops := make([]Op, len(clients))
		for i, client := range clients {
			prepare(&ops[i], client)
			ops[i].hash = 42 // a table of a million clients has such pairs
		}
		table.Apply(0, Source{}, ops)
		return ops
	}
	for moved := range 3 {
		for i, op := range batch(func(op *Op, client string) {
			line := at("Clark", client, "+1+1", float64(moved), 0)
			a := parse(t, line)
			table.PreparePut(op, line, &a)
		}) {
			if op.Outcome != Stored {
				t.Errorf("S1 %s at %d: outcome %v, want stored", clients[i], moved, op.Outcome)
			}
		}
		for i, op := range batch(func(op *Op, client string) { table.PrepareGet(op, []byte(client)) }) {
			if want := at("Clark", clients[i], "+1+1", float64(moved), 0); !bytes.Equal(op.Line, want) {
				t.Errorf("S1 of %s it holds %q, want %q", clients[i], op.Line, want)
			}
		}
	}
	if n, _, _ := table.Stats(); n != len(clients) {
		t.Errorf("S1 %d records, want %d", n, len(clients))
	}
}
