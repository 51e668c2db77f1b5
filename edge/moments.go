package edge

import (
	"context"
	"slices"
	"sync"
	"time"
)

// moments remember when an edge had which revision, so that it can be told about when a record
// changed (H3). Nothing is added to an update's way: the table's head is looked at once a second.
// Their number is bounded: where there are too many, every second one of the older half goes, so
// what is long ago is known less precisely.
type moments struct {
	mu  sync.Mutex
	all []moment // rising
}

// A moment is when an edge's newest revision was this one.
type moment struct {
	revision uint64
	at       time.Time
}

const (
	momentEvery = time.Second
	momentsMost = 4096 // 128 KiB
)

// note remembers a moment. While nothing changes it only moves the last one, so that a quiet night
// takes no room.
func (m *moments) note(revision uint64, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.all)
	if n > 1 && m.all[n-1].revision == revision && m.all[n-2].revision == revision {
		m.all[n-1].at = at
		return
	}
	if n == momentsMost {
		kept := m.all[:0]
		for i, old := range m.all {
			if i >= momentsMost/2 || i%2 == 0 {
				kept = append(kept, old)
			}
		}
		m.all = kept
	}
	m.all = append(m.all, moment{revision, at})
}

// of returns two moments between which a revision came to be; zero where that is not known.
func (m *moments) of(revision uint64) (after, before time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, _ := slices.BinarySearchFunc(m.all, revision, func(m moment, r uint64) int {
		if m.revision < r {
			return -1
		}
		return 1 // of equal ones the first
	})
	if i < len(m.all) {
		before = m.all[i].at
	}
	if i > 0 {
		after = m.all[i-1].at
	}
	return after, before
}

// noteMoments runs until ctx ends.
func (e *Edge) noteMoments(ctx context.Context) error {
	tick := time.NewTicker(momentEvery)
	defer tick.Stop()
	for {
		e.moments.note(e.table.Head(), time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
