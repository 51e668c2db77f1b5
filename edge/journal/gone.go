package journal

import (
	"context"
	"sync"

	"herd/edge/position"
)

// gone are the entries of clients that were forgotten (S4), to be taken out.
type gone struct {
	mu      sync.Mutex
	entries []Entry
}

// Forgotten has the entry of a client taken out of the store: line is the one that was
// forgotten, sequence what is known of its key.
// It is quick, and keeps nothing of line.
func (j *Journal) Forgotten(line []byte, sequence uint64) {
	j.gone.add(line, sequence)
	signal(j.delete)
}

func (g *gone) add(line []byte, sequence uint64) {
	item := position.Item{Line: line}
	e := Entry{Key: string(AppendKey(nil, item.Client())), Expect: sequence}
	g.mu.Lock()
	g.entries = append(g.entries, e)
	g.mu.Unlock()
}

func (g *gone) any() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.entries) > 0
}

// delete takes all of them out; what fails is left for the next time.
func (g *gone) delete(ctx context.Context, s Store) error {
	g.mu.Lock()
	entries := g.entries
	g.entries = nil
	g.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	if err := s.Delete(ctx, entries); err != nil {
		g.mu.Lock()
		g.entries = append(entries, g.entries...)
		g.mu.Unlock()
		return err
	}
	return nil
}
