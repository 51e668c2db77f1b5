package edge

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"herd/broker"
	"herd/edge/admin"
	"herd/edge/position"
	"herd/edge/verify"
	"herd/edge/wire"
)

// This file answers what operators ask about clients (docs/PROTOCOL.md, NATS endpoints).

// clientOne serves a question about one client.
func (e *Edge) clientOne(payload []byte) broker.Reply {
	id, err := wire.ParseClient(payload)
	if err != nil {
		return wrong(err)
	}
	return e.answer(e.Client(id))
}

// Client returns what this edge holds of a client. It may be asked from New on.
func (e *Edge) Client(id []byte) admin.Client {
	now := time.Now()
	c := admin.Client{Edge: e.cfg.Edge, Epoch: e.epoch, Links: []admin.ClientLink{}}
	// First the links: what a neighbour has acknowledged by now, it holds when it is asked next.
	links := e.links()
	acked := make([]uint64, len(links))
	for i, n := range links {
		s := n.link.Stats()
		acked[i] = s.Acked
		c.Links = append(c.Links, admin.ClientLink{Neighbour: n.name, Up: s.Up, Lag: s.Lag})
	}
	var line []byte
	var effective int64
	from, number := position.FromClient, 0
	retention := e.retention(now)
	e.table.View(func(v position.View) {
		r, known := v.Find(id)
		if !known || r.Expired(retention) {
			return
		}
		line = bytes.Clone(r.Line())
		effective, c.Revision, c.Own, c.InJournal = r.Effective(), r.Revision(), r.Own(), r.Kept()
		from, number = r.From()
	})
	if line == nil {
		return c
	}
	at, err := wire.ParseAT(wire.TrimEnd(line))
	if err != nil { // whoever gave us the line had parsed it
		return c
	}
	c.Known = true
	c.Line, c.LineBytes = text(wire.TrimEnd(line))
	c.Lat, c.Lon = degrees(at.Point)
	c.Received, c.Effective = time.Unix(0, at.Receipt).UTC(), time.Unix(0, effective).UTC()
	after, before := e.moments.of(c.Revision)
	if before.IsZero() {
		before = now
	}
	c.StoredAfter, c.StoredBefore = e.utc(after), e.utc(before)
	switch from {
	case position.FromClient:
		c.From = "client"
	case position.FromJournal:
		c.From = "journal"
	default:
		c.From = "neighbour"
		if number > 0 && number <= len(links) {
			c.Neighbour = links[number-1].name
		}
	}
	for i := range c.Links {
		c.Links[i].Acknowledged = acked[i] >= c.Revision
	}
	return c
}

// cellsOne serves a question about who is in a box.
func (e *Edge) cellsOne(payload []byte) broker.Reply {
	q, err := wire.ParseCELLS(payload)
	if err != nil {
		return wrong(err)
	}
	cells, ok := e.Cells(q)
	if !ok {
		return broker.Reply{Code: "501", Why: "HERD_LIVE is off: this edge does not know who is where"}
	}
	return e.answer(cells)
}

// Cells returns who is in a box, or how many are in cells of it. ok is false with HERD_LIVE=off. It may be asked from New on.
func (e *Edge) Cells(q wire.CELLS) (cells admin.Cells, ok bool) {
	revision := e.table.Head()
	census, ok := e.table.NewCensus(q.SW, q.NE, q.Most)
	if !ok {
		return cells, false
	}
	for !census.Step(e.retention(time.Now())) {
		runtime.Gosched() // to those who wait for the table
	}
	cells = admin.Cells{Edge: e.cfg.Edge, Revision: revision, Clients: census.Clients, Size: census.Size, Cells: [][3]int{}}
	columns := int(360 / census.Size)
	for i, n := range census.Counts {
		if n > 0 {
			cells.Cells = append(cells.Cells, [3]int{census.Row + i/census.Columns, (census.Column + i%census.Columns) % columns, int(n)})
		}
	}
	if !census.HasLines {
		return cells, true
	}
	cells.Singles = []admin.Single{}
	for line := range bytes.Lines(census.Lines) {
		line = wire.TrimEnd(line)
		at, err := wire.ParseAT(line)
		if err != nil {
			continue // whoever gave us the line had parsed it
		}
		s := admin.Single{Edge: string(at.Edge), Time: string(at.Time)}
		s.Client, s.ClientBytes = text(at.Client)
		s.Line, _ = text(line)
		s.Lat, s.Lon = degrees(at.Point)
		cells.Singles = append(cells.Singles, s)
	}
	return cells, true
}

// digestOne serves a question by which herds are compared.
func (e *Edge) digestOne(payload []byte) broker.Reply {
	var q verify.Question
	if err := json.Unmarshal(payload, &q); err != nil {
		return broker.Reply{Code: "400", Why: "the question is not JSON as it should be"}
	}
	reply, err := e.Digest(&q)
	if err != nil {
		return wrong(err)
	}
	return e.answer(reply)
}

// digestLargest is the most bytes that an answer has, whatever the broker takes.
const digestLargest = 1 << 20

// Digest answers a question by which the tables of a herd are compared. It may be asked from New on.
func (e *Edge) Digest(q *verify.Question) (*verify.Reply, error) {
	clients, _, _ := e.table.Stats()
	state := verify.State{
		Edge: e.cfg.Edge, Epoch: e.epoch, Clients: clients, Now: e.retention(time.Now()), Retain: int64(e.cfg.Retain),
		Links: []verify.Link{}, Largest: digestLargest,
	}
	if e.dialled() {
		if most := e.conn.MaxPayload(); most > 0 {
			state.Largest = min(most, digestLargest)
		}
	}
	for _, n := range e.links() { // before what it holds
		s := n.link.Stats()
		state.Links = append(state.Links, verify.Link{Neighbour: n.name, Epoch: s.Epoch, Acked: s.Acked, Lag: s.Lag, Up: s.Up})
	}
	return verify.Answer(q, e.table, state)
}

// text returns bytes as text for JSON, and what they were where they are not UTF-8.
func text(b []byte) (valid string, raw []byte) {
	if utf8.Valid(b) {
		return string(b), nil
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), b
}

func degrees(p wire.Point) (lat, lon float64) { return float64(p.Lat) / 1e7, float64(p.Lon) / 1e7 }

// answer is a value as JSON.
func (e *Edge) answer(value any) broker.Reply {
	b, err := json.Marshal(value)
	if err != nil {
		e.log.Error("write an answer", "error", err)
		return broker.Reply{Code: "500", Why: "the answer cannot be written"}
	}
	return broker.Reply{Answer: b}
}

// wrong is the answer to a question that does not parse.
func wrong(err error) broker.Reply { return broker.Reply{Code: "400", Why: err.Error()} }
