package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"herd/broker"
	"herd/edge/admin"
	"herd/edge/wire"
)

var explainCommand = command{
	name:     "explain",
	operands: "CLIENT",
	least:    1,
	most:     1,
	brief:    "show what each edge holds of a client, and why",
	more: `
Asks every edge which line it holds of the client, from whom it had that line, when, and
whether its journal holds it. If edges hold different lines, they are asked again, in
case one is on its way; if they still do, it says which line is newer and why (rule S2).

Exits 1 if edges differ, one does not answer, or none knows the client.
`,
	setup: func(fs *flag.FlagSet) action {
		nats := newNATSFlags(fs)
		asJSON := fs.Bool("json", false, "print a JSON object")
		return func(ctx context.Context, p *process, operands []string) error {
			if _, err := wire.ParseClient([]byte(operands[0])); err != nil || strings.ContainsFunc(operands[0], func(r rune) bool { return r < 0x80 && wire.IsSpace(byte(r)) }) {
				return usageError("CLIENT is 1 to 1024 bytes without white space")
			}
			ctx, stop := p.untilInterrupted(ctx)
			defer stop()
			conn, v, err := nats.findHerd(ctx, p)
			if err != nil {
				return err
			}
			defer conn.Close()
			x := explained{client: operands[0]}
			for range explainLooks {
				x.ask(ctx, v.names(), func(ctx context.Context, edge string) (json.RawMessage, error) {
					return conn.Look(ctx, nats.prefix, edge, broker.LookClient, []byte(operands[0]))
				})
				if x.same() || ctx.Err() != nil {
					break
				}
				select { // it may be on its way
				case <-time.After(explainAgain):
				case <-ctx.Done():
				}
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return x.show(p, *asJSON)
		}
	},
}

const (
	explainLooks   = 3
	explainAgain   = 300 * time.Millisecond
	explainAnswers = 5 * time.Second
)

// explained is what edges hold of one client.
type explained struct {
	client string
	edges  []admin.Client // that answered, sorted
	raw    map[string]json.RawMessage
	silent []unanswered
	lines  []string // that are held, newest first
	why    []string // each is newer than the next one
}

// unanswered is an edge that did not answer.
type unanswered struct{ name, why string }

// ask asks all edges at once.
func (x *explained) ask(ctx context.Context, names []string, ask func(context.Context, string) (json.RawMessage, error)) {
	ctx, cancel := context.WithTimeout(ctx, explainAnswers)
	defer cancel()
	*x = explained{client: x.client, raw: map[string]json.RawMessage{}}
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, name := range names {
		all.Go(func() {
			text, err := ask(ctx, name)
			var c admin.Client
			if err == nil {
				err = json.Unmarshal(text, &c)
			}
			if err != nil && ctx.Err() != nil {
				err = errors.New("no answer")
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				x.silent = append(x.silent, unanswered{name: name, why: whyNot(err).Error()})
				return
			}
			x.edges, x.raw[name] = append(x.edges, c), text
		})
	}
	all.Wait()
	slices.SortFunc(x.edges, func(a, b admin.Client) int { return cmp.Compare(a.Edge, b.Edge) })
	slices.SortFunc(x.silent, func(a, b unanswered) int { return cmp.Compare(a.name, b.name) })
	x.order()
}

// held returns a client's line as the bytes that it is.
func held(c *admin.Client) string {
	if c.LineBytes != nil {
		return string(c.LineBytes)
	}
	return c.Line
}

// order sorts the different lines by S2 and says why they are so.
func (x *explained) order() {
	for i := range x.edges {
		if l := held(&x.edges[i]); x.edges[i].Known && !slices.Contains(x.lines, l) {
			x.lines = append(x.lines, l)
		}
	}
	slices.SortFunc(x.lines, func(a, b string) int {
		switch {
		case newerBy(a, b) != "":
			return -1
		case newerBy(b, a) != "":
			return 1
		}
		return strings.Compare(a, b)
	})
	for i := 1; i < len(x.lines); i++ {
		x.why = append(x.why, newerBy(x.lines[i-1], x.lines[i]))
	}
}

// newerBy says in words why one line is newer than another; "" if it is not.
func newerBy(line, than string) string {
	a, errA := wire.ParseAT([]byte(line))
	b, errB := wire.ParseAT([]byte(than))
	if errA != nil || errB != nil {
		return ""
	}
	return wire.Why(&a, &b, []byte(line), []byte(than))
}

// same reports whether all edges that answered hold the same, be it nothing.
func (x *explained) same() bool {
	known := 0
	for i := range x.edges {
		if x.edges[i].Known {
			known++
		}
	}
	return len(x.lines) == 0 || len(x.lines) == 1 && known == len(x.edges)
}

// show prints it. The error is errDiffers unless all edges answered and hold the same line.
func (x *explained) show(p *process, asJSON bool) error {
	var out strings.Builder
	if asJSON {
		if err := x.writeJSON(&out); err != nil {
			return err
		}
	} else {
		x.write(&out)
	}
	_, _ = io.WriteString(p.stdout, out.String()) // run checks whether all was printed
	switch {
	case len(x.edges) > 0 && len(x.lines) == 0:
		return fmt.Errorf("no edge that answers knows %s", cutTo(printable(x.client), 60))
	case !x.same() || len(x.silent) > 0 || len(x.edges) == 0:
		return errDiffers
	}
	return nil
}

// explainedEdge is an edge as --json prints it: what it answered, and how its line compares.
type explainedEdge struct {
	Holds  string          `json:"holds"`         // newest, older or nothing
	Why    string          `json:"why,omitempty"` // why what it holds is older
	Answer json.RawMessage `json:"answer"`
}

func (x *explained) writeJSON(w io.Writer) error {
	type silent struct {
		Edge string `json:"edge"`
		Why  string `json:"why"`
	}
	all := struct {
		Client string          `json:"client"`
		Bytes  []byte          `json:"client_base64,omitempty"`
		Same   bool            `json:"same"`
		Newest string          `json:"newest,omitempty"`
		Edges  []explainedEdge `json:"edges"`
		Silent []silent        `json:"silent"`
	}{Client: strings.ToValidUTF8(x.client, "\uFFFD"), Same: len(x.edges) > 0 && x.same(), Edges: []explainedEdge{}, Silent: []silent{}}
	if all.Client != x.client {
		all.Bytes = []byte(x.client)
	}
	if len(x.lines) > 0 {
		all.Newest = strings.ToValidUTF8(x.lines[0], "\uFFFD")
	}
	for i := range x.edges {
		c := &x.edges[i]
		e := explainedEdge{Holds: "nothing", Answer: x.raw[c.Edge]}
		switch {
		case !c.Known:
		case held(c) == x.lines[0]:
			e.Holds = "newest"
		default:
			e.Holds, e.Why = "older", newerBy(x.lines[0], held(c))
		}
		all.Edges = append(all.Edges, e)
	}
	for _, s := range x.silent {
		all.Silent = append(all.Silent, silent{s.name, s.why})
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func (x *explained) write(w *strings.Builder) {
	name := printable(x.client)
	what := "all hold the same line"
	switch {
	case len(x.edges) == 0:
		what = "none answers"
	case len(x.lines) == 0:
		what = "none knows it"
	case !x.same():
		what = "not all hold the same"
	case len(x.edges) == 1:
		what = "and this is its line"
	}
	text := fmt.Sprintf(": %s, %s", counted(len(x.edges), "edge"), what)
	w.WriteString(cutTo(name, screen-len(text)) + text + "\n")
	for i, line := range x.lines {
		mark := ""
		if len(x.lines) > 1 {
			mark = fmt.Sprintf("%d: ", i+1)
		}
		w.WriteString(cutTo("  "+mark+printable(line), screen) + "\n")
		if at, err := wire.ParseAT([]byte(line)); err == nil {
			fmt.Fprintf(w, "     received by %s at %s\n", at.Edge, time.Unix(0, at.Receipt).UTC().Format("2006-01-02 15:04:05.000 UTC"))
		}
		if i < len(x.why) {
			w.WriteString("     " + wrapped(fmt.Sprintf("newer than %d: %s (S2)", i+2, x.why[i]), 5) + "\n")
		}
	}
	if len(x.lines) > 0 {
		w.WriteString("\n")
		t := table{head: []string{"EDGE", "HOLDS", "FROM", "STORED BEFORE (UTC)", "JOURNAL"}}
		for i := range x.edges {
			t.row(nil, x.row(&x.edges[i])...)
		}
		t.write(w)
	}
	for _, s := range x.silent {
		w.WriteString(wrapped(s.name+" does not answer: "+s.why, 2) + "\n")
	}
}

func (x *explained) row(c *admin.Client) []string {
	if !c.Known {
		return []string{c.Edge, "nothing", "-", "-", "-"}
	}
	holds := "the line"
	if len(x.lines) > 1 {
		holds = fmt.Sprintf("line %d", slices.Index(x.lines, held(c))+1)
	}
	from := map[string]string{"client": "the client", "journal": "its journal", "neighbour": cmp.Or(c.Neighbour, "a neighbour")}[c.From]
	// Rounded up: a line must not look as if it had been stored before it was received.
	stored := c.StoredBefore.Add(time.Second - 1).UTC().Format("2006-01-02 15:04:05")
	journal := "not its own"
	switch {
	case c.InJournal:
		journal = "holds it"
	case c.Own:
		journal = "not yet"
	}
	return []string{c.Edge, holds, cmp.Or(from, "-"), stored, journal}
}
