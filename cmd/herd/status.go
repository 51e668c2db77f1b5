package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"

	"herd/broker"
	"herd/edge/admin"
)

var statusCommand = command{
	name:  "status",
	brief: "show edges and links at a glance",
	more: `
Asks every edge of the herd over NATS. A link has two rows, one as each of its
ends sees it: how many revisions the other has not acknowledged, how long
an ack takes, and how far the other's clock is ahead.
`,
	setup: func(fs *flag.FlagSet) action {
		nats := newNATSFlags(fs)
		asJSON := fs.Bool("json", false, "print a JSON array of what the edges say")
		return func(ctx context.Context, p *process, _ []string) error {
			return status(ctx, p, nats, *asJSON)
		}
	},
}

func status(ctx context.Context, p *process, nats *natsFlags, asJSON bool) error {
	conn, err := nats.connect(ctx, p, broker.Events{})
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, nats.timeout)
	defer cancel()
	answers, missing := conn.Statuses(ctx, nats.prefix)
	edges := make([]admin.Status, len(answers))
	for i, answer := range answers {
		if err := json.Unmarshal(answer, &edges[i]); err != nil {
			return fmt.Errorf("read a status: %w", err)
		}
	}
	if asJSON {
		if answers == nil {
			answers = []json.RawMessage{}
		}
		text, err := json.MarshalIndent(answers, "", "  ")
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		fmt.Fprintf(p.stdout, "%s\n", text)
	} else if len(edges) > 0 {
		printStatus(p.stdout, edges)
	}
	if missing != nil {
		return missing
	}
	if len(edges) == 0 {
		return fmt.Errorf("no edge of the herd %q answers at %s", nats.prefix, conn.Server())
	}
	return nil
}

func printStatus(w io.Writer, edges []admin.Status) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "EDGE\tREADY\tCLIENTS\tCONNECTIONS\tREVISION\tJOURNAL\tBROKER")
	for _, e := range edges {
		journal := e.Journal.Mode
		if e.Journal.Lag > 0 {
			journal += fmt.Sprintf(", lag %d", e.Journal.Lag)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", printable(e.Edge), yesNo(e.Ready), e.Clients, e.Connections,
			e.Revision, printable(journal), printable(e.Broker))
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "PLACES\tPROVIDER\tSTATE\tQUESTIONS LEFT TODAY")
	for _, e := range edges {
		for _, provider := range e.Places {
			state, left := "asked", "-"
			if provider.BudgetLeft != nil {
				left = strconv.Itoa(*provider.BudgetLeft)
			}
			switch {
			case left == "0":
				state = "not asked until midnight Pacific time"
			case provider.BreakerOpen:
				state = "failing, not asked for now"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(e.Edge), printable(provider.Provider), state, left)
		}
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "LINK\tUP\tLAG\tROUND TRIP\tCLOCK")
	for _, e := range edges {
		for _, l := range e.Links {
			note := ""
			if l.ConfigDiffers {
				note = ", configured otherwise"
			}
			fmt.Fprintf(t, "%s → %s\t%s\t%d\t%s\t%s%s\n", printable(e.Edge), printable(l.Neighbour), yesNo(l.Up), l.Lag,
				roundTrip(l.RoundTripSeconds), clock(l.ClockSeconds), note)
		}
	}
	t.Flush()
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func roundTrip(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func clock(seconds float64) string {
	seconds = math.Round(seconds*1000)/1000 + 0 // a sum, so that zero is +0
	return fmt.Sprintf("%+.3fs", seconds)
}
