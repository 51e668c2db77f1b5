package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"herd/edge/client"
)

var followCommand = command{
	name: "follow", operands: "WHAT...", least: 1, most: 2,
	brief: "follow a client, or who is inside an area",
	more: `
WHAT is one of:
  CLIENT                   one client
  LOCATION RADIUS          a circle, radius in kilometres, 0 to 1000
  LOCATION LOCATION        a box, from its south-west to its north-east corner
  CLIENT RADIUS            the circle around a client as it moves, 0 to 50 km
LOCATION is latitude and longitude in degrees with their signs, such as
+34.068930-118.445127.
Prints a line per client that is inside, and then one for each that comes in (in),
moves (moved) or goes (out): when it was told, the client, its location, the age of the
client's time (negative: it is ahead), and the edge that received it from the client,
with the skew. If the edge stops or cannot be reached, the next of --addr is asked, and
what has changed meanwhile is printed. Ctrl-C ends it.
`,
	setup: func(fs *flag.FlagSet) action {
		f := &follow{secure: newTLSFlags(fs)}
		fs.StringVar(&f.addrs, "addr", "127.0.0.1:12000", "`HOST:PORT` of the edge's client port; several are separated by commas")
		fs.BoolVar(&f.asJSON, "json", false, "print a JSON object per line")
		return f.run
	},
}

type follow struct {
	addrs  string
	asJSON bool
	secure *tlsFlags
}

func (f *follow) run(ctx context.Context, p *process, operands []string) error {
	what, err := client.ParseWhat(operands...)
	if err != nil {
		return usageError(err.Error())
	}
	addrs := strings.Split(f.addrs, ",")
	for _, addr := range addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return usageError("--addr: " + err.Error())
		}
	}
	secure, err := f.secure.config()
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{Addrs: addrs, TLS: secure})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	complete := false
	var row []byte
	for e, err := range c.Watch(ctx, what) {
		if err != nil {
			out.Flush() // what was told comes before why it ended
			if ctx.Err() != nil {
				return nil
			}
			return followError(err)
		}
		switch e.Kind {
		case client.Complete:
			complete = true
			switch {
			case len(operands) > 1: // an area
				p.say("%d inside, as %s tells; following", e.Inside, e.Addr)
			case e.Inside > 0:
				p.say("the client is known, as %s tells; following", e.Addr)
			default:
				p.say("the client is not known yet, as %s tells; following", e.Addr)
			}
		case client.Lost:
			if !complete && secure == nil && errors.Is(e.Err, io.ErrUnexpectedEOF) {
				p.say("%v: a client port that speaks TLS closes plain text so (--tls-ca FILE)", e.Err)
			} else {
				p.say("%v", e.Err)
			}
			complete = false
		}
		if f.asJSON {
			row = appendFollowedJSON(row[:0], time.Now(), &e)
		} else {
			row = appendFollowed(row[:0], time.Now(), &e)
		}
		out.Write(row)
		if complete || e.Kind == client.Lost {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
	}
	return nil
}

// followError says why following ended, as far as the tool can know.
func followError(err error) error {
	if refused, ok := errors.AsType[*client.RefusedError](err); ok {
		return fmt.Errorf("%w: an edge with HERD_LIVE=off (L5)", refused)
	}
	return err
}

const eventWidth = 6

// appendFollowed appends an event in readable form, with an LF; nothing for one without a
// client.
func appendFollowed(dst []byte, now time.Time, e *client.Event) []byte {
	switch e.Kind {
	case client.In, client.Moved, client.Out:
	default:
		return dst
	}
	at := &e.Position
	dst = now.AppendFormat(dst, "15:04:05.000 ")
	dst = fmt.Appendf(dst, "%-*s ", eventWidth, e.Kind)
	told := at.Edge + " " + skew(at.Skew)
	if e.Why != "" && e.Why != client.Left {
		told += " (" + e.Why + ")"
	}
	dst = columns(dst, "", "", printable(at.Client), at.Location, age(now.Sub(at.Time).Nanoseconds()), told)
	dst[len(dst)-1] = '\n' // in place of the space behind the last column
	return dst
}

// skew writes a skew as AT lines do, but to the millisecond.
func skew(d time.Duration) string {
	return fmt.Sprintf("%+.3f", d.Seconds())
}

// followed is an event as --json prints it. An id may have any bytes: one that is not UTF-8
// is also in ClientBytes, unchanged.
type followed struct {
	Told        time.Time `json:"told"`
	Event       string    `json:"event"`
	Client      string    `json:"client,omitempty"`
	ClientBytes []byte    `json:"client_base64,omitempty"`
	Location    string    `json:"location,omitempty"`
	Lat         *float64  `json:"lat,omitempty"`
	Lon         *float64  `json:"lon,omitempty"`
	Time        string    `json:"time,omitempty"`
	Edge        string    `json:"edge,omitempty"`
	Why         string    `json:"why,omitempty"`
	Inside      int       `json:"inside"`
	From        string    `json:"from"`
	Error       string    `json:"error,omitempty"`
}

func appendFollowedJSON(dst []byte, now time.Time, e *client.Event) []byte {
	x := followed{Told: now.UTC(), Event: e.Kind.String(), Why: e.Why, Inside: e.Inside, From: e.Addr}
	if e.Err != nil {
		x.Error = e.Err.Error()
	}
	if at := &e.Position; at.Line != "" {
		x.Client, x.Location, x.Edge = strings.ToValidUTF8(at.Client, "\uFFFD"), at.Location, at.Edge
		x.Time = at.Line[strings.LastIndexByte(at.Line, ' ')+1:]
		lat, lon := at.LatLon()
		x.Lat, x.Lon = &lat, &lon
		if !utf8.ValidString(at.Client) {
			x.ClientBytes = []byte(at.Client)
		}
	}
	text, _ := json.Marshal(x) // strings, numbers and a valid time: it never fails
	return append(append(dst, text...), '\n')
}
