package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"herd/broker"
	"herd/edge/verify"
)

var verifyCommand = command{
	name:  "verify",
	brief: "compare what all edges hold",
	more: `
Asks all edges for digests of the positions that they hold, and says whether these are
the same everywhere, or which clients differ and how. While positions change, what is
on its way is waited for, so it may run at any time. "lost" is a line that an edge has
acknowledged and does not hold, "late" one that it has not acknowledged for --wait,
"put off" one too far ahead of the edge's clock. With HERD_RETAIN, what is about to be
forgotten is left out.

Exits 1 if an edge differs or does not answer.
`,
	setup: func(fs *flag.FlagSet) action {
		nats := newNATSFlags(fs)
		asJSON := fs.Bool("json", false, "print a JSON object")
		wait := fs.Duration("wait", 10*time.Second, "`DURATION` for which a position may be on its way")
		return func(ctx context.Context, p *process, _ []string) error {
			if *wait <= 0 {
				return usageError("--wait: want a duration above 0")
			}
			ctx, stop := p.untilInterrupted(ctx)
			defer stop()
			conn, v, err := nats.findHerd(ctx, p)
			if err != nil {
				return err
			}
			defer conn.Close()
			result, err := verify.Run(ctx, verify.Config{
				Wait: *wait,
				Ask: func(ctx context.Context, edge string, question []byte) ([]byte, error) {
					text, err := conn.Look(ctx, nats.prefix, edge, broker.LookDigest, question)
					return text, whyNot(err)
				},
			}, v.names())
			if err != nil {
				return fmt.Errorf("compare the edges: %w", err)
			}
			return showVerified(p, &result, *asJSON)
		}
	},
}

// errDiffers ends a command that printed that edges differ or do not answer.
var errDiffers = errors.New("not all edges are known to be the same")

// whyNot says for people why an edge did not answer.
func whyNot(err error) error {
	var answer *broker.AnswerError
	switch {
	case errors.Is(err, broker.ErrNobody):
		return errors.New("not connected to the broker, or older than this command")
	case errors.As(err, &answer) && answer.Busy():
		return fmt.Errorf("it is %w", verify.ErrBusy)
	case errors.As(err, &answer):
		return answer
	}
	return err
}

// findHerd connects to the NATS server and finds the edges of the herd. The caller closes conn.
func (n *natsFlags) findHerd(ctx context.Context, p *process) (conn *broker.Conn, v view, err error) {
	if conn, err = n.connect(ctx, p, broker.Events{}); err != nil {
		return nil, v, err
	}
	if v, err = (&statusCall{nats: n}).overNATS(ctx, p, conn); err != nil {
		conn.Close()
		return nil, v, err
	}
	return conn, v, nil
}

// names returns the sorted names of all edges of the herd, those that are silent included.
func (v *view) names() (all []string) {
	for i := range v.seen.Statuses {
		all = append(all, v.seen.Statuses[i].Edge)
	}
	for _, s := range v.seen.Silent() {
		all = append(all, s.Name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func showVerified(p *process, r *verify.Result, asJSON bool) error {
	var out strings.Builder
	if asJSON {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		out.Write(append(text, '\n'))
	} else {
		writeVerified(&out, r)
	}
	_, _ = io.WriteString(p.stdout, out.String()) // run checks whether all was printed
	if !r.OK() {
		return errDiffers
	}
	return nil
}

// differencesShown is how many differences people are shown.
const differencesShown = 20

func writeVerified(w *strings.Builder, r *verify.Result) {
	what := "all the same"
	switch {
	case len(r.Edges) == 0:
		what = "none answers"
	case !r.Same && r.Unexamined > 0:
		what = fmt.Sprintf("%s differ, and about %s more", grouped(clientsOf(r)), grouped(r.Unexamined))
	case !r.Same && clientsOf(r) == 1:
		what = "1 differs"
	case !r.Same:
		what = grouped(clientsOf(r)) + " differ"
	case len(r.Edges) == 1:
		what = "nothing to compare with"
	}
	clients := grouped(r.Clients) + " clients"
	if r.Clients == 1 {
		clients = "1 client"
	}
	fmt.Fprintf(w, "%s, %s, %s (%.1f s)\n", counted(len(r.Edges), "edge"), clients, what, r.Seconds)
	if !r.LeftOut.IsZero() {
		w.WriteString(wrapped("Positions from before "+r.LeftOut.Format("2 Jan 15:04:05 UTC")+" are left out: they are about to be forgotten.", 0) + "\n")
	}
	for _, s := range r.Silent {
		w.WriteString(wrapped(s.Edge+" does not answer: "+s.Why, 2) + "\n")
	}
	for i, d := range r.Differences {
		if i == differencesShown {
			fmt.Fprintf(w, "… and %s more: --json prints them\n", grouped(len(r.Differences)-i))
			break
		}
		how := "is missing at " + d.Edge
		if d.Held != "" {
			how = "is older at " + d.Edge
		}
		switch {
		case d.Kind == verify.PutOff:
			how += ": put off, too far ahead of its clock (H9)"
		case d.Kind == verify.Late:
			how += ": late, not acknowledged yet"
		case d.By != "":
			how += ": lost, acknowledged to " + d.By
		default:
			how += ": lost on the way there"
		}
		w.WriteString(cutTo(cutTo(printable(string(d.Client)), max(8, screen-len(how)-1))+" "+how, screen) + "\n")
		if d.Held != "" {
			w.WriteString(cutTo("  "+d.Edge+" holds "+printable(d.Held), screen) + "\n")
		}
		w.WriteString(cutTo("  "+d.At+" holds "+printable(d.Newest), screen) + "\n")
	}
}

// clientsOf counts the clients that differ.
func clientsOf(r *verify.Result) int {
	n := 0
	for i, d := range r.Differences {
		if i == 0 || string(d.Client) != string(r.Differences[i-1].Client) {
			n++
		}
	}
	return n
}

// grouped writes a number with a comma before every three digits.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
