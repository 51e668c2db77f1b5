package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"herd/broker"
	"herd/broker/topology"
	"herd/edge/wire"
)

var watchCommand = command{
	name:  "watch",
	brief: "follow what edges tell each other",
	more: `
Prints a line for each position that goes over a link: when it passed, from which
edge to which, the client, its location, how old the client's time is (- is ahead),
and the edge that the client told it, with the skew of its clock. A position
passes many links; --edge shows what one edge sends. Ctrl-C ends it.
`,
	setup: func(fs *flag.FlagSet) action {
		nats := newNATSFlags(fs)
		edge := fs.String("edge", "", "`NAME` of the edge whose words to follow (all)")
		return func(ctx context.Context, p *process, _ []string) error {
			if *edge != "" && topology.CheckName(*edge) != nil {
				return usageError(fmt.Sprintf("--edge: %q is no edge's name", *edge))
			}
			return watch(ctx, p, nats, *edge)
		}
	},
}

func watch(ctx context.Context, p *process, nats *natsFlags, edge string) error {
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	conn, err := nats.connect(ctx, p, broker.Events{
		Connected: func(first bool) {
			if !first {
				p.say("the NATS server is back")
			}
		},
		Disconnected: func(error) { p.say("the NATS server is away") },
		Error:        func(err error) { p.say("the NATS server says: %v", err) },
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer conn.Close()
	p.say("watching %s", conn.Server())
	p.say("%s", watchHeader)
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	var row []byte
	watching, end := context.WithCancelCause(ctx)
	defer end(nil)
	err = conn.Watch(watching, nats.prefix, edge, func(from, to string, m broker.Message) {
		now := time.Now()
		for line := range bytes.Lines(m.Lines) {
			row = appendRow(row[:0], now, from, to, bytes.TrimSuffix(line, []byte{'\n'}))
			out.Write(row)
		}
		if err := out.Flush(); err != nil {
			end(fmt.Errorf("print: %w", err))
		}
	})
	if err == nil && ctx.Err() == nil { // not the user's end
		err = context.Cause(watching)
	}
	return err
}

// The columns' widths; what is longer moves the rest of its line.
const (
	linkWidth     = 20
	clientWidth   = 28
	locationWidth = 24
	ageWidth      = 12
)

var watchHeader = string(bytes.TrimRight(
	columns(nil, "passed      ", "link", "client", "location", "age", "told to"), " "))

// appendRow appends what one AT line says, with an LF, as people like to read it.
func appendRow(dst []byte, now time.Time, from, to string, line []byte) []byte {
	passed, link := now.Format("15:04:05.000"), from+" → "+to
	at, err := wire.ParseAT(line)
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

// columns appends texts, each filled up to its column's width and a space.
func columns(dst []byte, texts ...string) []byte {
	widths := [...]int{0, linkWidth, clientWidth, locationWidth, ageWidth, 0}
	for i, text := range texts {
		dst = append(dst, text...)
		dst = append(dst, strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(text))+1)...)
	}
	return dst
}

// age writes how long ago something was: to the millisecond below a minute, to the
// second below a day, in days above.
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
