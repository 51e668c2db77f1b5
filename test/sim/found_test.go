package sim

import "time"

// found are plans that are kept: those that once failed, as short as shrinking makes them.
// TestFoundPlans lives them all. The first is a day with each kind of operation; the second was a
// planted fault's, the third the herd's own.
var found = []struct {
	why  string
	plan Plan
}{
	{"each kind of operation", Plan{Seed: 1,
		Names: []string{"E00", "E01", "E02", "E03"},
		Links: [][2]string{{"E00", "E01"}, {"E01", "E02"}, {"E02", "E03"}, {"E00", "E03"}},
		Next:  [][2]string{{"E00", "E01"}, {"E00", "E02"}, {"E02", "E03"}},
		Options: Options{Window: 2, Heartbeat: time.Second + 37*time.Microsecond, MaxPayload: 1800, Journal: "on", Promise: true,
			JournalTimeout: 2 * time.Second, Retain: time.Minute, Delay: 20 * time.Millisecond, Loss: 0.02, Twice: 0.05,
			StoreTrip: 5 * time.Millisecond, StoreCost: 2 * time.Microsecond, Blackout: true, Probe: true},
		Heal: []string{"E00", "E01", "E02", "E03"},
		Ops: []Op{
			{At: 1 * time.Second, Do: Tell, Of: "E00", Client: 1, Number: 7},
			{At: 1100 * time.Millisecond, Do: Tell, Of: "E01", Client: longNames, Number: 8},
			{At: 2 * time.Second, Do: Repeat, Of: "E01", Client: 1},
			{At: 3 * time.Second, Do: Kill, Of: "E00"},
			{At: 4 * time.Second, Do: Start, Of: "E00"},
			{At: 5 * time.Second, Do: Stop, Of: "E01"},
			{At: 6 * time.Second, Do: Restart, Of: "E01", For: 100 * time.Millisecond},
			{At: 7 * time.Second, Do: Stall, Of: "E02", For: 3 * time.Second},
			{At: 8 * time.Second, Do: Twin, Of: "E02"},
			{At: 9 * time.Second, Do: Drop, Of: "E03", For: time.Second},
			{At: 11 * time.Second, Do: Cut, Of: "E00", With: "E01"},
			{At: 12 * time.Second, Do: Mend, Of: "E00", With: "E01"},
			{At: 13 * time.Second, Do: Away, Of: "E00", For: time.Second},
			{At: 15 * time.Second, Do: Roll, Of: "E00", For: 100 * time.Millisecond},
			{At: 16 * time.Second, Do: Roll, Of: "E02", For: 100 * time.Millisecond},
			{At: 20 * time.Second, Do: Purge, Of: "E00"},
			{At: 21 * time.Second, Do: Foreign, Of: "E01", Client: 1},
			{At: 22 * time.Second, Do: GoBack, Of: "E02", For: time.Second},
			{At: 24 * time.Second, Do: Destroy, Of: "E03"},
			{At: 36 * time.Second, Do: Full, Of: "E00", Number: 20, For: 10 * time.Second},
			{At: 37 * time.Second, Do: Unfit, Of: "E01", For: 20 * time.Second},
			{At: 38 * time.Second, Do: Clock, Of: "E03", For: -20 * time.Minute},
			{At: 39 * time.Second, Do: Narrow, Number: 700, For: 3 * time.Second, Of: "E00"},
			{At: 43 * time.Second, Do: Double, Of: "E00", For: 3 * time.Second},
			{At: 46 * time.Second, Do: Deaf, Of: "E02", With: "E00", For: time.Second},
			{At: 60 * time.Second, Do: Mute, Of: "E03"},
			{At: 64 * time.Second, Do: Crowd, Of: "E02", Number: 130, For: 12 * time.Second},
			{At: 80 * time.Second, Do: Expire, Of: "E00", Number: 100, For: time.Second},
			{At: 140 * time.Second, Do: Lie, Of: "E00", With: "E02", Number: 7, For: time.Second},
			{At: 141 * time.Second, Do: Lose, Of: "E00", For: time.Second},
			{At: 141 * time.Second, Do: Spoil, Of: "E02", For: time.Second},
			{At: 142 * time.Second, Do: Late, Of: "E02", With: "E03", Client: 1, For: time.Second},
			{At: 150 * time.Second, Do: Leave, Of: "E02", Number: 7, For: 100 * time.Millisecond},
			{At: 200 * time.Second, Do: Tail, Of: "E00", Client: 1, For: 300 * time.Millisecond},
			{At: 210 * time.Second, Do: Double, Of: "E00", Number: 2000, For: 5 * time.Second},
		}}},

	// The planted fault was: H4 a touched record keeps its holders. E01 knows by E00's first run what
	// E02 was told, and that this run holds it. The next run does not, and what E01 tells it is lost.
	// Meanwhile it tells E01 something else, and so becomes the run whose holdings E01 remembers;
	// then a late report makes the client E01's own, which is a new change. If that kept who holds
	// the client's line, the new run would count, and would never be told.
	{"H4 a client that reports while its edge's neighbour has restarted", Plan{Seed: 30007,
		Names: []string{"E00", "E01", "E02"},
		Links: [][2]string{{"E00", "E01"}, {"E00", "E02"}, {"E01", "E02"}},
		Options: Options{Window: 8, Heartbeat: 1000037 * time.Microsecond, MaxPayload: 1 << 20, Journal: "on",
			JournalTimeout: 2 * time.Second, Delay: 2 * time.Millisecond, StoreTrip: 5 * time.Millisecond, StoreCost: 2 * time.Microsecond},
		Heal: []string{"E00", "E01", "E02"},
		Ops: []Op{
			{At: 25338 * time.Millisecond, Do: Tell, Of: "E02", Client: 62},
			{At: 28338 * time.Millisecond, Do: Cut, Of: "E00", With: "E02"},
			{At: 28338 * time.Millisecond, Do: Lose, Of: "E01", For: 12 * time.Second},
			{At: 28338 * time.Millisecond, Do: Restart, Of: "E00", For: 282 * time.Millisecond},
			{At: 36338 * time.Millisecond, Do: Tell, Of: "E00", Client: 60},
			{At: 37338 * time.Millisecond, Do: Tell, Of: "E01", Client: 62, For: -30 * time.Second},
		}}},

	// E01's second run takes the name from the first, whose clock was three seconds ahead: so it has
	// the earlier epoch. E00 hears the first say good-bye, and yet went on telling it, not the second,
	// until it had been silent for three heartbeats; what E00 was told meanwhile was not known at E01.
	{"H6 the run that is left has the earlier epoch", Plan{Seed: 9003250,
		Names: []string{"E00", "E01"},
		Links: [][2]string{{"E00", "E01"}},
		Options: Options{Window: 8, Heartbeat: 2000037 * time.Microsecond, MaxPayload: 1 << 20, Journal: "on", Promise: true,
			JournalTimeout: 2 * time.Second, Delay: 150 * time.Millisecond, StoreTrip: 48 * time.Millisecond, StoreCost: 2 * time.Microsecond, Watch: true},
		Heal: []string{"E00", "E01"},
		Ops: []Op{
			{At: 80 * time.Millisecond, Do: Drop, Of: "E00", For: 3159 * time.Millisecond},
			{At: 235 * time.Millisecond, Do: Drop, Of: "E01", For: 2611 * time.Millisecond},
			{At: 282 * time.Millisecond, Do: Clock, Of: "E01", For: -3 * time.Second},
			{At: 492 * time.Millisecond, Do: Twin, Of: "E01"},
			{At: 635 * time.Millisecond, Do: Stop, Of: "E01"},
			{At: 637 * time.Millisecond, Do: Tell, Of: "E00", Client: 2, For: 50 * time.Second, Number: 78},
		}}},

	// Of two positions the later one is older by the client's clock, and comes when E02 has known for
	// seconds that its bucket may drop what it acknowledged. It was answered at once, as a promise.
	{"D5 what an unfit bucket held is no promise", Plan{Seed: 9508644,
		Names: []string{"E00", "E01", "E02", "E03"},
		Links: [][2]string{{"E00", "E01"}, {"E01", "E02"}, {"E01", "E03"}},
		Options: Options{Window: 2, Heartbeat: 2000037 * time.Microsecond, MaxPayload: 1 << 20, Journal: "on", Promise: true,
			JournalTimeout: time.Second, Delay: 30 * time.Millisecond, StoreTrip: 59 * time.Millisecond, StoreCost: 2 * time.Microsecond},
		Heal: []string{"E00", "E01", "E02", "E03"},
		Ops: []Op{
			{At: 197037 * time.Millisecond, Do: Tell, Of: "E02", Client: 80, For: 10 * time.Minute, Number: 18},
			{At: 208154 * time.Millisecond, Do: Unfit, Of: "E02", Client: 1, For: 35191 * time.Millisecond, Number: 68},
			{At: 225415 * time.Millisecond, Do: Tell, Of: "E02", Client: 80, Number: 14},
		}}},

	// A fault of the simulator: E01's clock was right again, but E02, which was stalled, heard that it was
	// wrong after that, and its own was wrong alike by then. Two such clocks outvote the rest (S4).
	{"S4 a clock is not wrong before all have heard that the one before is right", Plan{Seed: 11187756129265,
		Names: []string{"E00", "E01", "E02"},
		Links: [][2]string{{"E00", "E01"}, {"E01", "E02"}},
		Options: Options{Window: 1, Heartbeat: 500037 * time.Microsecond, MaxPayload: 1 << 20, Journal: "off",
			JournalTimeout: 2 * time.Second, Retain: time.Minute, Delay: 150 * time.Millisecond, StoreTrip: 27 * time.Millisecond,
			StoreCost: 2 * time.Microsecond, Watch: true},
		Heal: []string{"E00", "E01", "E02"},
		Ops: []Op{
			{At: 167801 * time.Millisecond, Do: Kill, Of: "E02"},
			{At: 298360 * time.Millisecond, Do: Start, Of: "E02"},
			{At: 298721 * time.Millisecond, Do: Clock, Of: "E01", For: 2 * time.Hour},
			{At: 315245 * time.Millisecond, Do: Tell, Of: "E02", Client: 9, For: 20000 * time.Hour, Number: 10},
			{At: 318119 * time.Millisecond, Do: Stall, Of: "E02", For: 14762 * time.Millisecond},
			{At: 329224 * time.Millisecond, Do: Clock, Of: "E02", For: 2 * time.Hour},
			{At: 357631 * time.Millisecond, Do: Tell, Of: "E01", Client: 8, For: -300 * time.Millisecond, Number: 49},
		}}},

	// When E00 became the owner of its bucket again, a replica that lagged told it of its line, and then
	// what an operator had put there before. The line counted as held.
	{"D1 what an operator replaced before the owner came is written anew", Plan{Seed: 5177965171120,
		Names: []string{"E00", "E01"},
		Links: [][2]string{{"E00", "E01"}},
		Options: Options{Window: 2, Heartbeat: 500037 * time.Microsecond, MaxPayload: 1 << 20, Journal: "on", JournalTimeout: 2 * time.Second,
			Delay: 2 * time.Millisecond, StoreTrip: 6 * time.Millisecond, StoreLag: 804 * time.Millisecond, StoreCost: 2 * time.Microsecond, Watch: true},
		Heal: []string{"E00", "E01"},
		Ops: []Op{
			{At: 221 * time.Millisecond, Do: Unfit, Of: "E00", Client: 2, For: 18407 * time.Millisecond, Number: 90},
			{At: 9547 * time.Millisecond, Do: Tell, Of: "E00", For: 70 * time.Minute, Number: 69},
			{At: 16573 * time.Millisecond, Do: Foreign, Of: "E00", For: 228 * time.Millisecond, Number: 42},
		}}},
}
