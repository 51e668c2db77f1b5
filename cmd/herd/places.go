package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"strings"

	"herd/edge/config"
	"herd/edge/finder"
	"herd/edge/wire"
	"herd/places"
)

var placesCommand = command{
	name: "places", operands: "LOCATION RADIUS MAX", least: 3, most: 3,
	brief: "ask the configured providers which places are near a location",
	more: `
Asks the providers directly, as an edge with this environment would:
HERD_PLACES and the other HERD_PLACES_*, HERD_GOOGLE_* and HERD_OSM_FILE. Use it to
try a key or an extract. Questions asked here do not count in an edge's budget.
The JSON is printed, and on standard error which provider answered and which failed.
Exits 1 if the answer's status is an error.
`,
	setup: func(*flag.FlagSet) action { return askPlaces },
}

func askPlaces(ctx context.Context, p *process, operands []string) error {
	q, err := parseQuestion(operands)
	if err != nil {
		return usageError(err.Error())
	}
	cfg, warnings, err := config.FromEnvironment(placesVariables(p.environ), finder.Check)
	if err != nil {
		return configError{err}
	}
	for _, w := range warnings {
		p.say("warning: %s", w)
	}
	found, err := finder.New(&cfg, slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: timeless})))
	if err != nil {
		return err
	}
	defer found.Close()
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	select {
	case <-found.Loaded():
	case <-ctx.Done():
		return ctx.Err()
	}
	asking, cancel := context.WithTimeout(ctx, cfg.PlacesTimeout)
	defer cancel()
	text := found.Find(asking, q)
	found.Close() // waits for late providers, which Stats then includes
	if _, err := fmt.Fprintf(p.stdout, "%s\n", text); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return judge(p, text, found.Stats())
}

// judge prints which providers answered or failed, and returns an error if the answer is one.
func judge(p *process, text []byte, all []places.Stats) error {
	var answer struct {
		Status  string
		Message string `json:"error_message"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if answer.Status != "OK" && answer.Status != "ZERO_RESULTS" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Message)
	}
	for _, s := range all {
		if s.Requests["ok"]+s.Requests["zero_results"] > 0 {
			p.say("%s answered", s.Provider)
			return nil
		}
	}
	p.say("no provider was asked: the radius or the maximum is 0 (C12)")
	return nil
}

// parseQuestion parses LOCATION RADIUS MAX as a client would write them (C7, C12).
func parseQuestion(operands []string) (q places.Query, err error) {
	for _, word := range operands {
		if field, rest := wire.Cut([]byte(word)); len(field) != len(word) || len(rest) > 0 || word == "" {
			return q, fmt.Errorf("%q is not one word", word)
		}
	}
	if q.Lat, q.Lon, err = wire.ParseLocation([]byte(operands[0])); err != nil {
		return q, err
	}
	asked, err := wire.ParseWHATSAT([]byte("x " + operands[1] + " " + operands[2]))
	q.Radius, q.Max = asked.Radius, asked.Max
	return q, err
}

// placesVariables returns the variables of an edge that affect places, and those that every
// configuration must have.
func placesVariables(environ []string) []string {
	kept := []string{"HERD_EDGE=places", "HERD_TOPOLOGY=places", "HERD_EMBEDDED_NATS=true", "HERD_LOG_LEVEL=warn"}
	for _, pair := range environ {
		for _, prefix := range []string{"HERD_PLACES", "HERD_GOOGLE_", "HERD_OSM_", "HERD_LOG_LEVEL="} {
			if strings.HasPrefix(pair, prefix) {
				kept = append(kept, pair)
			}
		}
	}
	return kept
}

// timeless removes the time from log lines, which are printed as they happen.
func timeless(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
