package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A Plan is one bad day: a herd, and what is done to it. The same plan has the same trace.
type Plan struct {
	Seed  uint64 // of what the network does to each message
	Names []string
	Links [][2]string
	Next  [][2]string `json:",omitempty"` // the topology that sites are rolled to; nil: there is none
	Options
	Ops  []Op
	Heal []string // the sites that are healed; their links to each other are, too
}

// Options are what is the same all day.
type Options struct {
	Window         int
	Gap, Heartbeat time.Duration
	MaxPayload     int
	Journal        string        // HERD_JOURNAL
	Promise        bool          // HERD_DURABILITY=journal
	JournalTimeout time.Duration // HERD_JOURNAL_TIMEOUT
	Retain         time.Duration

	Delay     time.Duration // the longest on the way to the broker and on
	Loss      float64       // of messages: slow consumers
	Twice     float64       // of messages, which no NATS does: the rules hold all the same
	StoreTrip time.Duration
	StoreLag  time.Duration // of the store's replicas
	StoreCost time.Duration // per entry that it reads, writes or deletes
	Faults    float64       // of calls of a store

	Watch bool // each run has a watcher (L)

	Blackout bool // in the end all that were healed are killed at once, and started at once
	Probe    bool // in the end a clock is wrong for a while
}

// A Kind is what an Op does.
type Kind string

// The kinds of operations. Of is a site; With, where one is named, another.
const (
	Tell    Kind = "Tell"    // a client tells where it is, at Of
	Repeat  Kind = "Repeat"  // it tells again what it told last, at Of
	Kill    Kind = "Kill"    // the oldest run of Of ends at once
	Stop    Kind = "Stop"    // it is told to stop
	Start   Kind = "Start"   // a run of Of, if there is none
	Twin    Kind = "Twin"    // another run of Of, if there is one
	Stall   Kind = "Stall"   // nothing of Of's oldest run comes through, nor to it, for a while
	Drop    Kind = "Drop"    // its connection is lost with what is on its way, and made anew after a while
	Cut     Kind = "Cut"     // the link of Of and With
	Mend    Kind = "Mend"    // that link again
	Away    Kind = "Away"    // the broker, for a while, for all
	Clock   Kind = "Clock"   // Of's steps: it is off by For
	Purge   Kind = "Purge"   // Of's bucket is emptied
	Destroy Kind = "Destroy" // … is taken away
	GoBack  Kind = "GoBack"  // … is as it was a while ago
	Foreign Kind = "Foreign" // an operator writes no line to Client's key there, or removes it
	Lie     Kind = "Lie"     // With hears what Of did not say (H9); for a while, 200 times a second

	Restart Kind = "Restart" // Of's oldest run ends at once, and one begins after a while
	Roll    Kind = "Roll"    // … with the other topology
	Deaf    Kind = "Deaf"    // a subscription of Of brings nothing for a while, and then until it is made anew
	Double  Kind = "Double"  // another run of Of begins, which those before it do not hear of for a while (H10); it ends after Number ms, if that is not 0
	Full    Kind = "Full"    // Of's bucket has a limit for a while, of about what it holds (D6)
	Unfit   Kind = "Unfit"   // Of's bucket may drop what it acknowledged, for a while (D5)
	Mute    Kind = "Mute"    // the connection of Of's oldest run brings nothing any more, and does not end (H8)
	Narrow  Kind = "Narrow"  // the broker's max_payload is Number for a while (H5)
	Crowd   Kind = "Crowd"   // more clients move at Of, for a while, than its links carry (H3)
	Lose    Kind = "Lose"    // messages of Of to its neighbours are lost for a while, its acks are not
	Spoil   Kind = "Spoil"   // messages of Of to its neighbours begin with what is no line, for a while (H9)
	Late    Kind = "Late"    // With restarts, and when it knows Client of Of, what it sends comes late, to Of's next run (H4)
	Leave   Kind = "Leave"   // Of is told to stop while clients tell; what it sends first is lost, and its bucket may hang (C19)
	Tail    Kind = "Tail"    // Of's connection is lost for a while with what Client told it last (H6)
	Expire  Kind = "Expire"  // many clients tell at Of where they were: what is about to be forgotten (S4)
)

// An Op is one operation.
type Op struct {
	At     time.Duration // from the begin
	Do     Kind
	Of     string
	With   string        `json:",omitempty"`
	Client int           `json:",omitempty"`
	For    time.Duration `json:",omitempty"`
	Number int           `json:",omitempty"`
}

// Draw makes the plan of a seed.
func Draw(seed uint64) *Plan {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	p := &Plan{Seed: seed}
	count := 2 + r.IntN(pick(r, 2, 3, 8))
	if r.IntN(10) == 0 {
		count = 10 + r.IntN(21)
	}
	p.draw(r, count)
	p.options(r)
	p.Watch = seed%3 == 1
	d := day{
		plan: p, clients: pick(r, 1, 3, 12),
		lies: r.IntN(4) == 0, clocks: r.IntN(4) == 0, harm: r.IntN(2) == 0 && p.Journal != "off",
		deaf: r.IntN(4) == 0, restless: r.IntN(3) == 0,
	}
	d.deaf = d.deaf && !d.lies // an interval of 24 h that a lie told would hide that nothing comes (H8)
	ops := 30 + r.IntN(90)
	slow := time.Duration(pick(r, 10+r.IntN(80), 20+r.IntN(800))) * time.Millisecond
	if seed%101 == 100 { // a long day: more than five minutes
		slow, ops = time.Duration(1200+r.IntN(800))*time.Millisecond, 550+r.IntN(300)
	}
	at := time.Duration(0)
	for range ops {
		at += time.Duration(r.Int64N(int64(slow/time.Millisecond))) * time.Millisecond
		p.Ops = append(p.Ops, d.op(r, at))
	}
	// A head that a lie made up must not come true: no many changes beside lies (H9).
	if !d.lies && count <= 6 && r.IntN(12) == 0 {
		p.crowd(r, at)
	}
	if !d.lies && p.Retain > 0 && p.Journal != "off" && r.IntN(2) == 0 {
		p.StoreCost, p.JournalTimeout = pick(r, p.StoreCost, 2*time.Millisecond), 1500*time.Millisecond
		p.Ops = append(p.Ops, Op{At: at, Do: Expire, Of: pick(r, p.Names...), Number: 20 + r.IntN(900), For: time.Duration(r.IntN(4000)) * time.Millisecond})
	}
	p.Heal = p.part(r)
	d.end(r, at)
	return p
}

// A day draws operations; of those that take minutes to heal, or do not go along with other harm,
// not all are in every plan.
type day struct {
	plan                               *Plan
	clients                            int // few are told of again while the last is on its way
	lies, clocks, harm, deaf, restless bool
}

// draw draws a connected graph.
func (p *Plan) draw(r *rand.Rand, count int) {
	for i := range count {
		p.Names = append(p.Names, fmt.Sprintf("E%02d", i))
	}
	for i := 1; i < count; i++ {
		p.Links = append(p.Links, pair(p.Names[r.IntN(i)], p.Names[i]))
	}
	for range r.IntN(count) {
		a, b := r.IntN(count), r.IntN(count)
		if l := pair(p.Names[a], p.Names[b]); a != b && !slices.Contains(p.Links, l) {
			p.Links = append(p.Links, l)
		}
	}
}

// roll draws the topology that sites are rolled to: some links go, some come, and it is connected.
func (p *Plan) roll(r *rand.Rand) {
	group := map[string]string{}
	root := func(name string) string {
		for group[name] != "" {
			name = group[name]
		}
		return name
	}
	add := func(l [2]string) {
		p.Next = append(p.Next, l)
		if a, b := root(l[0]), root(l[1]); a != b {
			group[a] = b
		}
	}
	for _, l := range p.Links {
		if r.IntN(10) < 7 {
			add(l)
		}
	}
	for i := range p.Names {
		for root(p.Names[i]) != root(p.Names[0]) {
			add(pair(p.Names[i], pick(r, p.Names[:i]...)))
		}
	}
}

// crowd adds a crowd at one site, and takes the links' width.
func (p *Plan) crowd(r *rand.Rand, at time.Duration) {
	p.Window, p.Gap, p.MaxPayload, p.Delay = 1+r.IntN(2), 0, 1800, 150*time.Millisecond
	p.Ops = append(p.Ops, Op{At: at, Do: Crowd, Of: pick(r, p.Names...), Number: 120 + r.IntN(80), For: time.Duration(15+r.IntN(10)) * time.Second})
}

func (p *Plan) options(r *rand.Rand) {
	p.Options = Options{
		Window: 1 + r.IntN(8), Gap: pick(r, 0, 5*time.Millisecond, time.Duration(r.IntN(80))*time.Millisecond),
		// By no round number: no beat falls together with a timer of another kind, since which of
		// two that are due at one instant fires first is not the same in two processes.
		Heartbeat:  pick(r, time.Second, time.Second, 500*time.Millisecond, 2*time.Second) + 37*time.Microsecond,
		MaxPayload: pick(r, 1<<20, 1800, 2500),
		Journal:    pick(r, "off", "auto", "on", "on"),
		Delay:      pick(r, 2*time.Millisecond, 30*time.Millisecond, 150*time.Millisecond),
		Loss:       pick(r, 0, 0.02, 0.15), Twice: pick(r, 0, 0, 0.05),
		StoreTrip: time.Duration(1+r.IntN(60)) * time.Millisecond,
		StoreLag:  pick(r, 0, 0, time.Duration(r.IntN(2000))*time.Millisecond),
		StoreCost: pick(r, 2*time.Microsecond, 2*time.Microsecond, time.Duration(2+r.IntN(1000))*time.Microsecond),
		Faults:    pick(r, 0, 0.05),
		Blackout:  r.IntN(3) == 0, Probe: r.IntN(6) == 0,
	}
	p.Promise = p.Journal == "on" && r.IntN(3) > 0
	p.JournalTimeout = 2 * time.Second
	if r.IntN(8) == 0 {
		p.JournalTimeout = time.Duration(5+r.IntN(25)) * time.Second
	}
	if r.IntN(4) == 0 {
		p.Retain = time.Minute
	}
	if r.IntN(5) == 0 {
		p.roll(r)
	}
}

// op draws one operation.
func (d *day) op(r *rand.Rand, at time.Duration) Op {
	p := d.plan
	o := Op{At: at, Of: pick(r, p.Names...)}
	some := func(least, most int) time.Duration {
		return time.Duration(least+r.IntN(most-least)) * time.Millisecond
	}
	link := pick(r, p.Links...)
	if p.Next != nil && r.IntN(2) == 0 {
		link = pick(r, p.Next...)
	}
	toward := func() { side := r.IntN(2); o.Of, o.With = link[side], link[1-side] }
	switch x := r.IntN(100); {
	case d.clocks && x < 8:
		o.Do, o.For = Clock, pick(r, steps...)
	case d.lies && x >= 8 && x < 12:
		toward()
		o.Do, o.Number, o.For = Lie, r.IntN(1<<20), pick(r, 0, 0, some(100, 2500))
	case d.harm && x >= 12 && x < 16:
		o.Do = pick(r, Purge, Destroy, GoBack, Foreign, Foreign, Full, Full, Unfit)
		o.Client, o.Number, o.For = r.IntN(d.clients), r.IntN(100), some(1, 3000)
		if o.Do == Full || o.Do == Unfit {
			o.For = some(1000, 40000)
		}
	case d.deaf && x >= 16 && x < 18:
		toward()
		o.Do, o.Number, o.For = Deaf, r.IntN(3), some(100, 8000)
	case d.deaf && x == 18:
		o.Do, o.For = Double, some(500, 9000)
	case d.deaf && x == 19:
		o.Do, o.Number, o.For = Narrow, 560+r.IntN(1200), some(500, 6000)
	case d.deaf && x == 20:
		o.Do = Mute
	case d.restless && x >= 21 && x < 28:
		o.Do, o.For = Restart, pick(r, 0, some(1, 300), some(1, 2000))
	case p.Next != nil && x >= 28 && x < 34:
		o.Do, o.For = Roll, some(1, 500)
	case x < 58:
		o.Do, o.Client = Tell, d.client(r)
		// Client's times: mostly now; a little ago, equal, ahead, years ahead.
		o.For = pick(r, 0, 0, 0, 0, 0, -some(0, 5000), 50*time.Second, 10*time.Minute, 70*time.Minute, 20000*time.Hour)
		o.Number = r.IntN(100)
	case x < 63:
		o.Do, o.Client = Repeat, d.client(r)
	case x < 68:
		o.Do = Kill
	case x < 70:
		o.Do = Stop
	case x < 78:
		o.Do = Start
	case x < 80:
		o.Do = Twin
	case x < 83:
		o.Do, o.For = Stall, some(100, pick(r, 3100, 25100))
	case x < 86:
		o.Do, o.For = Drop, some(250, 3250)
	case x < 89:
		o.Do, o.Of, o.With = Cut, link[0], link[1]
	case x < 96:
		o.Do, o.Of, o.With = Mend, link[0], link[1]
	case x < 97:
		o.Do, o.For = Away, some(500, 8500)
	default:
		o.Do, o.For = Restart, some(1, 1500)
	}
	return o
}

// client draws one of the few; now and then one with a long name.
func (d *day) client(r *rand.Rand) int {
	if r.IntN(12) == 0 {
		return longNames + r.IntN(2)
	}
	return r.IntN(d.clients)
}

// steps are how far a clock may be off.
var steps = []time.Duration{0, 3 * time.Second, -3 * time.Second, 20 * time.Minute, -20 * time.Minute, 2 * time.Hour, -2 * time.Hour}

// part draws a connected part of the graph; all of it in every second plan.
func (p *Plan) part(r *rand.Rand) []string {
	if r.IntN(2) == 0 {
		return slices.Clone(p.Names)
	}
	part := []string{p.Names[r.IntN(len(p.Names))]}
	for range r.IntN(len(p.Names)) {
		var edge []string
		for _, l := range p.last() {
			for i := range l {
				if slices.Contains(part, l[i]) && !slices.Contains(part, l[1-i]) {
					edge = append(edge, l[1-i])
				}
			}
		}
		if len(edge) == 0 {
			break
		}
		part = append(part, edge[r.IntN(len(edge))])
	}
	slices.Sort(part)
	return part
}

// last are the links that those who are healed have in the end.
func (p *Plan) last() [][2]string {
	if p.Next != nil {
		return p.Next
	}
	return p.Links
}

// has says whether an operation of one of these kinds is in the plan.
func (p *Plan) has(kinds ...Kind) bool {
	return slices.ContainsFunc(p.Ops, func(o Op) bool { return slices.Contains(kinds, o.Do) })
}

// topology is HERD_TOPOLOGY of some links.
func topology(links [][2]string) string {
	var all []string
	for _, l := range links {
		all = append(all, l[0]+"-"+l[1])
	}
	return strings.Join(all, ",")
}

// Without returns the plan without some of its operations.
func (p *Plan) Without(from, to int) *Plan {
	q := *p
	q.Ops = slices.Concat(p.Ops[:from], p.Ops[to:])
	return &q
}

// String is the plan as Go, for a table of found plans.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "{Seed: %d,\n\tNames: %#v,\n\tLinks: %#v,\n", p.Seed, p.Names, p.Links)
	if p.Next != nil {
		fmt.Fprintf(&b, "\tNext: %#v,\n", p.Next)
	}
	fmt.Fprintf(&b, "\tOptions: Options{%s},\n\tHeal: %#v,\n\tOps: []Op{\n", fields(p.Options), p.Heal)
	for _, o := range p.Ops {
		fmt.Fprintf(&b, "\t\t{%s},\n", fields(o))
	}
	b.WriteString("\t}},\n")
	return b.String()
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
