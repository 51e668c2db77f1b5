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
	"herd/edge/overview"
)

var statusCommand = command{
	name:  "status",
	brief: "show edges, links and journals, and what is wrong",
	more: `
Asks every edge of the herd over NATS, or with --http the given admin ports, for
example while the NATS servers are down. An edge that others name and that does not
answer is listed as silent. A link has two rows, one as seen by each end: how often
it went down, how many changes the other end has not acknowledged, the round trip
of an ack, and how far the other end's clock is ahead. Below are the problems
found, with what to look at next.

Exits 1 if an edge is silent or not ready, a link or the broker is down, or a
journal that is promised cannot be written.
`,
	setup: func(fs *flag.FlagSet) action {
		nats := newNATSFlags(fs)
		s := &statusCall{nats: nats}
		fs.BoolVar(&s.asJSON, "json", false, "print the edges' statuses as a JSON array")
		fs.BoolVar(&s.check, "check", false, "print only what is wrong")
		fs.BoolVar(&s.watch, "watch", false, "repeat every two seconds, until Ctrl-C")
		fs.StringVar(&s.http, "http", "", "`URLS` of admin ports to ask instead of NATS, separated by commas")
		return func(ctx context.Context, p *process, _ []string) error {
			if s.asJSON && (s.check || s.watch) {
				return usageError("--json cannot be combined with --check or --watch")
			}
			return s.run(ctx, p)
		}
	},
}

type statusCall struct {
	nats                 *natsFlags
	asJSON, check, watch bool
	http                 string
}

// watchEvery is the interval of --watch.
const watchEvery = 2 * time.Second

// errWrong ends a status command that printed a status with something down.
var errWrong = errors.New("something is down")

func (s *statusCall) run(ctx context.Context, p *process) error {
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	s.nats.setPrefix(p.environ)
	look := s.overHTTP
	if s.http == "" {
		conn, err := s.nats.connect(ctx, p, broker.Events{})
		if err != nil {
			_, wrong := errors.AsType[usageError](err)
			switch {
			case wrong || ctx.Err() != nil || errors.As(err, new(configError)):
			case broker.Refuses(err):
			default:
				p.say("if the broker is down, ask the admin ports: herd status --http URL,URL")
			}
			return err
		}
		defer conn.Close()
		look = func(ctx context.Context, p *process) (view, error) { return s.overNATS(ctx, p, conn) }
	}
	if !s.watch {
		v, err := look(ctx, p)
		if err != nil {
			return err
		}
		return s.show(p, v)
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		v, err := look(ctx, p)
		if ctx.Err() != nil {
			return nil
		}
		if isTerminal(p.stdout) {
			fmt.Fprint(p.stdout, "\x1b[H\x1b[2J")
		}
		if err != nil {
			p.say("status: %v", err)
		} else if err := s.show(p, v); err != nil && !errors.Is(err, errWrong) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// view is the state of the herd as it was found.
type view struct {
	from   string            // where it was asked
	herd   string            // the prefix that was asked for; empty over HTTP
	others []string          // prefixes of other herds at the same NATS server, sorted
	raw    []json.RawMessage // of the edges that answered, then of those that are silent
	seen   overview.Seen
	// unasked are edges that others name and whose admin port was not given, sorted.
	unasked []string
}

// overNATS asks all edges that answer, and those that they name.
func (s *statusCall) overNATS(ctx context.Context, p *process, conn *broker.Conn) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, s.nats.timeout)
	defer cancel()
	v := view{from: conn.Server(), herd: s.nats.prefix, seen: overview.Seen{Prefix: s.nats.prefix}}
	if s.nats.byDefault(p.environ) {
		v.from += " (the default)"
	}
	found, others, err := conn.Edges(ctx, s.nats.prefix)
	if err != nil {
		return v, err
	}
	if len(found) == 0 {
		return v, s.nats.nobody(p.environ, conn.Server(), others)
	}
	v.others = others
	ask := func(ctx context.Context, name string) (json.RawMessage, error) {
		return conn.Status(ctx, s.nats.prefix, name, nil)
	}
	v.gather(ctx, found, ask)
	// An edge that is named and was not found is asked by name: its answer may have been
	// late.
	late, done := context.WithTimeout(ctx, time.Second)
	defer done()
	v.gather(late, slices.DeleteFunc(v.seen.Unanswered(), func(name string) bool { return slices.Contains(found, name) }), ask)
	return v, v.settle()
}

// overHTTP asks the admin ports.
func (s *statusCall) overHTTP(ctx context.Context, p *process) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, s.nats.timeout)
	defer cancel()
	v := view{from: s.http, seen: overview.Seen{Prefix: s.nats.prefix}}
	var problems []error
	answers := make([]portAnswer, strings.Count(s.http, ",")+1)
	faults := make([]error, len(answers))
	var all sync.WaitGroup
	for i, url := range strings.Split(s.http, ",") {
		all.Go(func() { answers[i], faults[i] = statusOverHTTP(ctx, strings.TrimSpace(url)) })
	}
	all.Wait()
	for i := range answers {
		for _, text := range answers[i].statuses {
			if err := v.add(text); err != nil {
				faults[i] = err
			}
		}
		if faults[i] != nil {
			problems = append(problems, faults[i])
		}
	}
	if len(v.seen.Statuses) == 0 {
		return v, errors.Join(problems...)
	}
	for _, err := range problems {
		p.say("%v", err)
	}
	for i := range answers {
		v.silentAt(answers[i].silent)
	}
	if len(problems) == 0 { // every port answered: who is missing, and was not asked by one, has another
		v.seen.Hidden = map[string]string{}
		for _, name := range v.seen.Unanswered() {
			if _, asked := v.seen.Failed[name]; asked {
				continue
			}
			v.unasked = append(v.unasked, name)
			v.seen.Hidden[name] = "not asked"
		}
	}
	return v, v.settle()
}

// portAnswer is what an admin port says of the herd.
type portAnswer struct {
	statuses []json.RawMessage // of the edges that answered it
	silent   []overview.Edge   // that did not, though it asked
}

func statusOverHTTP(ctx context.Context, text string) (all portAnswer, err error) {
	answer, err := askWeb(ctx, text, "/status.json")
	if err != nil {
		return all, err
	}
	defer answer.Body.Close()
	if err := wantOK(answer); err != nil {
		return all, err
	}
	var herd struct {
		Edges []struct {
			Name, State, Why string
			Since            time.Time
			Status           json.RawMessage
		}
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 16<<20)).Decode(&herd); err != nil {
		return all, fmt.Errorf("read the answer from %s: %w", text, err)
	}
	for _, e := range herd.Edges {
		switch {
		case len(e.Status) > 0:
			all.statuses = append(all.statuses, e.Status)
		case e.State == overview.Silent: // others it could not ask
			all.silent = append(all.silent, overview.Edge{Name: e.Name, Why: e.Why, Since: e.Since})
		}
	}
	return all, nil
}

// silentAt notes edges that did not answer an admin port. One that answered another is not silent.
func (v *view) silentAt(edges []overview.Edge) {
	for _, e := range edges {
		if slices.ContainsFunc(v.seen.Statuses, func(s overview.Status) bool { return s.Edge == e.Name }) {
			continue
		}
		if v.seen.Failed == nil {
			v.seen.Failed, v.seen.Lost = map[string]string{}, map[string]time.Time{}
		}
		v.seen.Failed[e.Name] = e.Why
		if lost := v.seen.Lost[e.Name]; !e.Since.IsZero() && (lost.IsZero() || e.Since.Before(lost)) {
			v.seen.Lost[e.Name] = e.Since
		}
	}
}

// gather asks edges for their status, all at once, and notes why edges did not answer.
func (v *view) gather(ctx context.Context, names []string, ask func(context.Context, string) (json.RawMessage, error)) {
	answers := make([]json.RawMessage, len(names))
	faults := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { answers[i], faults[i] = ask(ctx, name) })
	}
	all.Wait()
	for i, name := range names {
		err := faults[i]
		if err == nil {
			err = v.add(answers[i])
		}
		if err != nil {
			v.failed(name, err)
		}
	}
}

// failed notes why an edge did not answer.
func (v *view) failed(name string, err error) {
	if v.seen.Failed == nil {
		v.seen.Failed = map[string]string{}
	}
	v.seen.Failed[name] = whySilent(err)
}

// whySilent is why an edge did not answer, in words; "" is that it did not.
func whySilent(err error) string {
	if errors.Is(err, broker.ErrNobody) {
		return "not connected to the broker"
	}
	return ""
}

func (v *view) add(text json.RawMessage) error {
	var s overview.Status
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read a status: %w", err)
	}
	if slices.ContainsFunc(v.seen.Statuses, func(e overview.Status) bool { return e.Edge == s.Edge }) {
		return nil
	}
	v.raw, v.seen.Statuses = append(v.raw, text), append(v.seen.Statuses, s)
	return nil
}

// settle completes the view: it adds silent edges and sorts all.
func (v *view) settle() error {
	for _, s := range v.seen.Silent() {
		facts := map[string]any{"edge": s.Name, "silent": true, "ready": false, "why": s.Why, "links": []any{}}
		if !s.Since.IsZero() {
			facts["silent_since"] = s.Since
		}
		text, err := json.Marshal(facts)
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		v.raw = append(v.raw, text)
	}
	slices.SortFunc(v.seen.Statuses, func(a, b overview.Status) int { return cmp.Compare(a.Edge, b.Edge) })
	return nil
}

// show prints the view. The error is errWrong if something is down.
func (s *statusCall) show(p *process, v view) error {
	var out strings.Builder
	wrong := v.wrong()
	down := slices.ContainsFunc(wrong, func(w overview.Problem) bool { return w.Level == overview.Down })
	switch {
	case s.asJSON:
		slices.SortFunc(v.raw, func(a, b json.RawMessage) int { return cmp.Compare(nameIn(a), nameIn(b)) })
		text, err := json.MarshalIndent(v.raw, "", "  ")
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		out.Write(append(text, '\n'))
	case s.check:
		writeProblems(&out, wrong, paint(p))
	default:
		writeStatus(&out, v, wrong, paint(p))
	}
	_, _ = io.WriteString(p.stdout, out.String()) // run checks whether all was printed
	if down {
		return errWrong
	}
	return nil
}

func nameIn(status json.RawMessage) string {
	var s struct{ Edge string }
	_ = json.Unmarshal(status, &s) // it was parsed before
	return s.Edge
}
