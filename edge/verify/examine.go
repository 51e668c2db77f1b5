package verify

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"herd/edge/wire"
)

const (
	lookFirst = 50 * time.Millisecond // between looks, twice as long each time
	lookLast  = 500 * time.Millisecond

	// confirm is for how long a loss must show.
	confirm = 500 * time.Millisecond

	// futureMost is how far ahead of an edge's clock a line may count, before it is put off (H9).
	futureMost = time.Hour

	// questionMost is how many bytes of ids go into one question: the least that a broker takes
	// for a link's messages is four times as much (H5).
	questionMost = 8 << 10
)

// A suspect is a client that seemed to differ.
type suspect struct {
	client []byte
	line   []byte // the newest that any edge held at the first look; an edge that holds it, or a newer one, is right
	at     string // which edge held it
	since  time.Time
	lost   map[string]loss // edges that lack it, though they said that they hold it
	over   bool
}

// A loss is an acknowledged line that an edge does not hold.
type loss struct {
	by    string
	since time.Time
}

// A sight is what one look at a member showed of the suspects of a chunk, by their number. acked is the
// member's state, taken before.
type sight struct {
	state State
	held  []Held
}

// holds reports whether a member holds a suspect's line or a newer one.
func (s *sight) holds(i int, line []byte) bool { return !newer(line, s.held[i].Line) }

// examine looks at suspects until each is cleared or is known to differ.
func (r *run) examine(ctx context.Context, suspects []*suspect) error {
	var before map[string]*sight
	for pause := lookFirst; len(suspects) > 0 && len(r.members) > 1; pause = min(2*pause, lookLast) {
		now := time.Now()
		sights, err := r.look(ctx, suspects)
		if err != nil {
			return err
		}
		kept := make([]int, 0, len(suspects))
		for i, s := range suspects {
			if r.judge(s, i, before, sights, now); !s.over {
				kept = append(kept, i)
			}
		}
		if len(r.differences) >= differencesMost {
			r.unexamined += len(kept)
			return nil
		}
		// The next look is at those that are left.
		for i, at := range kept {
			suspects[i] = suspects[at]
			for _, s := range sights {
				s.held[i] = s.held[at]
			}
		}
		suspects, before = suspects[:len(kept)], sights
		if len(suspects) == 0 {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// look asks all members what they hold of suspects.
func (r *run) look(ctx context.Context, suspects []*suspect) (map[string]*sight, error) {
	sights := map[string]*sight{}
	for _, m := range r.members {
		sights[m.name] = &sight{}
	}
	r.each(ctx, func(ctx context.Context, m *member) error {
		s := sights[m.name]
		for at := 0; at < len(suspects); {
			q := &Question{Ask: AskClients}
			for size := 0; at+len(q.Clients) < len(suspects) && len(q.Clients) < MaxRecords; {
				id := suspects[at+len(q.Clients)].client
				if size += len(id) + 4; size > questionMost && len(q.Clients) > 0 {
					break
				}
				q.Clients = append(q.Clients, id)
			}
			reply, err := r.ask(ctx, m, q)
			if err != nil {
				return err
			}
			if len(reply.Held) == 0 || len(reply.Held) > len(q.Clients) {
				return errReply
			}
			if at == 0 { // the least that any of the answers' states says was acknowledged
				s.state = reply.State
			}
			s.held = append(s.held, reply.Held...)
			at += len(reply.Held)
		}
		return nil
	})
	for name := range sights {
		if !slices.ContainsFunc(r.members, func(m *member) bool { return m.name == name }) {
			delete(sights, name)
		}
	}
	return sights, ctx.Err()
}

// judge decides what a look says about a suspect, the one with number i in both looks.
func (r *run) judge(s *suspect, i int, before, sights map[string]*sight, now time.Time) {
	if s.line == nil {
		for name, sight := range sights {
			if line := sight.held[i].Line; newer(line, s.line) || bytes.Equal(line, s.line) && name < s.at {
				s.line, s.at = line, name
			}
		}
		s.since = now
	}
	at, err := wire.ParseAT(s.line)
	effective := wire.Effective(at.Stamp, at.Receipt)
	if err != nil || effective < r.oldest { // forgotten everywhere meanwhile, or about to be
		s.over = true
		return
	}
	lacking, confirmed := 0, 0
	lost := map[string]loss{}
	for name, sight := range sights {
		if sight.holds(i, s.line) {
			continue
		}
		lacking++
		by := claimed(name, sight.state.Epoch, s.line, i, before)
		if by == "" {
			continue
		}
		l, known := s.lost[name]
		if !known {
			l = loss{by, now}
		}
		lost[name] = l
	}
	s.lost = lost
	for name := range lost {
		if s.confirmed(name, now) {
			confirmed++
		}
	}
	// While a loss is being confirmed, the rest can wait.
	late := now.Sub(s.since) >= r.cfg.Wait && (len(lost) == confirmed || now.Sub(s.since) >= 2*r.cfg.Wait)
	if lacking == 0 || confirmed == 0 && !late {
		s.over = lacking == 0
		return
	}
	s.over = true
	var stuck map[string]bool
	if confirmed > 0 {
		stuck = s.stuck(i, sights, now)
	}
	for name, sight := range sights {
		if sight.holds(i, s.line) {
			continue
		}
		d := Difference{Client: s.client, Edge: name, Kind: Late, Held: string(sight.held[i].Line), Newest: string(s.line), At: s.at}
		switch {
		case effective-sight.state.Now > int64(futureMost):
			d.Kind = PutOff
		case s.confirmed(name, now):
			d.Kind, d.By = Lost, s.lost[name].by
		case stuck[name]:
			d.Kind = Lost
		case !late:
			continue // it may be on its way
		}
		r.differences = append(r.differences, d)
	}
}

// claimed returns a neighbour that held a line, or a newer one, at the look before, and to which an
// edge had acknowledged it by then in the run that it still is; "" if there is none. What is
// acknowledged is held, so the edge must hold it by now.
func claimed(edge, epoch string, line []byte, i int, before map[string]*sight) string {
	by := ""
	for name, sight := range before {
		if i >= len(sight.held) || !sight.holds(i, line) {
			continue
		}
		for _, l := range sight.state.Links {
			if l.Neighbour == edge && l.Epoch == epoch && l.Acked >= sight.held[i].Revision && (by == "" || name < by) {
				by = name
			}
		}
	}
	return by
}

// confirmed reports whether it shows for long enough that an edge lost the line.
func (s *suspect) confirmed(edge string, now time.Time) bool {
	l, known := s.lost[edge]
	return known && now.Sub(l.since) >= confirm
}

// stuck returns the edges that lack the line because it would have to come through one that lost
// it: all their neighbours lost it, or are such edges themselves.
func (s *suspect) stuck(i int, sights map[string]*sight, now time.Time) map[string]bool {
	stuck := map[string]bool{}
	for name, sight := range sights {
		stuck[name] = !sight.holds(i, s.line) && !s.confirmed(name, now) && len(sight.state.Links) > 0
	}
	for again := true; again; {
		again = false
		for name := range stuck {
			for _, l := range sights[name].state.Links {
				if stuck[name] && !stuck[l.Neighbour] && !s.confirmed(l.Neighbour, now) {
					stuck[name], again = false, true
				}
			}
		}
	}
	return stuck
}

// newer reports whether a line is newer than another (S2). Each may be empty, which is older than
// any.
func newer(line, than []byte) bool {
	switch {
	case bytes.Equal(line, than), len(line) == 0:
		return false
	case len(than) == 0:
		return true
	}
	a, errA := wire.ParseAT(line)
	b, errB := wire.ParseAT(than)
	switch {
	case errA != nil:
		return false
	case errB != nil:
		return true
	}
	return wire.Compare(&a, &b, line, than) > 0
}

// text returns bytes as text for JSON, and what they were where they are not UTF-8.
func text(b []byte) (valid string, raw []byte) {
	if utf8.Valid(b) {
		return string(b), nil
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), b
}
