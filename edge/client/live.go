package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"time"

	"herd/edge/wire"
)

// WhosAt asks who is near a client: at most limit clients, 0 to 20, within radius kilometres, 0 to
// 50, nearest first (L1). position is the client's own. A field that breaks a rule is a
// *wire.SyntaxError, and nothing is sent; an answer `? ` is a *RefusedError: this edge does not
// know the client, or runs with HERD_LIVE=off.
func (c *Client) WhosAt(ctx context.Context, client string, radius float64, limit int) (position Position, near []Position, err error) {
	line, err := appendCommand([]byte("WHOSAT"), client, kilometres(radius), strconv.Itoa(limit))
	if err != nil {
		return Position{}, nil, err
	}
	if _, err := wire.ParseWHOSAT(line[len("WHOSAT"):]); err != nil {
		return Position{}, nil, err
	}
	answer, err := c.Do(ctx, line)
	if err != nil {
		return Position{}, nil, err
	}
	if text, refused := Refused(answer); refused {
		return Position{}, nil, &RefusedError{string(text)}
	}
	var all []Position
	for line := range bytes.Lines(bytes.TrimSuffix(answer, lineEnd)) {
		one, err := parsePosition(bytes.TrimSuffix(line, lineEnd))
		if err != nil {
			return Position{}, nil, fmt.Errorf("answer: %w", err)
		}
		all = append(all, one)
	}
	return all[0], all[1:], nil // it begins with an AT line, or it would have been out of step
}

func kilometres(radius float64) string { return strconv.FormatFloat(radius, 'f', -1, 64) }

// parsePosition reads an AT line without its LF.
func parsePosition(line []byte) (Position, error) {
	at, err := wire.ParseAT(line)
	if err != nil {
		return Position{}, err
	}
	return positionOf(&at, string(line)), nil
}

// positionOf is the position of an AT line, which its texts share.
func positionOf(at *wire.AT, line string) Position {
	p := Position{Line: line, Time: time.Unix(0, at.Stamp), Skew: time.Duration(at.Receipt - at.Stamp)}
	field := func(from, n int) (text string, end int) { return line[from : from+n], from + n + 1 }
	end := len("AT ")
	p.Edge, end = field(end, len(at.Edge))
	_, end = field(end, len(at.Skew))
	p.Client, end = field(end, len(at.Client))
	p.Location, _ = field(end, len(at.Location))
	return p
}

// What says who is watched (L2).
type What struct{ fields []string }

// OneClient is one client.
func OneClient(id string) What { return What{[]string{id}} }

// Circle is all clients within a radius of a location, in kilometres, 0 to 1000. See Location.
func Circle(location string, radius float64) What {
	return What{[]string{location, kilometres(radius)}}
}

// Box is all clients in a box between two locations. One whose west is east of its east crosses
// the antimeridian.
func Box(southWest, northEast string) What { return What{[]string{southWest, northEast}} }

// Around is all clients within a radius of another as it moves, in kilometres, 0 to 50.
func Around(id string, radius float64) What { return What{[]string{id, kilometres(radius)}} }

// ParseWhat reads what a WATCH has behind its name, one field or two: see What's other makers.
func ParseWhat(fields ...string) (What, error) {
	w := What{fields}
	_, err := w.command()
	return w, err
}

// watchName is the name of a connection's one watch.
const watchName = "w"

// command is the WATCH without its LF.
func (w What) command() ([]byte, error) {
	line, err := appendCommand([]byte("WATCH"), append([]string{watchName}, w.fields...)...)
	if err != nil {
		return nil, err
	}
	_, err = wire.ParseWATCH(line[len("WATCH"):])
	return line, err
}

// An EventKind says what an Event tells.
type EventKind uint8

const (
	In       EventKind = 1 + iota // a client is inside, or came in
	Moved                         // a client that is inside has a newer position
	Out                           // a client is not inside any more
	Complete                      // all who are inside have been told: at the beginning, and after each reconnect
	Lost                          // the connection is lost, and there is no news until the next Complete
)

func (k EventKind) String() string {
	return [...]string{In: "in", Moved: "moved", Out: "out", Complete: "complete", Lost: "lost"}[k]
}

// Why a client is Out.
const (
	Left      = wire.Left      // it is elsewhere
	Forgotten = wire.Forgotten // its position is past HERD_RETAIN (S4)
	Missing   = "missing"      // the edge connected to now does not have it inside
)

// An Event is one thing that a watch tells.
type Event struct {
	Kind     EventKind
	Position Position // In, Moved, Out: the client's newest that was told
	Why      string   // Out: Left, Forgotten, Missing
	Inside   int      // how many clients are inside, this event included
	Addr     string   // of the edge that tells, or was lost
	Err      error    // Lost: why
}

// An EndedError is the end of a watch by the edge (L5).
type EndedError struct{ Reason string }

func (e *EndedError) Error() string { return "the edge ended the watch: " + e.Reason }

// A NoEdgeError is the answer of an address where no edge's client port is: an admin port, say.
type NoEdgeError struct{ Answer string }

func (e *NoEdgeError) Error() string {
	return fmt.Sprintf("this is no edge's client port: it answers %.80q", e.Answer)
}

// Watch tells who is inside an area, and then who comes in, moves and goes, until ctx ends, which
// is the last event's error, or the range over it. It has a connection of its own. Where that breaks, or the edge
// stops, it goes on at the next address and tells what has changed meanwhile (L5): of each client it keeps
// the newer of the positions that it had and that it is told, so nothing is told twice, and no client goes
// back in time. Who is missing there is Out, and may come In again where that edge lags behind.
//
// What cannot go on is the last event's error: a *wire.SyntaxError, and nothing was sent; a *RefusedError,
// where all addresses refuse the watch one after the other (they have HERD_LIVE=off); a *NoEdgeError, where one
// of them is no edge's and the others refuse it too; an *EndedError, where the edge has too many inside.
//
// A range that is slow to take events is told less, and never something wrong (L4).
func (c *Client) Watch(ctx context.Context, what What) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		line, err := what.command()
		if err != nil {
			yield(Event{}, err)
			return
		}
		ctx, cancel := context.WithCancelCause(ctx)
		waiting := make(chan struct{})
		go func() {
			defer close(waiting)
			select {
			case <-c.ended:
				cancel(ErrClosed)
			case <-ctx.Done():
			}
		}()
		defer func() {
			cancel(nil)
			<-waiting
		}()
		w := watching{cfg: &c.cfg, line: line, inside: make(map[string]*member), yield: yield}
		if err := w.run(ctx); !w.left {
			yield(Event{}, err)
		}
	}
}

// watching is a Watch under way.
type watching struct {
	cfg    *Config
	line   []byte
	yield  func(Event, error) bool
	left   bool // the range is over
	inside map[string]*member
	round  uint32 // counts connections

	// Of the present connection.
	addr     string
	heard    bool // it was told something
	complete bool
	err      error // what it was told and cannot go on with
}

// member is a client that is inside.
type member struct {
	position Position
	round    uint32 // of the connection that last told of it
}

// run watches over one connection after the other. The error is why it cannot go on.
func (w *watching) run(ctx context.Context) error {
	wait, failed, refused, lost := leastWait, 0, 0, false
	for at := 0; ; at++ {
		w.addr = w.cfg.Addrs[at%len(w.cfg.Addrs)]
		err := w.connect(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case w.left:
			return nil
		}
		if !final(err) {
			refused = 0
		} else if refused++; refused == len(w.cfg.Addrs) {
			return err
		}
		if ended, ok := errors.AsType[*EndedError](err); ok && ended.Reason != wire.Stopping && ended.Reason != wire.Slow {
			return err
		}
		if w.complete {
			wait, failed, lost = leastWait, 0, false
		}
		if !lost {
			lost = true
			if w.tell(Event{Kind: Lost, Err: err}); w.left {
				return nil
			}
		}
		if failed++; failed%len(w.cfg.Addrs) != 0 {
			continue
		}
		select { // all have been tried
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, mostWait)
	}
}

// final says whether an address would answer the same if it were asked again.
func final(err error) bool {
	_, refuses := errors.AsType[*RefusedError](err)
	_, stranger := errors.AsType[*NoEdgeError](err)
	return refuses || stranger
}

// tell yields an event, unless the range is over.
func (w *watching) tell(e Event) {
	e.Inside, e.Addr = len(w.inside), w.addr
	w.left = w.left || !w.yield(e, nil)
}

// stillEvery is how often an edge says at the latest that watches live (L6).
const stillEvery = 30 * time.Second

// connect watches over one connection, to its end.
func (w *watching) connect(ctx context.Context) error {
	w.heard, w.complete, w.err = false, false, nil
	w.round++
	dialing, cancel := context.WithTimeoutCause(ctx, w.cfg.Timeout, fmt.Errorf("not connected within %v", w.cfg.Timeout))
	nc, err := w.cfg.Dial(dialing, w.addr)
	cancel()
	if err != nil {
		return fmt.Errorf("connect to %s: %w", w.addr, err)
	}
	conn := NewConn(nc, 32<<10)
	defer conn.Close()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		conn.Close()
		close(interrupted)
	})
	defer func() {
		if !stop() {
			<-interrupted
		}
	}()
	conn.OnTold(w.told)
	if err := conn.Send(w.line); err != nil {
		return err
	}
	conn.SetWriteDeadline(time.Now().Add(w.cfg.Timeout))
	if err := conn.Flush(context.Background()); err != nil { // the deadline is its end
		return err
	}
	for {
		limit := w.cfg.Timeout
		if w.complete {
			limit += stillEvery
		}
		conn.SetReadDeadline(time.Now().Add(limit))
		switch err := conn.Fill(); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%s: %w", w.addr, io.ErrUnexpectedEOF)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("%s: nothing told within %v", w.addr, limit)
		case err != nil:
			return fmt.Errorf("%s: %w", w.addr, err)
		}
		answer, err := conn.Next()
		if err == nil && answer != nil {
			err = w.listed(answer)
			for err == nil && w.err == nil && !w.left { // what was told since
				if answer, err = conn.Next(); answer == nil {
					break
				}
			}
		}
		switch {
		case w.left:
			return nil
		case w.err != nil:
			return fmt.Errorf("%s: %w", w.addr, w.err)
		case err != nil:
			return fmt.Errorf("%s: %w", w.addr, err)
		}
	}
}

// listed takes the last line of the list, or what came in its place.
func (w *watching) listed(answer []byte) error {
	if text, refused := Refused(answer); refused {
		return &RefusedError{string(text)}
	}
	told, err := wire.ParseTold(bytes.TrimSuffix(answer, lineEnd))
	switch {
	case err != nil && !w.heard && !bytes.HasPrefix(answer, []byte("! ")):
		return &NoEdgeError{string(answer)}
	case err != nil:
		return err
	case told.Event == wire.EventOff:
		return &EndedError{string(told.Why)}
	}
	w.complete = true
	for id, m := range w.inside {
		if m.round == w.round {
			continue
		}
		delete(w.inside, id)
		if w.tell(Event{Kind: Out, Position: m.position, Why: Missing}); w.left {
			return nil
		}
	}
	w.tell(Event{Kind: Complete})
	return nil
}

// told takes a line that is told.
func (w *watching) told(line []byte) {
	if w.left || w.err != nil {
		return
	}
	told, err := wire.ParseTold(bytes.TrimSuffix(line, lineEnd))
	if err != nil {
		w.err = err
		return
	}
	w.heard = true
	switch told.Event {
	case wire.EventIn, wire.EventAt:
		w.tellInside(&told.AT, told.AT.Line())
	case wire.EventOut:
		w.tellOut(&told.AT, told.AT.Line(), string(told.Why))
	case wire.EventOff:
		w.err = &EndedError{string(told.Why)}
	}
}

// tellInside takes the position of a client that is inside.
func (w *watching) tellInside(at *wire.AT, line string) {
	m := w.inside[string(at.Client)]
	if m == nil {
		m = &member{positionOf(at, line), w.round}
		w.inside[m.position.Client] = m
		w.tell(Event{Kind: In, Position: m.position})
		return
	}
	m.round = w.round
	if newer(at, line, m.position.Line) {
		m.position = positionOf(at, line)
		w.tell(Event{Kind: Moved, Position: m.position})
	}
}

// tellOut takes the position with which a client went.
func (w *watching) tellOut(at *wire.AT, line, why string) {
	m := w.inside[string(at.Client)]
	if m == nil {
		return // it was told before
	}
	delete(w.inside, m.position.Client)
	if newer(at, line, m.position.Line) {
		m.position = positionOf(at, line)
	}
	w.tell(Event{Kind: Out, Position: m.position, Why: why})
}

// newer says whether one AT line is newer than another that was held (S2).
func newer(at *wire.AT, line, held string) bool {
	if line == held {
		return false
	}
	other, err := wire.ParseAT([]byte(held))
	return err != nil || wire.Compare(at, &other, []byte(line), []byte(held)) > 0
}

// Fields is what a WATCH has behind its name. It is not to be changed.
func (w What) Fields() []string { return w.fields }
