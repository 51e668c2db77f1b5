package watch

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

const second = int64(time.Second)

// A bench is a Set whose steps and time the test takes itself.
type bench struct {
	testing.TB
	table *position.Table
	set   *Set
	now   int64
}

func newBench(t testing.TB, cfg Config, retain time.Duration) *bench {
	b := &bench{TB: t, table: position.New(position.Config{Live: true, Retain: retain}), now: 1000 * second}
	cfg.Table, cfg.Now = b.table, func() int64 { return b.now }
	if cfg.PerConn == 0 {
		cfg.PerConn = 16
	}
	if cfg.Members == 0 {
		cfg.Members = 100_000
	}
	if cfg.Total == 0 {
		cfg.Total = 5_000_000
	}
	b.set = New(cfg)
	return b
}

// put stores a line of a client at the present time, which goes on.
func (b *bench) put(client, location string) {
	b.Helper()
	b.now += 1_000_000
	line := fmt.Appendf(nil, "AT A +0.000000000 %s %s %d.%09d\n", client, location, b.now/second, b.now%second)
	at, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		b.Fatal(err)
	}
	ops := make([]position.Op, 1)
	b.table.PreparePut(&ops[0], line, &at)
	b.table.Apply(b.now, position.Source{}, ops)
	if ops[0].Outcome != position.Stored {
		b.Fatalf("%q: outcome %d", line, ops[0].Outcome)
	}
}

// settle lets the Set do all that is due.
func (b *bench) settle() {
	for more := true; more; {
		more, _ = b.set.step()
	}
}

// forget forgets what is past.
func (b *bench) forget() {
	for end := false; !end; {
		_, end = b.table.Forget(b.now, 1000, nil)
	}
}

// A watching is a Watcher as its connection uses it.
type watching struct {
	b *bench
	*Watcher
	woken   int
	listing bool
}

func (b *bench) open(address string) *watching {
	w := &watching{b: b}
	w.Watcher = b.set.Open(netip.MustParseAddr(address), func() { w.woken++ })
	return w
}

func (w *watching) watch(text string) error {
	w.b.Helper()
	m, err := wire.ParseWATCH([]byte(text))
	if err != nil {
		w.b.Fatal(err)
	}
	return w.Watch(&m)
}

// tell returns all that is to be told, as short lines: without edge, skew and time.
func (w *watching) tell() []string {
	w.b.Helper()
	var all []string
	for more := true; more; {
		var told []byte
		told, more, w.listing = w.Tell(nil, 4096)
		for line := range strings.Lines(string(told)) {
			m, err := wire.ParseTold([]byte(line[:len(line)-1]))
			if err != nil {
				w.b.Fatalf("%q: %v", line, err)
			}
			switch m.Event {
			case wire.EventIn, wire.EventAt, wire.EventOut:
				line = fmt.Sprintf("%s %v %s %s %s", m.Name, m.Event, m.AT.Client, m.AT.Location, m.Why)
			default:
				line = line[2:]
			}
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

func (w *watching) want(lines ...string) {
	w.b.Helper()
	w.b.settle()
	if got := w.tell(); strings.Join(got, "\n") != strings.Join(lines, "\n") {
		w.b.Errorf("told %q, want %q", got, lines)
	}
}

func TestACircleIsFollowed(t *testing.T) {
	b := newBench(t, Config{}, time.Minute)
	b.put("a", "+34.0000000-118.0000000")
	b.put("far", "+35.0000000-118.0000000")
	w := b.open("10.0.0.1")
	if err := w.watch("w +34-118 5"); err != nil {
		t.Fatal(err)
	}
	w.want("w IN a +34.0000000-118.0000000", "w NOW 1")
	b.put("a", "+34.0100000-118.0000000")
	w.want("w AT a +34.0100000-118.0000000")
	b.put("b", "+34.0000000-118.0100000")
	b.put("far", "+35.1000000-118.0000000")
	w.want("w IN b +34.0000000-118.0100000")
	b.put("a", "+36.0000000-118.0000000")
	w.want("w OUT a +36.0000000-118.0000000 left")
	b.put("a", "+37.0000000-118.0000000")
	w.want()
	b.now += 70 * second
	b.put("far", "+35.2000000-118.0000000")
	b.forget()
	w.want("w OUT b +34.0000000-118.0100000 forgotten")
	b.put("b", "+34.0000000-118.0200000")
	w.want("w IN b +34.0000000-118.0200000")
	if err := w.Unwatch([]byte("w")); err != nil {
		t.Fatal(err)
	}
	w.want("w OFF")
	if s := b.set.Stats(); s.Members != 0 || s.Watches != 0 || s.Ended[EndUnwatch] != 1 {
		t.Errorf("%+v", s)
	}
}

func (w *watching) mustWatch(text string) {
	w.b.Helper()
	if err := w.watch(text); err != nil {
		w.b.Fatalf("%s: %v", text, err)
	}
}

func TestAClientIsFollowedWhereverItIs(t *testing.T) {
	b := newBench(t, Config{}, time.Minute)
	w := b.open("10.0.0.1")
	w.mustWatch("w a")
	w.want("w NOW 0")
	b.put("b", "+1+1")
	w.want()
	b.put("a", "+1+1")
	w.want("w IN a +1+1")
	b.put("a", "-80+179")
	w.want("w AT a -80+179")
	b.now += 61 * second
	b.forget()
	w.want("w OUT a -80+179 forgotten")
	b.put("c", "+1+1") // its slot may be another's
	b.put("a", "+2+2")
	w.want("w IN a +2+2")
}

func TestACircleAroundAClientFollowsItAtMostOnceASecond(t *testing.T) {
	b := newBench(t, Config{}, time.Minute)
	b.put("near", "+10.01+10")
	w := b.open("10.0.0.1")
	w.mustWatch("w centre 5")
	w.want("w NOW 0") // L3: it holds nobody
	b.put("centre", "+10+10")
	w.want("w IN near +10.01+10")
	b.put("there", "+12.01+10")
	b.put("centre", "+12+10")
	w.want() // within the second
	b.now += second
	b.settle()
	got := w.tell()
	if len(got) != 2 || got[0] == got[1] {
		t.Errorf("told %q", got)
	}
	for _, line := range got {
		if line != "w OUT near +10.01+10 left" && line != "w IN there +12.01+10" {
			t.Errorf("told %q", line)
		}
	}
	b.now += 50 * second
	b.put("there", "+12.02+10")
	w.want("w AT there +12.02+10")
	b.now += 12 * second
	b.forget() // the centre
	b.settle()
	b.now += second
	w.want("w OUT there +12.02+10 left")
}

// Who is past its time is not known any more, though it was not forgotten yet (L3, S4).
func TestACircleAroundWhoIsPastHoldsNobody(t *testing.T) {
	b := newBench(t, Config{}, time.Minute)
	b.put("centre", "+10+10")
	b.now += 60 * second
	b.put("near", "+10.01+10")
	w := b.open("10.0.0.1")
	w.mustWatch("w centre 5")
	w.want("w NOW 0")
	b.forget()
	w.want()
	b.put("centre", "+10+10")
	b.settle()
	b.now += second
	w.want("w IN near +10.01+10")
}

func TestNamesAndNumbersOfWatchesAreLimited(t *testing.T) {
	b := newBench(t, Config{PerConn: 2}, 0)
	w := b.open("10.0.0.1")
	w.mustWatch("one +1+1 1")
	w.want("one NOW 0")
	if err := w.watch("one +2+2 1"); err != ErrInUse {
		t.Errorf("L5 a name in use: %v", err)
	}
	w.mustWatch("two +1+1 +2+2")
	w.want("two NOW 0")
	if err := w.watch("three +2+2 1"); err != ErrMany {
		t.Errorf("L5 one too many: %v", err)
	}
	if err := w.Unwatch([]byte("three")); err != ErrUnknown {
		t.Errorf("L5 an unknown name: %v", err)
	}
	if err := w.Unwatch([]byte("one")); err != nil || w.Watches() != 1 {
		t.Errorf("L5 %v, %d watches", err, w.Watches())
	}
	w.want("one OFF")
	w.mustWatch("one +2+2 1")
	w.want("one NOW 0")
	off := New(Config{Table: position.New(position.Config{}), PerConn: 1, Members: 1, Total: 1, Now: func() int64 { return 0 }})
	m, _ := wire.ParseWATCH([]byte("w +1+1 1"))
	if err := off.Open(netip.MustParseAddr("::1"), nil).Watch(&m); err != ErrOff {
		t.Errorf("L5 without an index: %v", err)
	}
}

func TestAConnectionWithTooManyInsideLosesTheWatch(t *testing.T) {
	b := newBench(t, Config{Members: 3}, 0)
	for i := range 3 {
		b.put(fmt.Sprint("c", i), "+1+1")
	}
	w := b.open("10.0.0.1")
	w.mustWatch("w +1+1 1")
	if got := w.tell(); len(got) != 4 || got[3] != "w NOW 3" {
		t.Fatalf("told %q", got)
	}
	b.put("c3", "+1+1")
	w.want("w OFF full")
	w.mustWatch("w +1+1 1") // L5: the name is free; the list is too long
	got := w.tell()
	if len(got) == 0 || got[len(got)-1] != "w OFF full" {
		t.Errorf("told %q", got)
	}
	if s := b.set.Stats(); s.Members != 0 || s.Ended[EndFull] != 2 {
		t.Errorf("%+v", s)
	}
}

func TestOfTooManyInsideAllTheAddressWithMostGivesWay(t *testing.T) {
	b := newBench(t, Config{Total: 10}, 0)
	for i := range 4 {
		b.put(fmt.Sprint("c", i), "+1+1")
	}
	small, big, bigger := b.open("10.0.0.1"), b.open("2001:db8:1::1"), b.open("2001:db8:1:2::3")
	small.mustWatch("s +1+1 1") // 4
	small.tell()
	big.mustWatch("b +1+1 1") // 8
	big.tell()
	b.put("far", "+2+2")
	bigger.mustWatch("f +2+2 1") // 9: that address has 5, the other 4
	bigger.tell()
	b.put("d", "+1+1") // 11
	b.settle()
	small.want("s IN d +1+1")
	big.want("b OFF full")
	bigger.want()
}

func TestAnOUTThatWaitsAMinuteEndsTheWatch(t *testing.T) {
	b := newBench(t, Config{}, 10*time.Minute)
	b.put("a", "+1+1")
	w := b.open("10.0.0.1")
	w.mustWatch("w +1+1 1")
	w.want("w IN a +1+1", "w NOW 1")
	for range 30 { // AT may wait for ever
		b.now += 10 * second
		b.put("a", "+1+1")
		b.settle()
	}
	w.want("w AT a +1+1")
	b.put("a", "+2+2")
	b.settle()
	for range 59 {
		b.now += second
		b.settle()
	}
	if s := b.set.Stats(); s.Ended[EndSlow] != 0 {
		t.Fatalf("L4 ended after 59 s: %+v", s)
	}
	for range 20 {
		b.now += second
		b.settle()
	}
	w.want("w OFF slow")
	if s := b.set.Stats(); s.Ended[EndSlow] != 1 || s.Members != 0 {
		t.Errorf("L4 %+v", s)
	}
}

func TestAStopEndsAListAndAllWatches(t *testing.T) {
	b := newBench(t, Config{}, 0)
	for i := range 100 {
		b.put(fmt.Sprint("c", i), "+1+1")
	}
	w := b.open("10.0.0.1")
	w.mustWatch("first +2+2 1")
	w.want("first NOW 0")
	w.mustWatch("w +1+1 1")
	told, more, listing := w.Tell(nil, 300)
	if !more || !listing || !strings.Contains(string(told), " IN ") {
		t.Fatalf("told %q, more %v, listing %v", told, more, listing)
	}
	w.Stop()
	w.want("w OFF stopping", "first OFF stopping")
	b.put("c1", "+2+2")
	w.want()
	w.Close()
}

func TestNobodyIsWokenForNothing(t *testing.T) {
	b := newBench(t, Config{}, 0)
	w := b.open("10.0.0.1")
	w.mustWatch("w +1+1 1")
	w.want("w NOW 0")
	b.put("far", "+2+2")
	b.settle()
	if w.woken != 0 {
		t.Errorf("woken %d times", w.woken)
	}
	for range 5 { // what waits is one call
		b.put("a", "+1+1")
		b.settle()
	}
	if w.woken != 1 {
		t.Errorf("woken %d times, want once", w.woken)
	}
	w.want("w IN a +1+1")
	b.put("a", "+1.001+1")
	b.settle()
	if w.woken != 2 {
		t.Errorf("woken %d times, want twice", w.woken)
	}
}

func TestTellingAllocatesNothing(t *testing.T) {
	b := newBench(t, Config{}, 0)
	w := b.open("10.0.0.1")
	w.mustWatch("w +1+1 1")
	dst := make([]byte, 0, 1<<14)
	line := []byte("AT A +0.000000000 c +1+1 1000000000.000000000\n")
	ops := make([]position.Op, 1)
	n := 0
	step := func() {
		n++
		digits := line[len(line)-len("000000000.000000000\n"):]
		for d, k := 100_000_000, 0; d > 0; d, k = d/10, k+1 {
			digits[k] = byte('0' + n/d%10)
		}
		at, err := wire.ParseAT(line[:len(line)-1])
		if err != nil {
			t.Fatal(err)
		}
		b.table.PreparePut(&ops[0], line, &at)
		b.table.Apply(b.now, position.Source{}, ops)
		b.settle()
		if told, _, _ := w.Tell(dst, 4000); len(told) == 0 {
			t.Fatal("nothing was told")
		}
	}
	for range 100 {
		step()
	}
	if got := testing.AllocsPerRun(200, step); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// V5: for a watcher for whom only some clients exist, the others are never inside, and count for nothing.
func TestWatchersForWhomOnlySomeExist(t *testing.T) {
	b := newBench(t, Config{Members: 3}, 0)
	for _, put := range []string{"bob/a", "bob/b", "bob/c", "alice/a"} {
		b.put(put, "+10+10")
	}
	w := &watching{b: b}
	w.Watcher = b.set.OpenFor(netip.MustParseAddr("192.0.2.1"), func(client []byte) bool { return strings.HasPrefix(string(client), "alice") }, func() { w.woken++ })
	defer w.Close()
	for _, text := range []string{"circle +10+10 50", "box +9+9 +11+11", "one bob/a", "around bob/a 50", "mine alice/a"} {
		if err := w.watch(text); err != nil {
			t.Fatal(err)
		}
		name := strings.Fields(text)[0]
		got := strings.Join(w.tell(), "; ")
		want := name + " IN alice/a +10+10; " + name + " NOW 1"
		if name == "one" || name == "around" {
			want = name + " NOW 0"
		}
		if got != want {
			t.Errorf("%s tells %q, want %q", text, got, want)
		}
	}
	b.put("bob/a", "+10.001+10")
	b.put("bob/d", "+10+10")
	b.put("bob/a", "+20+20")
	w.want()
}
