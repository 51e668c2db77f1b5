package journal_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/edge/position"
)

// C18: connections that wait for as many lines as they can delay no other by more than a turn,
// from whatever addresses they come.
func TestPromisesAreKeptByTurns(t *testing.T) {
	const greedyConns, each = 20, 2000
	greedyAddress, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for name, good := range map[string]journal.Peer{
		"C18 one of another address":      {Address: other, Conn: greedyConns + 1},
		"C18 another of the same address": {Address: greedyAddress, Conn: greedyConns + 1},
	} {
		bubble(t, name, func(t *testing.T, s *storetest.Fake) {
			s.Cost(10*time.Millisecond, 20*time.Microsecond) // 30 ms for a full batch, 15 for a turn
			r := start(t, s, with{})
			<-r.j.Loaded()
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			ids := make(chan int)
			all.Go(func() {
				for i := 0; ; i++ {
					select {
					case ids <- i:
					case <-ctx.Done():
						close(ids)
						return
					}
				}
			})
			for conn := range uint64(greedyConns) {
				all.Go(func() { // always waits for as many lines as it can
					for ctx.Err() == nil {
						var lines []position.Ref
						for range each {
							op := r.own(fmt.Sprint("greedy", <-ids), 1)
							lines = append(lines, position.Ref{Slot: op.Slot, Revision: op.Revision})
						}
						_ = r.j.Await(ctx, journal.Peer{Address: greedyAddress, Conn: conn}, lines)
					}
				})
			}
			pass(time.Second)
			for i := range 20 {
				begun := time.Now()
				op := r.own("kiwi", i+1)
				if err := r.j.Await(t.Context(), good, []position.Ref{{Slot: op.Slot, Revision: op.Revision}}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > 60*time.Millisecond {
					t.Errorf("C18 an answer waited %v", took)
				}
				pass(7 * time.Millisecond)
			}
			stop()
			all.Wait()
		})
	}
}
