package link

import (
	"context"
	"time"

	"herd/edge/position"
)

// Links are all the links of an edge.
type Links struct {
	table *position.Table
	kick  chan struct{} // a link has something for Run to look at
	links []*Link
}

// NewLinks makes none yet. They will send what is in the table, and merge into it.
func NewLinks(table *position.Table) *Links {
	return &Links{table: table, kick: make(chan struct{}, 1)}
}

// Add makes a Link. Add all before Run; they do nothing until then.
func (ls *Links) Add(cfg Config) *Link {
	l := &Link{
		cfg:      cfg,
		table:    ls.table,
		kick:     ls.kick,
		health:   health{interval: cfg.Heartbeat},
		lineSize: 128,
		handedIt: make(chan struct{}),
	}
	ls.links = append(ls.links, l)
	return l
}

// Run sends, acks and watches on all links until ctx ends. The last act of a link that
// was told to HandOver is a good-bye (C19).
func (ls *Links) Run(ctx context.Context) error {
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
		case <-ls.kick:
		case <-timer.C:
		}
	}
}

// step does all that is due and returns when to look again at the latest.
func (ls *Links) step(now time.Time, reader *position.Reader) time.Time {
	next := now.Add(time.Hour)
	var waiting *Link // who waits for the least
	for _, l := range ls.links {
		next = earliest(next, l.step(now))
		if l.waiting && (waiting == nil || l.waitFor < waiting.waitFor) {
			waiting = l
		}
	}
	if waiting != nil {
		ls.table.Wait(reader, waiting.waitFor)
	}
	return next
}
