package journal

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
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
	var lines []byte
	var ends []int
	var sequences []uint64
	merge := func() {
		j.ops = j.ops[:0]
		from := 0
		for i, end := range ends {
			at, err := wire.ParseAT(lines[from : end-1])
			if err != nil {
				refused++
			} else {
				if len(j.ops) < cap(j.ops) {
					j.ops = j.ops[:len(j.ops)+1]
				} else {
					j.ops = append(j.ops, position.Op{})
				}
				j.cfg.Table.PutKeptLine(&j.ops[len(j.ops)-1], lines[from:end], &at, sequences[i])
			}
			from = end
		}
		j.cfg.Table.Apply(time.Now().UnixNano(), position.Source{}, j.ops)
		for i := range j.ops {
			if j.ops[i].Outcome == position.Expired { // S4 clears the journal too
				j.gone.add(j.ops[i].Line, j.ops[i].Sequence())
			}
		}
		j.awaits.merged(j.ops)
		lines, ends, sequences = lines[:0], ends[:0], sequences[:0]
	}
	state, err := j.cfg.Store.Load(ctx, func(e Entry) {
		at, err := wire.ParseAT(e.Value)
		if err != nil || !belongs(e.Key, at.Client) {
			refused++
			return
		}
		entries++
		lines = append(append(lines, e.Value...), '\n')
		ends, sequences = append(ends, len(lines)), append(sequences, e.Sequence)
		if len(ends) == batch {
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
		it.Sequence = held.Sequence
		j.cfg.Table.Expect(it)
		if !ok {
			continue
		}
		line := append(bytes.Clone(held.Value), '\n')
		at, err := wire.ParseAT(held.Value)
		if err != nil || !bytes.Equal(at.Client, it.Client()) {
			continue // it is overwritten
		}
		var op [1]position.Op
		j.cfg.Table.PutKeptLine(&op[0], line, &at, held.Sequence)
		j.cfg.Table.Apply(time.Now().UnixNano(), position.Source{}, op[:])
		j.awaits.merged(op[:])
	}
	return nil
}
