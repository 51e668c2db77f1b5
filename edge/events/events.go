// Package events keeps the last events of an edge in memory, for the page: it listens to the
// edge's log, which stays as it is. Of what the events mean it knows only which of them ends which,
// and nothing of who reads them.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"herd/edge/overview"
)

const (
	most     = 100      // events
	mostText = 300      // bytes of one event's text
	mostAll  = 16 << 10 // bytes of all texts and names
	overhead = 64       // bytes that an event takes besides
)

// news are the events below a warning that are kept.
var news = map[string]bool{
	"ready": true, "ready again": true, "joined": true, "link up": true, "link down": true, "broker connected": true,
	"journal loaded": true, "journal written again": true, "the journal's store has room again": true,
	"clock no longer in doubt": true, "the retention clock agrees with the wall clock again": true,
	"neighbour is configured as we are again": true, "certificate files renewed": true, "certificate files are valid again": true,
	"places provider answers again": true, "extract loaded": true, "key has changed, reconnecting": true, "stopping": true,
}

// ends has what an event is the end of: all such events that are open and of the same neighbour
// or provider are over then.
var ends = map[string][]string{
	"link up":                            {"link down"},
	"broker connected":                   {"broker disconnected", "broker closed the connection, reconnecting", "broker not reached", "broker does not confirm subscriptions"},
	"journal written again":              {"journal not written", "no journal: the broker has no JetStream", "the journal's store cannot be used"},
	"the journal's store has room again": {"the journal's store is nearly full: new clients are not taken"},
	"clock no longer in doubt":           {"clock in doubt: it differs from most others"},
	"the retention clock agrees with the wall clock again": {"the retention clock has parted from the wall clock"},
	"neighbour is configured as we are again":              {ConfiguredOtherwise},
	"certificate files are valid again":                    {"renewed certificate files are of no use, keeping the old ones", "certificate not valid now"},
	"certificate files renewed":                            {"renewed certificate files are of no use, keeping the old ones", "certificate not valid now"},
	"places provider answers again":                        {"places provider failed too often, not asked for a while"},
	"ready again":                                          {"not ready any more"},
}

// ConfiguredOtherwise is the event of a neighbour with another configuration (H7).
const ConfiguredOtherwise = "neighbour is configured otherwise: topology, HERD_RETAIN, HERD_MAX_CLIENTS or HERD_MAX_TABLE"

// begins has the events that ends names.
var begins = func() map[string]bool {
	all := map[string]bool{}
	for _, of := range ends {
		for _, name := range of {
			all[name] = true
		}
	}
	return all
}()

// private are attributes that are left out: positions, and who has them, are not for the page's
// every reader.
var private = map[string]bool{"remote": true, "client": true, "key": true, "location": true, "user": true}

// A Ring keeps the last events. It may be used from any goroutine.
type Ring struct {
	edge, epoch string
	wall        func(time.Time) time.Time

	mu    sync.Mutex
	kept  []kept // oldest first
	bytes int    // of all texts
	last  int    // number of the last event
}

type kept struct {
	overview.Event
	about string // the neighbour or provider that it is about
}

// New makes a Ring for a run of an edge. wall returns what the edge's clock showed at a moment
// that time.Now returned.
func New(edge, epoch string, wall func(time.Time) time.Time) *Ring {
	return &Ring{edge: edge, epoch: epoch, wall: wall}
}

// Handler hands everything on to next, and keeps warnings, errors and a list of events that say
// that something began or is over.
func (r *Ring) Handler(next slog.Handler) slog.Handler { return &handler{ring: r, next: next} }

// Events returns what is kept, oldest first.
func (r *Ring) Events() []overview.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]overview.Event, len(r.kept))
	for i := range r.kept {
		all[i] = r.kept[i].Event
	}
	return all
}

func (r *Ring) add(e kept) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range ends[e.Event.Event] {
		for i := range r.kept {
			if k := &r.kept[i]; k.Open && k.Event.Event == name && k.about == e.about {
				k.Open, k.Until = false, e.At
			}
		}
	}
	r.last++
	e.Edge, e.ID = r.edge, fmt.Sprintf("%s/%s/%d", r.edge, r.epoch, r.last)
	e.Open = begins[e.Event.Event]
	r.kept = append(r.kept, e)
	r.bytes += e.size()
	for len(r.kept) > most || r.bytes > mostAll {
		r.bytes -= r.kept[0].size()
		r.kept = append(r.kept[:0], r.kept[1:]...)
	}
}

func (e *kept) size() int { return len(e.ID) + len(e.Event.Event) + len(e.Text) + overhead }

// handler is the Ring as a slog.Handler.
type handler struct {
	ring  *Ring
	next  slog.Handler
	attrs []slog.Attr // of the logger
	group bool        // attributes that follow are in a group
}

func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn || r.Level == slog.LevelInfo && news[r.Message] {
		h.ring.add(h.event(&r))
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	if !h.group {
		c.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.next, c.group = h.next.WithGroup(name), true
	return &c
}

// text is a value for people: durations are rounded.
func text(v slog.Value) string {
	if v.Kind() != slog.KindDuration {
		return v.String()
	}
	d := v.Duration()
	switch {
	case d.Abs() >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d.Abs() >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// event is a record of the log as an event.
func (h *handler) event(r *slog.Record) kept {
	e := kept{Event: overview.Event{At: h.ring.wall(r.Time).UTC(), Event: cut(r.Message, mostText), Level: "info"}}
	switch {
	case r.Level >= slog.LevelError:
		e.Level = "error"
	case r.Level >= slog.LevelWarn:
		e.Level = "warning"
	}
	values := map[string]string{}
	var facts []string
	take := func(a slog.Attr) bool {
		value := text(a.Value.Resolve())
		values[a.Key] = value
		switch {
		case private[a.Key] || a.Key == "edge" || value == "":
		case a.Key == "neighbour":
			e.Neighbour = cut(value, mostText)
		case a.Key == "error":
			facts = append(facts, value)
		default:
			facts = append(facts, strings.ReplaceAll(a.Key, "_", " ")+" "+value)
		}
		return len(facts) < 10
	}
	for _, a := range h.attrs {
		take(a)
	}
	r.Attrs(take)
	e.about = e.Neighbour + values["provider"]
	switch r.Message {
	case "link up":
		e.Text = "link to " + e.Neighbour + " up"
	case "link down":
		e.Text = "link to " + e.Neighbour + " down: " + downReason(values)
	case "ready":
		e.Text = "ready"
	default:
		e.Text = r.Message
		if e.Neighbour != "" {
			e.Text = e.Neighbour + ": " + e.Text
		}
		if len(facts) > 0 {
			e.Text += ": " + strings.Join(facts, ", ")
		}
	}
	if remote := values["remote"]; remote != "" { // errors of sockets name both ends
		e.Text = strings.ReplaceAll(e.Text, remote, "the client")
	}
	e.Text = cut(e.Text, mostText)
	return e
}

func downReason(values map[string]string) string {
	switch values["direction"] {
	case "in":
		return "nothing heard for " + values["silent"]
	case "out":
		return "nothing acknowledged for " + values["silent"]
	}
	return values["reason"]
}

// cut bounds a text, as valid UTF-8.
func cut(text string, bytes int) string {
	text = strings.ToValidUTF8(text[:min(len(text), 4*bytes)], "\uFFFD") // a cap on the work, too
	if len(text) <= bytes {
		return text
	}
	end := bytes - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
