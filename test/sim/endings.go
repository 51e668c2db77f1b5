package sim

import (
	"math/rand/v2"
	"slices"
	"time"
)

// end adds to some days what hardly ever comes together by chance. It is drawn last, so that what
// is added here leaves other days as they were.
func (d *day) end(r *rand.Rand, at time.Duration) {
	p := d.plan
	switch leaves, forgets, harmed, spoils := r.IntN(8) == 0, r.IntN(10) == 0, r.IntN(6) == 0, r.IntN(25) == 0; {
	case leaves && !d.lies && !d.clocks && !d.deaf && p.Retain == 0:
		p.leave(r, at)
	case forgets && p.Retain == 0:
		p.amnesia(r, at)
	case harmed && d.harm && p.Retain == 0:
		p.harm(r, at)
	case spoils && !d.lies:
		p.spoil(r, at)
	default:
		d.rare(rand.New(rand.NewPCG(p.Seed, 0xd1342543de82ef95)), at)
	}
}

// rare is end for days to which that added nothing. Its source is its own.
func (d *day) rare(r *rand.Rand, at time.Duration) {
	p := d.plan
	switch x := r.IntN(6); {
	case d.lies && x < 3: // good-byes by turns with other words, or revisions out of order (H9)
		l := pick(r, p.Links...)
		p.gather(at, l[0])
		p.do(at+25*time.Second, Op{Do: Tell, Of: l[0], Client: 61},
			pick(r, Op{Do: Lie, Of: l[0], With: l[1], Number: 2 * lieBye, For: 2500 * time.Millisecond}, Op{Do: Lie, Of: l[0], With: l[1], Number: 2 * lieOrder}))
	case d.lies || d.clocks || d.deaf || p.Retain > 0:
	case x == 0:
		of := pick(r, p.Names...)
		p.gather(at, of)
		p.do(at, Op{Do: Tail, Of: of, Client: 64, For: time.Duration(250+r.IntN(450)) * time.Millisecond})
	case x == 1 && p.Journal == "on":
		p.usurp(r, at)
	case x == 2 && p.Journal == "on":
		p.fill(r, at)
	case x == 3:
		p.namesake(r, at)
	case x == 4:
		p.restarts(r, at)
	}
}

// restarts adds that a site restarts three times in a row, of which the later runs have less to tell
// than those before them (H9).
func (p *Plan) restarts(r *rand.Rand, at time.Duration) {
	of := pick(r, p.Names...)
	p.gather(at, of)
	at += 25 * time.Second
	for range 2 {
		for i := range 40 {
			p.do(at+time.Duration(i)*20*time.Millisecond, Op{Do: Tell, Of: of, Client: 61, Number: i})
		}
		at += 4 * time.Second
		p.do(at, Op{Do: Restart, Of: of, For: time.Duration(1+r.IntN(300)) * time.Millisecond})
		at += 8 * time.Second
	}
	p.do(at, Op{Do: Restart, Of: of, For: time.Duration(1+r.IntN(300)) * time.Millisecond})
}

// namesake adds that another run takes the name of one that is away for a moment, and has something to
// tell when it is back (H6, H10).
func (p *Plan) namesake(r *rand.Rand, at time.Duration) {
	of := pick(r, p.Names...)
	p.gather(at, of)
	p.do(at+25*time.Second, Op{Do: Tell, Of: of, Client: 61})
	at += 28 * time.Second
	p.do(at, Op{Do: Tell, Of: of, Client: 62}, Op{Do: Drop, Of: of, For: 2500 * time.Millisecond}, Op{Do: Twin, Of: of})
}

// usurp adds that another run takes a site's name and bucket, of which the one before it hears
// nothing, and ends before that one writes again (D5).
func (p *Plan) usurp(r *rand.Rand, at time.Duration) {
	of := pick(r, p.Names...)
	p.do(at, Op{Do: Start, Of: of})
	at += 25 * time.Second
	for i := range 3 {
		p.do(at, Op{Do: Tell, Of: of, Client: 61 + i})
	}
	at += 3 * time.Second
	p.do(at, Op{Do: Double, Of: of, For: 6 * time.Second, Number: 1000 + r.IntN(1500)})
	at += 3 * time.Second
	for i := range 3 {
		p.do(at, Op{Do: Tell, Of: of, Client: 61 + i})
	}
}

// fill adds that a bucket is nearly full for a while, in which clients that it knows tell where they
// are, and some that it does not know (D6).
func (p *Plan) fill(r *rand.Rand, at time.Duration) {
	const known = 110
	of := pick(r, p.Names...)
	p.Faults, p.StoreLag, p.StoreCost = 0, 0, 2*time.Microsecond
	p.do(at, Op{Do: Start, Of: of})
	at += 25 * time.Second
	for i := range known {
		p.do(at, Op{Do: Tell, Of: of, Client: 60 + i%5}, Op{Do: Tell, Of: of, Client: crowds + i})
	}
	at += 3 * time.Second
	p.do(at, Op{Do: Full, Of: of, Number: 32 + r.IntN(3), For: 25 * time.Second})
	for at += 14 * time.Second; r.IntN(6) > 0; at += time.Second {
		p.do(at, Op{Do: Tell, Of: of, Client: 60 + r.IntN(5)}, Op{Do: Tell, Of: of, Client: crowds + known + r.IntN(known)})
	}
}

// leave adds that a site is told to stop, with its neighbours there, and time for answers to wait
// for a bucket for longer than a stop takes.
func (p *Plan) leave(r *rand.Rand, at time.Duration) {
	o := Op{Do: Leave, Of: pick(r, p.Names...), Number: 1 + r.IntN(60), For: time.Duration(20+r.IntN(300)) * time.Millisecond}
	if p.Promise {
		p.JournalTimeout = time.Duration(5+r.IntN(25)) * time.Second
	}
	p.gather(at, o.Of)
	p.do(at, o)
}

// spoil adds that what clients tell a site comes to its neighbours behind what is no line (H9).
func (p *Plan) spoil(r *rand.Rand, at time.Duration) {
	of := pick(r, p.Names...)
	p.gather(at, of)
	p.do(at+25*time.Second, Op{Do: Spoil, Of: of, For: 3 * time.Second})
	for i := range 3 {
		p.do(at+26*time.Second, Op{Do: Tell, Of: of, Client: 61 + i})
	}
}

// gather mends a site's links, and has runs begin there and at its neighbours.
func (p *Plan) gather(at time.Duration, of string) {
	for _, l := range slices.Concat(p.Links, p.Next) {
		if l[0] == of || l[1] == of {
			p.do(at, Op{Do: Mend, Of: l[0], With: l[1]}, Op{Do: Start, Of: l[0]}, Op{Do: Start, Of: l[1]})
		}
	}
}

func (p *Plan) do(at time.Duration, ops ...Op) {
	for _, o := range ops {
		o.At = at
		p.Ops = append(p.Ops, o)
	}
}

// harm adds harm to a bucket of which the site's run lives on: no other one loads it again (D5). Then
// a client tells where it is, whose answer waits for less than it takes the run to look by itself.
func (p *Plan) harm(r *rand.Rand, at time.Duration) {
	of := pick(r, p.Names...)
	p.JournalTimeout = time.Second
	p.do(at, Op{Do: Start, Of: of})
	at += 25 * time.Second
	for i := range 3 {
		p.do(at, Op{Do: Tell, Of: of, Client: 61 + i})
	}
	at += 3 * time.Second
	p.do(at, Op{Do: pick(r, Purge, Destroy, GoBack, GoBack, Foreign, Foreign, Foreign, Foreign), Of: of, Client: 61, Number: r.IntN(3), For: time.Second})
	p.do(at+500*time.Millisecond, Op{Do: Tell, Of: of, Client: 62})
}

// amnesia adds that a site restarts without what it had heard of one neighbour and told another,
// while that other one's messages are late or lost. In the second case it tells something before
// it hears anything, and clients report there late (H4).
func (p *Plan) amnesia(r *rand.Rand, at time.Duration) {
	of := pick(r, p.Names...)
	var near []string
	for _, l := range p.Links {
		for i := range l {
			if l[i] == of {
				near = append(near, l[1-i])
			}
		}
	}
	if len(near) < 2 {
		return
	}
	r.Shuffle(len(near), func(i, j int) { near[i], near[j] = near[j], near[i] })
	do := func(after time.Duration, ops ...Op) { p.do(at+after, ops...) }
	from, to, clients := near[0], near[1], 1+r.IntN(3)
	for _, other := range near[:2] {
		l := pair(of, other)
		do(0, Op{Do: Mend, Of: l[0], With: l[1]}, Op{Do: Start, Of: other})
	}
	do(0, Op{Do: Start, Of: of})
	for client := range clients {
		do(25*time.Second, Op{Do: Tell, Of: from, Client: 61 + client})
	}
	for _, l := range slices.Concat(p.Links, p.Next) {
		if (l[0] == of || l[1] == of) && l != pair(of, to) {
			do(28*time.Second, Op{Do: Cut, Of: l[0], With: l[1]})
		}
	}
	if p.Journal == "off" || r.IntN(2) == 0 {
		do(28*time.Second, Op{Do: Late, Of: of, With: to, Client: 61, For: time.Duration(300+r.IntN(2000)) * time.Millisecond})
		return
	}
	do(28*time.Second, Op{Do: Lose, Of: to, For: 12 * time.Second}, Op{Do: Restart, Of: of, For: time.Duration(1+r.IntN(300)) * time.Millisecond})
	do(36*time.Second, Op{Do: Tell, Of: of, Client: 60})
	for client := range clients {
		do(37*time.Second, Op{Do: Tell, Of: to, Client: 61 + client, For: -30 * time.Second})
	}
}
