package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v10"

	"herd/broker"
)

// natsFlags are the flags of the nats tool, which win over its variables.
type natsFlags struct {
	fs      *flag.FlagSet
	values  map[string]*string // by flag
	prefix  string
	timeout time.Duration
}

// asVariable says which variable means the same as a flag.
var asVariable = map[string]string{
	"server": "NATS_URL", "user": "NATS_USER", "password": "NATS_PASSWORD", "token": "NATS_TOKEN",
	"creds": "NATS_CREDS", "nkey": "NATS_NKEY", "tlsca": "NATS_CA", "tlscert": "NATS_CERT", "tlskey": "NATS_KEY",
}

// logins are the ways to log in: one given as a flag replaces all of the environment.
var logins = []string{"user", "password", "token", "creds", "nkey"}

func newNATSFlags(fs *flag.FlagSet) *natsFlags {
	n := &natsFlags{fs: fs, values: make(map[string]*string)}
	for name, usage := range map[string]string{
		"server":   "`URL` of the NATS server, or several with commas (NATS_URL; " + broker.DefaultURL + ")",
		"user":     "`NAME` to log in with (NATS_USER)",
		"password": "`PASSWORD` to log in with (NATS_PASSWORD)",
		"token":    "`TOKEN` to log in with (NATS_TOKEN)",
		"creds":    "`FILE` of credentials (NATS_CREDS)",
		"nkey":     "`FILE` of a seed (NATS_NKEY)",
		"tlsca":    "`FILE` of the authority that signs the server's certificate (NATS_CA)",
		"tlscert":  "`FILE` of a client certificate (NATS_CERT)",
		"tlskey":   "`FILE` of its key (NATS_KEY)",
	} {
		n.values[name] = fs.String(name, "", usage)
	}
	fs.StringVar(n.values["server"], "s", "", "")
	fs.StringVar(&n.prefix, "prefix", "herd", "`NAME` of the herd: the first token of its subjects")
	fs.DurationVar(&n.timeout, "timeout", 5*time.Second, "how long to wait for the NATS server, a `DURATION`")
	return n
}

// options joins the environment and the flags.
func (n *natsFlags) options(environ []string) (broker.Options, error) {
	vars := natsVariables(environ)
	got := given(n.fs)
	if got["s"] {
		got["server"] = true
	}
	if slices.ContainsFunc(logins, func(name string) bool { return got[name] }) {
		for _, name := range logins {
			delete(vars, asVariable[name])
		}
	}
	for name, value := range n.values {
		if got[name] {
			vars[asVariable[name]] = *value
		}
	}
	return natsOptions(vars)
}

func natsVariables(environ []string) map[string]string {
	vars := make(map[string]string)
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, "NATS_") {
			vars[name] = value
		}
	}
	return vars
}

func natsOptions(vars map[string]string) (o broker.Options, err error) {
	if err := env.ParseWithOptions(&o, env.Options{Environment: vars}); err != nil {
		return o, configError{err}
	}
	if err := o.Validate(); err != nil {
		return o, configError{err}
	}
	return o, nil
}

// connect waits for the NATS server as long as the flags allow. What becomes of
// the connection later is told by events.
func (n *natsFlags) connect(ctx context.Context, p *process, events broker.Events) (*broker.Conn, error) {
	if n.prefix == "" || strings.ContainsFunc(n.prefix, notAlphanumeric) {
		return nil, usageError("--prefix: want letters and digits")
	}
	options, err := n.options(p.environ)
	if err != nil {
		return nil, err
	}
	return dialNATS(ctx, options, events, n.timeout)
}

func dialNATS(ctx context.Context, options broker.Options, events broker.Events, timeout time.Duration) (*broker.Conn, error) {
	conn, err := broker.Dial(options, "herd tool", events, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, configError{err}
	}
	waiting, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("no answer"))
	defer cancel()
	if err := conn.Wait(waiting); err != nil {
		conn.Close()
		return nil, fmt.Errorf("no NATS server within %v: %w", timeout, err)
	}
	return conn, nil
}

func notAlphanumeric(r rune) bool {
	letter := r | 0x20
	return !('0' <= r && r <= '9' || 'a' <= letter && letter <= 'z')
}
