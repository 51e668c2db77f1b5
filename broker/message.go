package broker

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// A Message carries AT lines from an edge to its neighbour (H2, H4). Without lines it is a
// heartbeat (H8).
type Message struct {
	Epoch                string        // epoch of the sender (H3)
	To                   string        // epoch of the receiver, learned from its acks; "" while unknown
	After, Through, Head uint64        // the receiver checks their order (H9)
	Interval             time.Duration // of the sender's heartbeats, 10ms to 24h; 0 if not given
	Clock                int64         // the sender's clock, Unix ns; 0 if not given
	Level                int           // heartbeats only: how far the sender has joined (H7)
	Bye                  bool          // the sender stops, so the link is down at once (C19)
	Lines                []byte        // AT lines, each with its LF
}

// An Ack says how much an edge has of its neighbour's stream (H5).
type Ack struct {
	Epoch   string // epoch of the edge that acks
	Of      string // epoch of the stream that it follows; "" if it follows none yet
	Through uint64
	Rewind  bool // a message is missing: continue after Through (H6)
}

// A Join is a neighbour's answer to an edge that starts (H7).
type Join struct {
	Epoch  string
	Head   uint64
	Level  int    // how far the neighbour itself has joined
	Config string // hash of the settings that must be the same in the whole herd; differs during a rolling change
}

// How far an edge has joined (H7): a level counts up from 0 while it joins. These are the
// values when its client port is open, and when it has been open for a while.
const (
	LevelOpen    = 1 << 30
	LevelSettled = 1<<30 + 1

	levelOpen    = "open"
	levelSettled = "settled"
)

func levelText(level int) string {
	switch level {
	case LevelOpen:
		return levelOpen
	case LevelSettled:
		return levelSettled
	}
	return strconv.Itoa(level)
}

// HeaderRoom is more than the headers of any message take. Lines up to [Conn.MaxPayload] less
// HeaderRoom can be sent.
const HeaderRoom = 512

const (
	headerEpoch    = "Herd-Epoch"
	headerTo       = "Herd-To"
	headerAfter    = "Herd-After"
	headerThrough  = "Herd-Through"
	headerHead     = "Herd-Head"
	headerInterval = "Herd-Interval"
	headerTime     = "Herd-Time"
	headerBye      = "Herd-Bye"
	headerOf       = "Herd-Of"
	headerRewind   = "Herd-Rewind"
	headerConfig   = "Herd-Config"
	headerLevel    = "Herd-Level"
)

// encodeMessage returns the headers of m. A message has many lines, or is seldom, so what these
// allocate does not count.
func encodeMessage(m *Message) nats.Header {
	h := nats.Header{
		headerEpoch:   {m.Epoch},
		headerAfter:   {strconv.FormatUint(m.After, 10)},
		headerThrough: {strconv.FormatUint(m.Through, 10)},
		headerHead:    {strconv.FormatUint(m.Head, 10)},
	}
	if m.To != "" {
		h[headerTo] = []string{m.To}
	}
	if m.Interval > 0 {
		h[headerInterval] = []string{m.Interval.String()}
	}
	if m.Interval > 0 || m.Level > 0 {
		h[headerLevel] = []string{levelText(m.Level)}
	}
	if m.Clock > 0 {
		h[headerTime] = []string{string(appendClock(nil, m.Clock))}
	}
	if m.Bye {
		h[headerBye] = []string{"1"}
	}
	return h
}

func decodeMessage(h nats.Header, lines []byte) (Message, error) {
	d := decoder{h: h}
	m := Message{
		Epoch:    d.epoch(headerEpoch, true),
		To:       d.epoch(headerTo, false),
		After:    d.number(headerAfter),
		Through:  d.number(headerThrough),
		Head:     d.number(headerHead),
		Interval: d.interval(headerInterval),
		Clock:    d.clock(headerTime),
		Level:    d.level(headerLevel),
		Bye:      d.flag(headerBye),
		Lines:    lines,
	}
	if d.err != nil {
		return Message{}, d.err
	}
	return m, nil
}

func encodeAck(a Ack) nats.Header {
	h := nats.Header{
		headerEpoch:   {a.Epoch},
		headerThrough: {strconv.FormatUint(a.Through, 10)},
	}
	if a.Of != "" {
		h[headerOf] = []string{a.Of}
	}
	if a.Rewind {
		h[headerRewind] = []string{"1"}
	}
	return h
}

func decodeAck(h nats.Header) (Ack, error) {
	d := decoder{h: h}
	a := Ack{
		Epoch:   d.epoch(headerEpoch, true),
		Of:      d.epoch(headerOf, false),
		Through: d.number(headerThrough),
		Rewind:  d.flag(headerRewind),
	}
	if d.err == nil && a.Of == "" && a.Through > 0 {
		d.err = fmt.Errorf("%s is %d without an epoch", headerThrough, a.Through)
	}
	if d.err != nil {
		return Ack{}, d.err
	}
	return a, nil
}

func encodeJoin(j Join) nats.Header {
	return nats.Header{
		headerEpoch:  {j.Epoch},
		headerHead:   {strconv.FormatUint(j.Head, 10)},
		headerLevel:  {levelText(j.Level)},
		headerConfig: {j.Config},
	}
}

func decodeJoin(h nats.Header) (Join, error) {
	d := decoder{h: h}
	j := Join{
		Epoch:  d.epoch(headerEpoch, true),
		Head:   d.number(headerHead),
		Level:  d.level(headerLevel),
		Config: d.value(headerConfig, true),
	}
	if d.err != nil {
		return Join{}, d.err
	}
	return j, nil
}
