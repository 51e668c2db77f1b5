package broker

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// A Message carries AT lines from an edge to its neighbour (H2, H4), or none:
// then it is a heartbeat (H8).
type Message struct {
	Epoch                string        // the sender's (H3)
	To                   string        // the receiver's, as its acks tell it; "" while they do not
	After, Through, Head uint64        // After <= Through <= Head
	Interval             time.Duration // of the sender's heartbeats, at most 24h; 0 where not said
	Clock                int64         // the sender's, Unix ns; 0 where not said
	Bye                  bool          // the sender stops: the link is down at once (C19)
	Lines                []byte        // AT lines, each with its LF
}

// An Ack says what an edge holds of its neighbour's stream (H5).
type Ack struct {
	Epoch   string // of the edge that acks
	Of      string // the epoch of the stream that it follows; "" when it follows none yet
	Through uint64
	Rewind  bool // a message did not follow: go on behind Through (H6)
}

// A Join is what a neighbour answers to an edge that starts (H7).
type Join struct {
	Epoch   string
	Head    uint64
	Joining bool   // is itself still joining
	Config  string // hash of topology and retention; differs in a rolling change
}

// HeaderRoom is more than the headers of any message take. Lines up to
// [Conn.MaxPayload] less HeaderRoom can be sent.
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
	headerJoining  = "Herd-Joining"
)

// A field is one header of a message that is used again and again, with the
// room for its value.
type field struct {
	key   string
	value [1]string
	on    bool
}

// set gives the header its value, or takes it out where value is "".
func (f *field) set(h nats.Header, value string) {
	f.value[0] = value
	switch {
	case value == "" && f.on:
		delete(h, f.key)
		f.on = false
	case value != "" && !f.on:
		h[f.key] = f.value[:]
		f.on = true
	}
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}

// A messageEncoder makes one Message after the other into the same nats.Msg.
// It allocates one string for all the numbers of a message.
type messageEncoder struct {
	msg                                                nats.Msg
	epoch, to, after, through, head, interval, at, bye field
	numbers                                            []byte
}

func newMessageEncoder(subject string) *messageEncoder {
	return &messageEncoder{
		msg:   nats.Msg{Subject: subject, Header: make(nats.Header)},
		epoch: field{key: headerEpoch}, to: field{key: headerTo},
		after: field{key: headerAfter}, through: field{key: headerThrough}, head: field{key: headerHead},
		interval: field{key: headerInterval}, at: field{key: headerTime}, bye: field{key: headerBye},
	}
}

// encode returns m as it goes out. It is good until the next call, and has
// m.Lines in it, not a copy.
func (e *messageEncoder) encode(m *Message) *nats.Msg {
	b := strconv.AppendUint(e.numbers[:0], m.After, 10)
	after := len(b)
	b = strconv.AppendUint(b, m.Through, 10)
	through := len(b)
	b = strconv.AppendUint(b, m.Head, 10)
	head := len(b)
	if m.Clock > 0 {
		b = appendClock(b, m.Clock)
	}
	e.numbers = b
	text := string(b)

	h := e.msg.Header
	e.epoch.set(h, m.Epoch)
	e.to.set(h, m.To)
	e.after.set(h, text[:after])
	e.through.set(h, text[after:through])
	e.head.set(h, text[through:head])
	e.at.set(h, text[head:])
	e.bye.set(h, flag(m.Bye))
	interval := ""
	if m.Interval > 0 {
		interval = m.Interval.String()
	}
	e.interval.set(h, interval)
	e.msg.Data = m.Lines
	return &e.msg
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
		Bye:      d.flag(headerBye),
		Lines:    lines,
	}
	if d.err == nil && (m.After > m.Through || m.Through > m.Head) {
		d.err = fmt.Errorf("revisions out of order: after %d through %d head %d", m.After, m.Through, m.Head)
	}
	if d.err != nil {
		return Message{}, d.err
	}
	return m, nil
}

// An ackEncoder is to an Ack what a messageEncoder is to a Message.
type ackEncoder struct {
	msg                        nats.Msg
	epoch, of, through, rewind field
}

func newAckEncoder(subject string) *ackEncoder {
	return &ackEncoder{
		msg:   nats.Msg{Subject: subject, Header: make(nats.Header)},
		epoch: field{key: headerEpoch}, of: field{key: headerOf},
		through: field{key: headerThrough}, rewind: field{key: headerRewind},
	}
}

func (e *ackEncoder) encode(a Ack) *nats.Msg {
	h := e.msg.Header
	e.epoch.set(h, a.Epoch)
	e.of.set(h, a.Of)
	e.through.set(h, strconv.FormatUint(a.Through, 10))
	e.rewind.set(h, flag(a.Rewind))
	return &e.msg
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
		d.err = fmt.Errorf("%s is %d of no epoch", headerThrough, a.Through)
	}
	if d.err != nil {
		return Ack{}, d.err
	}
	return a, nil
}

func encodeJoin(j Join) nats.Header {
	h := nats.Header{
		headerEpoch:  {j.Epoch},
		headerHead:   {strconv.FormatUint(j.Head, 10)},
		headerConfig: {j.Config},
	}
	if j.Joining {
		h[headerJoining] = []string{"1"}
	}
	return h
}

func decodeJoin(h nats.Header) (Join, error) {
	d := decoder{h: h}
	j := Join{
		Epoch:   d.epoch(headerEpoch, true),
		Head:    d.number(headerHead),
		Joining: d.flag(headerJoining),
		Config:  d.value(headerConfig, true),
	}
	if d.err != nil {
		return Join{}, d.err
	}
	return j, nil
}
