package journal

import (
	"net/netip"

	"herd/edge/position"
)

// A Peer is a connection that waits for lines, and the address that it comes from. An address
// may have many connections, and a connection may wait for many lines.
type Peer struct {
	Address netip.Addr
	Conn    uint64
}

// turns holds the lines that are waited for and decides which of them go first (C18). A turn
// takes one line per address, from the address's connections in turn, and from a connection
// its oldest line. So a peer that waits for as many lines as it can delays no other by more
// than a turn. A line that take has returned stays in turns until it is kept or no call waits
// for it. The zero value is empty.
type turns struct {
	round     uint64 // calls of take
	peers     int
	of        map[netip.Addr]*address
	addresses queue[*address]
	spent     queue[*address] // addresses with no more lines in this round
}

// An address is an address with at least one connection that waits.
type address struct {
	at    element[*address]
	of    map[uint64]*peer
	peers queue[*peer]
	round uint64       // the round in which take last asked it
	spent queue[*peer] // connections with no more lines in that round
}

// A peer is a connection that waits.
type peer struct {
	at      element[*peer]
	who     Peer
	address *address
	turns   queue[*turn] // the oldest first

	round uint64 // the round in which take last asked it
	next  *turn  // where it goes on in that round; nil: it has no more lines
	line  int    // … and with which line of next
}

// A turn holds the lines that one call of Await waits for.
type turn struct {
	at    element[*turn]
	peer  *peer
	lines []position.Ref
	kept  []bool // by line: it is kept
	first int    // all lines before this index are kept
}

// enter adds lines that a call waits for. They must not change until leave.
func (t *turns) enter(who Peer, lines []position.Ref) *turn {
	a := t.of[who.Address]
	if a == nil {
		if t.of == nil {
			t.of = map[netip.Addr]*address{}
		}
		a = &address{of: map[uint64]*peer{}}
		t.of[who.Address] = a
		t.addresses.push(&a.at, a)
	}
	p := a.of[who.Conn]
	if p == nil {
		p = &peer{who: who, address: a}
		a.of[who.Conn] = p
		a.peers.push(&p.at, p)
		t.peers++
	}
	w := &turn{peer: p, lines: lines, kept: make([]bool, len(lines))}
	p.turns.push(&w.at, w)
	return w
}

// leave removes what enter added.
func (t *turns) leave(w *turn) {
	p := w.peer
	p.next = nil // each round begins anew
	w.at.remove()
	if p.turns.front() != nil {
		return
	}
	a := p.address
	p.at.remove()
	delete(a.of, p.who.Conn)
	t.peers--
	if len(a.of) == 0 {
		a.at.remove()
		delete(t.of, p.who.Address)
	}
}

// keep notes that the line with an index is kept.
func (w *turn) keep(line int) {
	w.kept[line] = true
	for w.first < len(w.kept) && w.kept[w.first] {
		w.first++
	}
}

// take appends up to n of the lines to dst, in the order in which they go. It begins with the
// address after the one whose line it returned last.
func (t *turns) take(dst []position.Ref, n int) []position.Ref {
	t.round++
	for ; n > 0; n-- {
		line, ok := t.next()
		if !ok {
			break
		}
		dst = append(dst, line)
	}
	for a := t.spent.front(); a != nil; a = t.spent.front() {
		a.at.move(&t.addresses)
	}
	return dst
}

// next returns the next line of this round.
func (t *turns) next() (position.Ref, bool) {
	for a := t.addresses.front(); a != nil; a = t.addresses.front() {
		if line, ok := a.take(t.round); ok {
			a.at.move(&t.addresses)
			return line, true
		}
		a.at.move(&t.spent)
	}
	return position.Ref{}, false
}

func (a *address) take(round uint64) (position.Ref, bool) {
	if a.round != round {
		a.round = round
		for p := a.spent.front(); p != nil; p = a.spent.front() {
			p.at.move(&a.peers)
		}
	}
	for p := a.peers.front(); p != nil; p = a.peers.front() {
		if line, ok := p.take(round); ok {
			p.at.move(&a.peers)
			return line, true
		}
		p.at.move(&a.spent)
	}
	return position.Ref{}, false
}

func (p *peer) take(round uint64) (position.Ref, bool) {
	if p.round != round {
		p.round, p.next = round, p.turns.front()
		if p.next != nil {
			p.line = p.next.first
		}
	}
	for p.next != nil {
		for w := p.next; p.line < len(w.lines); {
			line := p.line
			p.line++
			if !w.kept[line] {
				return w.lines[line], true
			}
		}
		if p.next = p.turns.after(&p.next.at); p.next != nil {
			p.line = p.next.first
		}
	}
	return position.Ref{}, false
}

// A queue is an intrusive doubly linked list. An element is in one queue at a time.
type queue[T any] struct {
	root element[T] // its next is the front
}

type element[T any] struct {
	next, prev *element[T]
	of         T
}

// push appends e, which holds of.
func (q *queue[T]) push(e *element[T], of T) {
	if q.root.next == nil {
		q.root.next, q.root.prev = &q.root, &q.root
	}
	e.of = of
	e.prev, e.next = q.root.prev, &q.root
	e.prev.next, e.next.prev = e, e
}

// remove removes e from its queue.
func (e *element[T]) remove() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// move removes e from its queue and appends it to q.
func (e *element[T]) move(q *queue[T]) {
	e.remove()
	q.push(e, e.of)
}

// front returns the first value, or the zero value if q is empty.
func (q *queue[T]) front() (first T) {
	if q.root.next == nil || q.root.next == &q.root {
		return first
	}
	return q.root.next.of
}

// after returns the value after e, or the zero value if e is the last.
func (q *queue[T]) after(e *element[T]) (next T) {
	if e.next == &q.root {
		return next
	}
	return e.next.of
}
