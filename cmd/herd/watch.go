package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"herd/broker"
	"herd/broker/topology"
	"herd/edge/wire"
)

var watchCommand = command{
	name:  "watch",
	brief: "follow updates between edges",
	more: `
Prints a line per update that is sent on links: when it passed, the client, its
location, the age of the client's time (negative: it is ahead), and the edge that
received it from the client, with the skew. An update passes many links: --links
prints every passage, and --edge what one edge sends. Ctrl-C ends it.
`,
	setup: func(fs *flag.FlagSet) action {
		w := &watch{nats: newNATSFlags(fs)}
		fs.StringVar(&w.edge, "edge", "", "`NAME` of the edge whose messages to follow (all)")
		fs.StringVar(&w.client, "client", "", "`ID` of the client to follow (all)")
		fs.BoolVar(&w.links, "links", false, "print each passage of an update over a link")
		fs.BoolVar(&w.asJSON, "json", false, "print a JSON object per line")
		return func(ctx context.Context, p *process, _ []string) error {
			if w.edge != "" && topology.CheckName(w.edge) != nil {
				return usageError(fmt.Sprintf("--edge: %q is not a valid edge name", w.edge))
			}
			return w.run(ctx, p)
		}
	},
}

type watch struct {
	nats          *natsFlags
	edge, client  string
	links, asJSON bool

	seen seen
	row  []byte
}

func (w *watch) run(ctx context.Context, p *process) error {
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	conn, err := w.nats.connect(ctx, p, broker.Events{
		Connected: func(first bool) {
			if !first {
				p.say("connected to the NATS server again")
			}
		},
		Disconnected: func(error) { p.say("lost the NATS server") },
		Error:        func(err error) { p.say("NATS server: %v", err) },
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer conn.Close()
	if err := w.checkEdge(ctx, p.environ, conn); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	p.say("watching %s for the herd %q", conn.Server(), w.nats.prefix)
	if !w.asJSON {
		p.say("%s", watchHeader(w.links))
	}
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	watching, end := context.WithCancelCause(ctx)
	defer end(nil)
	err = conn.Watch(watching, w.nats.prefix, w.edge, func(from, to string, m broker.Message) {
		now := time.Now()
		for line := range bytes.Lines(m.Lines) {
			w.row = w.appendLine(w.row[:0], now, from, to, bytes.TrimSuffix(line, []byte{'\n'}))
			out.Write(w.row)
		}
		if err := out.Flush(); err != nil {
			end(fmt.Errorf("print: %w", err))
		}
	})
	if err == nil && ctx.Err() == nil { // not ended by the user
		err = context.Cause(watching)
	}
	return err
}

// checkEdge returns an error for an unknown edge, whose messages would never arrive.
func (w *watch) checkEdge(ctx context.Context, environ []string, conn *broker.Conn) error {
	if w.edge == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.nats.timeout)
	defer cancel()
	found, others, err := conn.Edges(ctx, w.nats.prefix)
	if err != nil {
		return err
	}
	if slices.Contains(found, w.edge) {
		return nil
	}
	v := view{}
	v.gather(ctx, found, func(ctx context.Context, name string) (json.RawMessage, error) {
		return conn.Status(ctx, w.nats.prefix, name, nil)
	})
	known := v.seen.Named()
	if _, ok := known[w.edge]; ok {
		return nil // it may start again
	}
	if len(known) == 0 {
		return w.nats.nobody(environ, conn.Server(), others)
	}
	return fmt.Errorf("unknown edge %q; the herd has %s", w.edge, list(slices.Sorted(maps.Keys(known))))
}

// appendLine appends what to print for one AT line that passed: nothing if it is another
// client's or was printed already.
func (w *watch) appendLine(dst []byte, now time.Time, from, to string, line []byte) []byte {
	at, err := wire.ParseAT(line)
	switch {
	case w.client != "" && (err != nil || string(at.Client) != w.client):
		return dst
	case !w.links && w.seen.before(line):
		return dst
	case w.asJSON:
		return appendJSON(dst, now, from, to, line, &at, err)
	}
	if !w.links {
		from = ""
	}
	return appendRow(dst, now, from, to, line, &at, err)
}

// seen remembers which lines were printed lately, as two generations of hashes, so that its
// memory is bounded.
type seen struct {
	seed        maphash.Seed
	young, aged map[uint64]struct{}
}

const seenMost = 200_000 // entries per generation

func (s *seen) before(line []byte) bool {
	if s.young == nil {
		s.seed, s.young = maphash.MakeSeed(), map[uint64]struct{}{}
	}
	h := maphash.Bytes(s.seed, line)
	_, young := s.young[h]
	_, aged := s.aged[h]
	if young || aged {
		return true
	}
	if len(s.young) == seenMost {
		s.aged, s.young = s.young, map[uint64]struct{}{}
	}
	s.young[h] = struct{}{}
	return false
}

// The widths of the columns. A longer value moves the rest of its line.
const (
	linkWidth     = 20
	clientWidth   = 28
	locationWidth = 24
	ageWidth      = 12
)

func watchHeader(links bool) string {
	link := ""
	if links {
		link = "link"
	}
	return string(bytes.TrimRight(columns(nil, "passed      ", link, "client", "location", "age", "told to"), " "))
}

// appendRow appends one AT line in readable form, with an LF; without the link if from is
// empty.
func appendRow(dst []byte, now time.Time, from, to string, line []byte, at *wire.AT, err error) []byte {
	passed, link := now.Format("15:04:05.000"), ""
	if from != "" {
		link = from + " → " + to
	}
	if err != nil {
		dst = columns(dst, passed, link)
		dst = appendPrintable(append(dst, "unreadable: "...), line)
		return append(dst, '\n')
	}
	client := string(appendPrintable(nil, at.Client))
	dst = columns(dst, passed, link, client, string(at.Location), age(now.UnixNano()-at.Stamp))
	dst = append(append(append(dst, at.Edge...), ' '), at.Skew...)
	return append(dst, '\n')
}

// watched is a line as --json prints it. An id may have any bytes: one that is not UTF-8 is
// also in ClientBytes, unchanged.
type watched struct {
	Passed      time.Time `json:"passed"`
	From        string    `json:"from"`
	To          string    `json:"to"`
	Edge        string    `json:"edge,omitempty"`
	Skew        string    `json:"skew,omitempty"`
	Client      string    `json:"client,omitempty"`
	ClientBytes []byte    `json:"client_base64,omitempty"`
	Location    string    `json:"location,omitempty"`
	Time        string    `json:"time,omitempty"`
	Unreadable  string    `json:"unreadable,omitempty"`
}

func appendJSON(dst []byte, now time.Time, from, to string, line []byte, at *wire.AT, err error) []byte {
	x := watched{Passed: now.UTC(), From: from, To: to}
	if err != nil {
		x.Unreadable = printable(string(line))
	} else {
		x.Edge, x.Skew, x.Location, x.Time = string(at.Edge), string(at.Skew), string(at.Location), string(at.Time)
		x.Client = strings.ToValidUTF8(string(at.Client), "\uFFFD")
		if !utf8.Valid(at.Client) {
			x.ClientBytes = at.Client
		}
	}
	text, _ := json.Marshal(x) // strings and a valid time: it never fails
	return append(append(dst, text...), '\n')
}

// columns appends texts, each padded to its column's width and followed by a space. A
// trailing empty column takes no space.
func columns(dst []byte, texts ...string) []byte {
	widths := [...]int{0, linkWidth, clientWidth, locationWidth, ageWidth, 0}
	for i, text := range texts {
		if text == "" {
			continue
		}
		dst = append(dst, text...)
		dst = append(dst, strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(text))+1)...)
	}
	return dst
}

// age formats a duration: to the millisecond below a minute, to the second below a day,
// otherwise in days.
func age(ns int64) string {
	d := time.Duration(ns)
	switch size := d.Abs(); {
	case size < time.Minute:
		return d.Round(time.Millisecond).String()
	case size < 24*time.Hour:
		return d.Round(time.Second).String()
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}
