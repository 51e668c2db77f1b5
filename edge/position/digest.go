package position

import (
	"encoding/binary"

	"github.com/minio/highwayhash"
)

// DigestKey is how many bytes the key of a digest has.
const DigestKey = highwayhash.Size

// A Digest says how tables are compared: by hashes of their lines, which two edges that have seen
// the same lines share (S2). The key is chosen anew for each comparison, so no client can choose
// an id or a line whose hash hides another.
type Digest struct {
	Key    []byte // DigestKey bytes
	Bits   int    // there are 1<<Bits shards of the clients, by the hash of their ids
	Oldest int64  // records with an older effective time (S2) are left out, in Unix nanoseconds
}

// Shard returns the shard of a client by the hash of its id.
func (d *Digest) Shard(id uint64) int {
	if d.Bits == 0 {
		return 0
	}
	return int(id >> (64 - d.Bits))
}

// An Entry stands for a record: the hash of the client's id, that of its line, and its slot, where
// it stays while the client is known.
type Entry struct {
	ID, Line uint64
	Slot     uint32
}

// EntrySize is how many bytes AppendEntry writes.
const EntrySize = 20

// AppendEntry appends an entry in binary form.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, e.ID)
	dst = binary.LittleEndian.AppendUint64(dst, e.Line)
	return binary.LittleEndian.AppendUint32(dst, e.Slot)
}

// digestStep is how many slots are looked at under one lock, and digestAhead for how many the
// lines are fetched before the first is hashed, so that the processor waits for many at a time.
const (
	digestStep  = 1024
	digestAhead = 32
)

// Digest shows f an entry for each record in some slots from a given one on, at most most, that d does not leave
// out, under one short lock, in which f must not wait nor call methods of the table. It returns
// the slot to go on with; 0 after the last one. A client that is known all the while is met once.
func (t *Table) Digest(d *Digest, from uint32, most int, f func(Entry)) (next uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from >= t.records.used {
		return 0
	}
	end := min(t.records.used, from+uint32(max(0, min(most, digestStep))))
	sum := t.fetched
	var slots [digestAhead]uint32
	for from < end {
		n := 0
		for ; from < end && n < digestAhead; from++ {
			if r := t.records.at(from); r.revision != 0 && r.effective >= d.Oldest && r.effective >= 0 {
				slots[n] = from
				n++
				line := t.line(r)
				sum += uint64(line[0]) + uint64(line[len(line)-1])
			}
		}
		for _, slot := range slots[:n] {
			r := t.records.at(slot)
			line := t.line(r)
			f(Entry{
				ID:   highwayhash.Sum64(line[r.clientAt:int(r.clientAt)+int(r.clientLen)], d.Key),
				Line: highwayhash.Sum64(line, d.Key), Slot: slot,
			})
		}
	}
	t.fetched = sum
	if end >= t.records.used {
		return 0
	}
	return end
}
