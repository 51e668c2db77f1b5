// Package link keeps one neighbour up to date: it knows who lacks what, and
// when to send it (H3–H9, C19).
//
// A link is two halves that share a clock and a state of health. The sending
// half is a cursor into the table's order of changes: what the neighbour lacks
// is what is behind the cursor, and a start, a restart, a lost message, a lost
// ack, an outage of the broker and a new edge are all "move the cursor back". The
// receiving half merges what follows and says how far it holds the neighbour's
// stream.
//
// All links of an edge share one goroutine: a change of the table wakes it once for all
// of them, and what they have to say leaves together.
//
// The package knows the table and a Transport to each neighbour. It knows nothing
// of NATS, of clients, or of the herd beyond the neighbours.
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
	Epoch    string        // the sender's
	To       string        // the receiver's, as its acks tell it; "" before they do
	After    uint64        // the message runs from behind this revision
	Through  uint64        // to this one
	Head     uint64        // the sender's newest revision
	Interval time.Duration // heartbeats only: the sender's heartbeat (H8)
	Clock    int64         // heartbeats only: the sender's clock, Unix nanoseconds (H8)
	Bye      bool          // the sender stops (C19)
	Lines    []byte        // AT lines, each with its LF, oldest change first (H2)
}

// An Ack says how far the sender of the ack holds the receiver's stream (H5).
type Ack struct {
	Epoch   string // of who acks
	Of      string // the epoch of the stream that it follows; "" where it follows none yet
	Through uint64 // it holds the stream through this revision
	Rewind  bool   // go on from there: something is missing (H6)
}

// A Transport carries messages and acks to the neighbour. Both calls come from
// the goroutine of Links.Run alone and must not wait for the neighbour; neither keeps
// its argument. A call that errs did not happen (H6).
type Transport interface {
	Send(*Message) error
	Ack(Ack) error
}

// A Recorder writes down what happens on links (C20). It must not block.
type Recorder interface {
	LinkUp(at time.Time, neighbour string)
	LinkDown(at time.Time, neighbour, reason string)
	LinkIn(at time.Time, neighbour string, lines []byte)
	LinkOut(at time.Time, neighbour string, lines []byte)
}

// Config is what a Link is made with. All fields but Recorder, Propagated and
// Changed are required.
type Config struct {
	Neighbour string
	Epoch     string        // of this run of the edge (H3)
	Holder    int           // the neighbour's number in the table (position.Source)
	Window    int           // messages unacknowledged at most (H5)
	Linger    time.Duration // how long less than a full message waits for more (H5)
	Heartbeat time.Duration
	// MaxBytes is how many bytes of lines a message may carry; asked for each.
	MaxBytes func() int
	Out      Transport
	Log      *slog.Logger

	Recorder Recorder
	// Propagated is told how long after its receipt each line was stored here,
	// but while the link catches up.
	Propagated func(time.Duration)
	// Changed is called, without a lock, when the link goes up or down.
	Changed func(up bool)
}

// goodBye is why a link goes down when the neighbour stops in order.
const goodBye = "good-bye"

const (
	missed      = 3                     // silent heartbeats that make a link down, and a stall (H6, H8)
	ackDelay    = 10 * time.Millisecond // an ack may wait this long for more to acknowledge
	ackLinger   = 10                    // … or so many times as long as the link lingers
	quiet       = 5 * ackDelay          // a message after such a silence is acknowledged at once
	clockLimit  = 5 * time.Second       // a clock further off than this is logged (H8)
	futureLimit = time.Hour             // a receipt further ahead than this is refused (H9)
)

// A Link is one neighbour. Receive and ReceiveAck belong to the transport's
// goroutine or goroutines, one call of each at a time; all other methods may be called
// from any goroutine.
type Link struct {
	cfg   Config
	table *position.Table
	kick  chan struct{} // something for Links.Run to look at

	mu       sync.Mutex // held for a few assignments; never over a merge, a read or a send
	health   health
	send     sender
	receive  receiver
	open     bool // Reconnected was called: the edge's name is its own
	holding  bool
	handing  bool
	handedIt chan struct{} // closed when handing over is complete

	ops       []position.Op // Receive's own
	lines     []byte        // of Links.Run, as is
	lingering time.Time     // of Links.Run: when what is behind the cursor must go; zero: nothing waits
	waiting   bool          // of Links.Run: there is nothing to send
	waitFor   uint64        // of Links.Run: before there is a revision beyond this one
	lineSize  int           // of Links.Run: bytes of a line, as the last message had it
	count     counters
}

// health is what is known of the neighbour being there (H8).
type health struct {
	up       bool
	heard    time.Time     // the last sign of life
	epoch    string        // of the run that gave it
	gone     string        // the epoch that said good-bye: what still comes from it is no sign of life
	interval time.Duration // the neighbour's heartbeat
	clock    time.Duration // its clock less ours
	clockOff bool          // logged as such
}

// step does all that is due and returns when to look again at the latest.
func (l *Link) step(now time.Time) time.Time {
	l.waiting = false
	if !l.isOpen() {
		return now.Add(l.cfg.Heartbeat)
	}
	l.checkSilence(now)
	next := l.sendAck(now)
	next = earliest(next, l.sendLines(now))
	next = earliest(next, l.sendHeartbeat(now))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.health.up {
		next = earliest(next, l.health.heard.Add(missed*l.health.interval))
	}
	return next
}

func (l *Link) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// earliest returns the earlier of two times, where the zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// alive notes a sign of life from a run of the neighbour and says whether the
// link went up with it; l.mu is held.
func (l *Link) alive(now time.Time, epoch string) (up bool) {
	h := &l.health
	if epoch == h.gone {
		return false
	}
	h.heard, h.epoch, h.gone = now, epoch, ""
	if h.up {
		return false
	}
	h.up = true
	l.receive.live = false
	l.send.lastSend = time.Time{} // a sign of life in return, at once
	return true
}

// wentUp tells the world; l.mu is not held.
func (l *Link) wentUp(now time.Time) {
	l.cfg.Log.Info("link up")
	if l.cfg.Recorder != nil {
		l.cfg.Recorder.LinkUp(now, l.cfg.Neighbour)
	}
	if l.cfg.Changed != nil {
		l.cfg.Changed(true)
	}
	l.wake()
}

// checkSilence takes the link down after three missed heartbeats (H8).
func (l *Link) checkSilence(now time.Time) {
	l.mu.Lock()
	silent := now.Sub(l.health.heard)
	down := l.health.up && silent >= missed*l.health.interval
	if down {
		l.down()
	}
	l.mu.Unlock()
	if down {
		l.wentDown(now, "silent", slog.Duration("silent", silent))
	}
}

// down makes the link one that sends heartbeats only, from the last ack on;
// l.mu is held.
func (l *Link) down() {
	l.health.up = false
	l.send.back()
}

// wentDown tells the world; l.mu is not held.
func (l *Link) wentDown(now time.Time, reason string, attrs ...slog.Attr) {
	l.count.downs.Add(1)
	level := slog.LevelWarn
	if reason == goodBye {
		level = slog.LevelInfo
	}
	l.cfg.Log.LogAttrs(context.Background(), level, "link down", append(attrs, slog.String("reason", reason))...)
	if l.cfg.Recorder != nil {
		l.cfg.Recorder.LinkDown(now, l.cfg.Neighbour, reason)
	}
	if l.cfg.Changed != nil {
		l.cfg.Changed(false)
	}
	l.wake()
}

// isOpen says whether the link may speak: a run that has not got its name yet would be
// taken for the one that has (H10).
func (l *Link) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Reconnected is called when the edge's name is its own and its subscriptions are there,
// or there again: before the first call the link says nothing at all, and at each
// what was on its way may be lost. The link acks unasked, asking for all behind
// what it holds, and moves its own cursor back to the last ack (H6).
func (l *Link) Reconnected() {
	l.mu.Lock()
	l.open = true
	l.receive.ackNow, l.receive.rewind = true, true
	l.send.back()
	l.send.failed = false
	l.mu.Unlock()
	l.wake()
}

// Hold keeps the link's own lines back, heartbeats and acks excepted, while the edge
// joins: what it has then, its neighbours have or are about to send, and it would go
// back to them for nothing (H4, H7).
func (l *Link) Hold(on bool) {
	l.mu.Lock()
	l.holding = on
	l.mu.Unlock()
	l.wake()
}

// HandOver waits until the neighbour has acknowledged all that it lacks, or the
// link is down, or ctx ends (C19); only then it errs. From then on Links.Run ends
// with a good-bye. Call it once, while that runs.
func (l *Link) HandOver(ctx context.Context) error {
	l.mu.Lock()
	l.handing = true
	open := l.open
	l.mu.Unlock()
	if !open {
		return nil
	}
	l.wake()
	select {
	case <-l.handedIt:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkHandedOver completes HandOver when nothing is owed any more; l.mu is held.
// read says that nothing that the neighbour lacks is unread.
func (l *Link) checkHandedOver(read bool) {
	if !l.handing || l.health.up && !(read && len(l.send.flights) == 0) {
		return
	}
	select {
	case <-l.handedIt:
	default:
		close(l.handedIt)
	}
}

// sayBye tells the neighbour that this run stops (C19).
func (l *Link) sayBye() {
	l.mu.Lock()
	bye, m := l.handing && l.open, l.message()
	l.mu.Unlock()
	if !bye {
		return
	}
	m.Through, m.Bye = m.After, true
	if err := l.cfg.Out.Send(&m); err != nil {
		l.cfg.Log.Debug("say good-bye", "error", err)
	}
}
