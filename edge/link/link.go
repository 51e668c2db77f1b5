// Package link keeps the neighbours up to date: it decides what each neighbour lacks and when
// to send it (H3–H9, C19).
//
// A link has a sending and a receiving half, which share a clock and a state of health. The
// sending half is a cursor into the table's order of changes: the neighbour lacks what is
// behind the cursor. A start, a restart, a lost message, a lost ack, an outage of the broker
// and a new edge are all handled by moving the cursor back. The receiving half merges the
// neighbour's messages and acknowledges how far it holds the neighbour's stream.
//
// All links of an edge share one goroutine. A change of the table wakes it once for all links,
// and what they send leaves together.
//
// The package knows the table and a Transport per neighbour. It knows nothing of NATS, of
// clients, or of the herd beyond the neighbours.
package link

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"herd/edge/position"
)

// A Message carries lines from one edge to a neighbour (H4).
type Message struct {
	Epoch    string        // of the sender
	To       string        // the receiver's epoch, from its acks; "" before the first
	After    uint64        // the message covers the revisions after this one
	Through  uint64        // … through this one
	Head     uint64        // the sender's newest revision
	Interval time.Duration // heartbeats only: the sender's heartbeat (H8)
	Clock    int64         // heartbeats only: the sender's clock, Unix nanoseconds (H8)
	Level    int           // heartbeats only: how far the sender has joined (H7)
	Bye      bool          // a good-bye: the sender stops (C19)
	Lines    []byte        // AT lines, each with its LF, oldest change first (H2)
}

// An Ack says how far the sender of the ack holds the receiver's stream (H5).
type Ack struct {
	Epoch   string // of the ack's sender
	Of      string // the epoch of the stream that it acknowledges; "": of none yet
	Through uint64 // the sender of the ack holds the stream through this revision
	Rewind  bool   // something after Through is missing: send from there again (H6)
}

// A Transport carries messages and acks to one neighbour. Both methods are called only from the
// goroutine of Links.Run. They must not wait for the neighbour and must not retain their
// argument. If a method returns an error, nothing was sent (H6).
type Transport interface {
	Send(*Message) error
	Ack(Ack) error
}

// A Recorder records what happens on links (C20). It must not block.
type Recorder interface {
	LinkUp(at time.Time, neighbour string)
	LinkDown(at time.Time, neighbour, reason string)
	LinkIn(at time.Time, neighbour string, lines []byte)
	LinkOut(at time.Time, neighbour string, lines []byte)
}

// Config configures a Link. All fields except Wall, Retain, Recorder, Propagated, Changed, Told,
// Joins and Came are required.
type Config struct {
	Neighbour string
	Epoch     string        // of this run of the edge (H3)
	Number    int           // of the neighbour in the table (position.Source)
	Window    int           // the most unacknowledged messages (H5)
	Gap       time.Duration // the least time between two messages with lines, unless full (H5)
	Heartbeat time.Duration
	// MaxBytes returns how many bytes of lines a message may carry. It is called per message.
	// The result may be less than a line, 0 or negative.
	MaxBytes func() int
	Out      Transport
	Log      *slog.Logger

	// Wall returns what this edge's clock shows, and Retain what its retention clock shows
	// (S4), at a time that time.Now returned, in Unix nanoseconds. If nil, that time's own.
	Wall, Retain func(time.Time) int64

	Recorder Recorder
	// Propagated is called per line stored here, with the time since the line's receipt. It is
	// not called while the link catches up.
	Propagated func(time.Duration)
	// Changed is called when a direction of the link has gone up or down; up says whether both
	// are up (H8). It is called without a lock, from the goroutine of Links.Run.
	Changed func(up bool)

	// Joins says that the edge is joining, until SetLevel says otherwise (H7). While it is,
	// Came is called after each message of the neighbour, without a lock.
	Joins bool
	Came  func()
	// Told is called, without a lock, when the neighbour has reported its clock (H8).
	Told func()
}

const (
	missed      = 3                     // heartbeats missed until a direction is down (H6, H8)
	ackDelay    = 10 * time.Millisecond // an ack may wait this long for more messages
	quiet       = 5 * ackDelay          // a message after such a silence is acknowledged at once
	clockLimit  = 5 * time.Second       // a clock that differs by more is logged (H8)
	futureLimit = time.Hour             // lines further ahead of our clock are put off (H9)
)

// A Link is the link to one neighbour. Receive and ReceiveAck are called by the transport: from
// any goroutine, but one call of each at a time. All other methods may be called from any
// goroutine.
type Link struct {
	cfg   Config
	table *position.Table
	kick  chan struct{} // wakes Links.Run

	mu       sync.Mutex // held for a few assignments, never during a merge, a read or a send
	health   health
	send     sender
	receive  receiver
	told     told
	level    int       // how far this edge has joined
	open     bool      // Reconnected was called: this run has the edge's name
	opened   time.Time // when that was first called
	draining bool
	drained  chan struct{} // closed when there is nothing left to send to the neighbour

	ops []position.Op // used by Receive only

	// Used by the goroutine of Links.Run only:
	lines     []byte        // of out
	out       Message       // the message to send; a field so that none is allocated
	hand      position.Hand // for reads of the table
	catchUp   uint64        // revisions through this one do not wait for a gap
	lastLines time.Time     // when a message with lines was last sent
	due       time.Time     // the end of the gap that lines wait for; zero: none wait
	waiting   bool          // there is nothing to send
	waitFor   uint64        // … until there is a revision beyond this one
	lineSize  int           // bytes per line in the last message

	count counters
}

// step does all that is due and returns the latest time for the next call. Only step sends,
// logs and reports: calls from the transport and the edge only note what is to be done. Acks and
// lines that are due by along go now.
func (l *Link) step(now, along time.Time) time.Time {
	l.waiting = false
	if !l.isOpen() {
		return now.Add(l.cfg.Heartbeat)
	}
	next := l.checkSilence(now)
	l.tellHealth(now)
	l.askAgain(now)
	next = earliest(next, l.sendAcks(now, along))
	next = earliest(next, l.sendLines(now, along))
	return earliest(next, l.sendHeartbeat(now))
}

func (l *Link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// earliest returns the earlier of two times. The zero time means none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// isOpen reports whether the link may send. A run that does not have its name yet would be
// mistaken for the run that has it (H10).
func (l *Link) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Reconnected is called each time that the run has its name and its subscriptions are in place.
// Before the first call the link sends nothing. At each call, messages under way may have been
// lost: the link sends an ack that asks for everything after what it holds, and moves its own
// cursor back to the last ack (H6). now is what time.Now returned then.
func (l *Link) Reconnected(now time.Time) {
	l.mu.Lock()
	if !l.open {
		l.open, l.opened = true, now
	}
	s := l.receive.present(l.patience())
	s.ackNow, s.rewind = true, true
	l.send.back()
	l.send.failed = false
	l.mu.Unlock()
	l.wake()
}

// Drain waits until the neighbour has acknowledged everything it lacks, or the out direction is
// down (C19). If ctx ends first, Drain returns its error. Once Drain was called, Links.Run sends
// a good-bye when it ends. Call Drain once, while Links.Run runs.
func (l *Link) Drain(ctx context.Context) error {
	l.mu.Lock()
	l.draining = true
	open := l.open
	l.mu.Unlock()
	if !open {
		return nil
	}
	l.wake()
	select {
	case <-l.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkDrained completes Drain if there is nothing left to send, or nothing can be sent. read
// says that everything the neighbour lacks was read from the table. l.mu is held.
func (l *Link) checkDrained(read bool) {
	if !l.draining || l.health.out.up && !(read && len(l.send.flights) == 0) {
		return
	}
	select {
	case <-l.drained:
	default:
		close(l.drained)
	}
}

// sayBye sends a good-bye if the link drains: this run stops (C19).
func (l *Link) sayBye() {
	m := &l.out
	l.mu.Lock()
	bye := l.draining && l.open
	*m = l.message()
	l.mu.Unlock()
	if !bye {
		return
	}
	m.Head, m.Bye = l.table.Head(), true
	if err := l.give(m); err != nil {
		l.cfg.Log.Debug("send good-bye", "error", err)
	}
}

// give sends a message on the transport, and counts it unless that returns an error.
func (l *Link) give(m *Message) error {
	if err := l.cfg.Out.Send(m); err != nil {
		return err
	}
	l.count.sentMessages.Add(1)
	l.count.sentBytes.Add(uint64(len(m.Lines)))
	return nil
}
