package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"time"

	"herd/broker"
	"herd/edge"
	"herd/edge/admin"
	"herd/edge/config"
	"herd/edge/inquiry"
	"herd/edge/overview"
)

var pageCommand = command{
	name:  "page",
	brief: "serve the page of the whole herd, for herds with accounts",
	more: `
Serves the page that every edge has at its admin port, and asks all edges for it over
NATS while somebody looks. It is for herds whose edges have accounts of their own
and so cannot ask each other; with operator.nk it sees all, and can change
nothing. It prints the page's address and runs until Ctrl-C.

The map and the search for a client are on where --listen is a loopback address;
HERD_MAP=on or off says otherwise.
`,
	setup: func(fs *flag.FlagSet) action {
		s := &pageCall{nats: newNATSFlags(fs)}
		fs.StringVar(&s.listen, "listen", "127.0.0.1:12090", "`HOST:PORT` to serve the page at; port 0 means any free port")
		return func(ctx context.Context, p *process, _ []string) error { return s.run(ctx, p) }
	},
}

type pageCall struct {
	nats   *natsFlags
	listen string
}

func (s *pageCall) run(ctx context.Context, p *process) error {
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	shows, err := s.mapSwitch(p.environ)
	if err != nil {
		return err
	}
	conn, err := s.nats.connect(ctx, p, broker.Events{})
	if err != nil {
		return err
	}
	defer conn.Close()
	ln, err := net.Listen("tcp", s.listen)
	if err != nil {
		return occupied(err, s.listen, "--listen", "")
	}
	version, commit := edge.Version()
	a := admin.New(admin.Config{
		Version: version, Commit: commit, StopTimeout: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(p.stderr, nil)),
		Name: "herd page", Prefix: s.nats.prefix, Others: inquiry.Search(conn, s.nats.prefix), Map: shows, Verify: inquiry.Verify,
	})
	fmt.Fprintf(p.stdout, "http://%s/\n", ln.Addr())
	return a.Serve(ctx, ln)
}

// mapSwitch is whether the page may show positions (HERD_MAP).
func (s *pageCall) mapSwitch(environ []string) (overview.Switch, error) {
	cfg := config.Config{HTTP: s.listen, Map: variable(environ, "HERD_MAP")}
	switch cfg.Map {
	case config.MapOn, config.MapOff, config.MapAuto:
	case "":
		cfg.Map = config.MapAuto
	default:
		return overview.Switch{}, configError{fmt.Errorf("HERD_MAP: %q, want auto, on or off", cfg.Map)}
	}
	shows := edge.MapSwitch(&cfg)
	if !shows.On && cfg.Map == config.MapAuto {
		shows.Why = "Positions are private, and --listen is not a loopback address. HERD_MAP=on shows them all the same."
	}
	return shows, nil
}
