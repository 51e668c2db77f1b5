package edge

import (
	"sync/atomic"

	"herd/broker"
	"herd/edge/wire"
)

// mostBytes is how many bytes of lines a link's message carries at most (H5).
const mostBytes = 64 << 10

// messageBytes is how many bytes of lines a link's message may carry now: less where the
// broker's max_payload is, even less than a line. Then links pass the lines that do not fit.
func (e *Edge) messageBytes() int {
	most := mostBytes
	if payload := e.conn.MaxPayload(); payload > 0 {
		most = min(most, payload-broker.HeaderRoom)
	}
	e.shortest.lower(most)
	return most
}

// shortest is the least that messages could carry since all that did not fit was told anew;
// wire.MaxAT where every line fitted.
type shortest struct{ atomic.Int64 }

func (s *shortest) lower(most int) {
	for {
		was := s.Load()
		if int64(most) >= was || s.CompareAndSwap(was, int64(most)) {
			return
		}
	}
}

// tellAnew has the links send what they had to pass, where messages carry more by now.
func (e *Edge) tellAnew() {
	most := min(e.messageBytes(), wire.MaxAT)
	least := int(e.shortest.Swap(int64(most)))
	if most <= least {
		return
	}
	const step = 4096 // slots looked at under one lock
	for slot, end := uint32(0), false; !end; {
		slot, end = e.table.Again(least, slot, step)
	}
	e.log.Info("lines that were too long for the broker's messages go now", "longer_than", least)
}
