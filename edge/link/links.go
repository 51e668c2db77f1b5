package link

import (
	"context"
	"runtime"
	"time"

	"herd/edge/position"
)

// Links are all the links of an edge.
type Links struct {
	table *position.Table
	kick  chan struct{} // a link has something for Run to do
	visit chan struct{} // a ComeBy waits for Run
	over  chan struct{} // closed when Run has returned
	links []*Link
	yield func() // lets other goroutines run
}

// NewLinks returns Links without a link. Its links will send what is in the table, and merge
// into it.
func NewLinks(table *position.Table) *Links {
	return &Links{table: table, kick: make(chan struct{}, 1), visit: make(chan struct{}), over: make(chan struct{}), yield: runtime.Gosched}
}

// Add adds a link. All links must be added before Run; they do nothing until then.
func (ls *Links) Add(cfg Config) *Link {
	if cfg.Wall == nil {
		cfg.Wall = time.Time.UnixNano
	}
	if cfg.Retain == nil {
		cfg.Retain = time.Time.UnixNano
	}
	l := &Link{
		cfg:      cfg,
		table:    ls.table,
		kick:     ls.kick,
		health:   health{interval: cfg.Heartbeat},
		lineSize: 128,
		drained:  make(chan struct{}),
	}
	if !cfg.Joins {
		l.level = LevelOpen
	}
	ls.links = append(ls.links, l)
	return l
}

// Run sends lines, acks and heartbeats on all links and watches for silence, until ctx ends. A
// link for which Drain was called then sends a good-bye (C19).
func (ls *Links) Run(ctx context.Context) error {
	defer close(ls.over)
	reader := position.NewReader()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(ls.step(time.Now(), reader)))
		select {
		case <-ctx.Done():
			for _, l := range ls.links {
				l.sayBye()
			}
			return nil
		case <-reader.C:
			ls.yield() // so that changes from the same network read go together (H5)
		case <-ls.kick:
		case <-ls.visit:
		case <-timer.C:
		}
	}
}

// ComeBy returns nil once Run has returned or waits for something to do, which shows that it
// does not hang. If ctx ends first, it returns ctx's error. Run must have been called.
func (ls *Links) ComeBy(ctx context.Context) error {
	select {
	case ls.visit <- struct{}{}:
	case <-ls.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// When the gap of one link ends, the gaps of the edge's other links end too if at most 1/nearBy
// of a gap is left. From then on they end together, so that the edge wakes once for what many
// links send (H5).
const nearBy = 4

// step does all that is due and returns the latest time for the next call.
func (ls *Links) step(now time.Time, reader *position.Reader) time.Time {
	next, along := now.Add(time.Hour), now
	for _, l := range ls.links {
		if !l.due.IsZero() && !l.due.After(now) {
			along = now.Add(l.cfg.Gap / nearBy)
		}
	}
	var waiting *Link // the one that waits for the lowest revision
	for _, l := range ls.links {
		next = earliest(next, l.step(now, along))
		if l.waiting && (waiting == nil || l.waitFor < waiting.waitFor) {
			waiting = l
		}
	}
	if waiting != nil {
		ls.table.Wait(reader, waiting.waitFor)
	}
	return next
}
