package verify

import (
	"encoding/binary"
	"errors"
	"runtime"

	"herd/edge/position"
	"herd/edge/wire"
)

// smallest is the least that an answer may hold, whatever the broker takes.
const smallest = 8 << 10

// Answer answers a question about a table. state is how the edge is, taken before: what a neighbour
// had acknowledged by then, it holds. An answer takes no more than state.Largest bytes as JSON, and no more time than
// it takes to look at a million records. It looks in steps under short locks. The error says
// what is wrong with the question.
func Answer(q *Question, table *position.Table, state State) (*Reply, error) {
	r := &Reply{State: state}
	room := max(state.Largest, smallest)*3/4 - 2048 // bytes of base64, beside the rest
	switch q.Ask {
	case AskState:
		return r, nil
	case AskSums, AskList:
		return r, r.digest(q, table, room)
	case AskSlots, AskClients:
		return r, r.lookUp(q, table, room)
	default:
		return nil, errors.New("ask is none of state, sums, list, slots, clients")
	}
}

func (r *Reply) digest(q *Question, table *position.Table, room int) error {
	switch {
	case len(q.Key) != position.DigestKey:
		return errors.New("the key does not have 32 bytes")
	case q.Bits < 0 || q.Bits > MaxBits:
		return errors.New("bits is not 0 to 16")
	case q.Ask == AskSums && 8<<q.Bits > room:
		return errors.New("an answer has no room for so many shards")
	}
	d := q.digest()
	if q.Ask == AskSums {
		sums := make([]uint64, 1<<q.Bits)
		r.steps(q.From, func(from uint32) uint32 {
			return table.Digest(d, from, maxSlots, func(e position.Entry) {
				sums[d.Shard(e.ID)] += e.Line
				r.Records++
			})
		}, func() bool { return true })
		for _, sum := range sums {
			r.Sums = binary.LittleEndian.AppendUint64(r.Sums, sum)
		}
		return nil
	}
	left := func() int { return (room - len(r.Entries)) / position.EntrySize }
	r.steps(q.From, func(from uint32) uint32 {
		return table.Digest(d, from, left(), func(e position.Entry) {
			if q.wants(d.Shard(e.ID)) {
				r.Entries = position.AppendEntry(r.Entries, e)
			}
		})
	}, func() bool { return left() > 0 })
	return nil
}

// steps takes steps from a slot on until the last slot, or until so many were looked at that the
// rest is another question's.
func (r *Reply) steps(from uint32, step func(from uint32) (next uint32), more func() bool) {
	r.Next = from
	for {
		r.Next = step(r.Next)
		if r.Next == 0 || r.Next-from >= maxSlots || !more() {
			return
		}
		runtime.Gosched() // to those who wait for the table
	}
}

// lookUp answers for slots or clients, a few under one lock.
func (r *Reply) lookUp(q *Question, table *position.Table, room int) error {
	n := len(q.Slots)
	if q.Ask == AskClients {
		n = len(q.Clients)
	}
	if n > MaxRecords {
		return errors.New("more than 1024 records")
	}
	const few = 64
	for i := 0; i < n && room > 0; i += few {
		table.View(func(v position.View) {
			for j := i; j < min(i+few, n) && room > 0; j++ {
				h := Held{}
				var rec position.Record
				known := false
				if q.Ask == AskClients {
					rec, known = v.Find(q.Clients[j])
				} else {
					rec, known = v.At(q.Slots[j])
				}
				if known {
					h.Line = append(h.Line, wire.TrimEnd(rec.Line())...)
					h.Revision = rec.Revision()
					if q.Ask == AskSlots {
						h.Client = append(h.Client, rec.Client()...)
					}
				}
				// The names of the fields, and the number, are not in base64: they take 60 bytes.
				if room -= len(h.Line) + len(h.Client) + 60; room > 0 || len(r.Held) == 0 {
					r.Held = append(r.Held, h)
				}
			}
		})
	}
	return nil
}
