package journal

import (
	"encoding/binary"
	"sync"

	"herd/edge/position"
)

// goneMost bounds the bytes of client ids whose entries are to be deleted.
const goneMost = 8 << 20

// gone holds the clients that were forgotten (S4) and whose entries are to be deleted, in the
// order in which they were forgotten. An id takes its length and one or two bytes. All entries
// of the store may expire together, as after a night in which the herd was off, so the bytes
// are bounded. An id for which there is no room is not lost: the table keeps the client
// (position.Table.Forget), or its entry is read again from the store (machine.rescan).
//
// An id needs no sequence. A deletion expects the store's last sequence, so this run has read
// all that the store holds, and an entry may be deleted if the table holds no line for it. A
// client that came back is never deleted, however often it came and went.
type gone struct {
	mu   sync.Mutex
	ids  []byte // per client: the length as a uvarint, then the id
	from int    // where the first id begins in ids
}

// add appends an id. It returns false if there is no room.
func (g *gone) add(client []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ids)-g.from+len(client) > goneMost {
		return false
	}
	if g.from > len(g.ids)/2 {
		g.ids = g.ids[:copy(g.ids, g.ids[g.from:])]
		g.from = 0
	}
	g.ids = append(binary.AppendUvarint(g.ids, uint64(len(client))), client...)
	return true
}

// take removes up to n ids and appends them to dst, each with its length.
func (g *gone) take(dst []byte, n int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	begin := g.from
	for ; n > 0 && g.from < len(g.ids); n-- {
		_, g.from = nextID(g.ids, g.from)
	}
	dst = append(dst, g.ids[begin:g.from]...)
	if g.from == len(g.ids) {
		g.ids, g.from = nil, 0
	}
	return dst
}

// clear drops all ids: the store is read anew.
func (g *gone) clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ids, g.from = nil, 0
}

// nextID returns the id whose length begins at an offset, and the offset of the next one.
func nextID(ids []byte, at int) (id []byte, next int) {
	n, size := binary.Uvarint(ids[at:])
	at += size
	return ids[at : at+int(n)], at + int(n)
}

// Forgotten queues the deletion of a client's entry; line is the client's line. It does not
// block and does not retain line. It returns false if too many deletions wait already: the
// caller must then keep the client and forget it later.
func (j *Journal) Forgotten(line []byte) bool {
	if !j.gone.add(position.ClientOf(line)) {
		return false
	}
	signal(j.delete)
	return true
}
