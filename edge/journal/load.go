package journal

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"herd/edge/position"
)

// load merges the whole store into the table (D2) and puts the cursor back to 0:
// what the store holds already is not written again, all else is.
func (j *Journal) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	start := time.Now()
	j.cfg.Table.Unkeep()
	const batch = 512
	var entries, refused int
	var room []byte // the lines of a batch; whole before it goes on
	j.ops = j.ops[:0]
	merge := func() {
		j.cfg.Table.Apply(time.Now().UnixNano(), position.Source{}, j.ops)
		for i := range j.ops {
			if j.ops[i].Outcome == position.Expired { // S4 clears the journal too
				j.gone.add(j.ops[i].Line, j.ops[i].Sequence())
			}
		}
		j.awaits.merged(j.ops)
		room, j.ops = room[:0], j.ops[:0]
	}
	state, err := j.cfg.Store.Load(ctx, func(e Entry) {
		start := len(room)
		room = append(append(room, e.Value...), '\n') // where it moves, the lines before stay as they were
		op := j.op()
		client, err := j.cfg.Table.PutKeptLine(op, room[start:], e.Sequence)
		if err != nil || !belongs(e.Key, client) {
			refused++
			room, j.ops = room[:start], j.ops[:len(j.ops)-1]
			return
		}
		if entries++; len(j.ops) == batch {
			merge()
		}
	})
	if err != nil {
		return fmt.Errorf("load the journal: %w", err)
	}
	merge()
	j.state = state
	j.cursor.Store(0)
	j.cfg.Log.Info("journal loaded", "clients", entries, "took", time.Since(start))
	if refused > 0 {
		j.cfg.Log.Warn("entries of the journal's store that are no lines of ours", "count", refused)
	}
	select {
	case <-j.loaded:
	default:
		close(j.loaded)
	}
	return nil
}

// mend reads the keys of a write that was refused, merges what the store holds, and
// lets the next write expect what is there (D5).
func (j *Journal) mend(ctx context.Context) error {
	for i := range j.items {
		it := &j.items[i]
		held, ok, err := j.cfg.Store.Get(ctx, j.entries[i].Key)
		if err != nil {
			return fmt.Errorf("read what the journal holds: %w", err)
		}
		if held.Sequence == it.Sequence {
			continue // not the one that was refused
		}
		if held.Sequence < it.Sequence {
			return errGoneBack
		}
		it.Sequence = held.Sequence
		j.cfg.Table.Expect(it)
		if !ok {
			continue
		}
		j.ops = j.ops[:0]
		client, err := j.cfg.Table.PutKeptLine(j.op(), append(bytes.Clone(held.Value), '\n'), held.Sequence)
		if err != nil || !bytes.Equal(client, it.Client()) {
			continue // it is overwritten
		}
		j.cfg.Table.Apply(time.Now().UnixNano(), position.Source{}, j.ops)
		j.awaits.merged(j.ops)
	}
	return nil
}

// op makes room for one more operation.
func (j *Journal) op() *position.Op {
	if len(j.ops) < cap(j.ops) {
		j.ops = j.ops[:len(j.ops)+1]
	} else {
		j.ops = append(j.ops, position.Op{})
	}
	return &j.ops[len(j.ops)-1]
}
