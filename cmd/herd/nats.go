package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v10"

	"herd/broker"
	"herd/broker/options"
)

// natsFlags are the flags of the nats tool. They take precedence over its variables.
type natsFlags struct {
	fs      *flag.FlagSet
	values  map[string]*string // by flag
	context *string
	prefix  string
	timeout time.Duration
}

// asVariable has the variable that means the same as each flag.
var asVariable = map[string]string{
	"server": "NATS_URL", "user": "NATS_USER", "password": "NATS_PASSWORD", "token": "NATS_TOKEN",
	"creds": "NATS_CREDS", "nkey": "NATS_NKEY", "tls-ca": "NATS_CA", "tls-cert": "NATS_CERT", "tls-key": "NATS_KEY",
}

// alsoCalled are the nats tool's other names of flags.
var alsoCalled = map[string]string{"s": "server", "tlsca": "tls-ca", "tlscert": "tls-cert", "tlskey": "tls-key"}

// logins are the ways to log in. One given as a flag replaces all of the environment's.
var logins = []string{"user", "password", "token", "creds", "nkey"}

func newNATSFlags(fs *flag.FlagSet) *natsFlags {
	n := &natsFlags{fs: fs, values: make(map[string]*string)}
	for name, usage := range map[string]string{
		"server":   "`URL` of the NATS server, or several separated by commas (NATS_URL; " + options.DefaultURL + ")",
		"user":     "`NAME` to log in with (NATS_USER)",
		"password": "`PASSWORD` to log in with (NATS_PASSWORD)",
		"token":    "`TOKEN` to log in with (NATS_TOKEN)",
		"creds":    "credentials `FILE` (NATS_CREDS)",
		"nkey":     "NKey seed `FILE` (NATS_NKEY)",
		"tls-ca":   "certificate `FILE` of the server's authority (NATS_CA)",
		"tls-cert": "client certificate `FILE` (NATS_CERT)",
		"tls-key":  "key `FILE` of the certificate (NATS_KEY)",
	} {
		n.values[name] = fs.String(name, "", usage)
	}
	for name, is := range alsoCalled {
		fs.StringVar(n.values[is], name, "", "")
	}
	n.context = fs.String("context", "", "`NAME` of a nats tool context (NATS_CONTEXT)")
	fs.StringVar(&n.prefix, "prefix", "", "`NAME` of the herd: the first token of its subjects (HERD_SUBJECT_PREFIX, or herd)")
	fs.DurationVar(&n.timeout, "timeout", 5*time.Second, "longest `DURATION` to wait for the NATS server")
	return n
}

// options combines the environment and the flags.
func (n *natsFlags) options(environ []string) (options.Broker, error) {
	vars := natsVariables(environ)
	got := given(n.fs)
	for name, is := range alsoCalled {
		got[is] = got[is] || got[name]
	}
	if err := n.addContext(vars, environ); err != nil {
		return options.Broker{}, err
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

func natsOptions(vars map[string]string) (o options.Broker, err error) {
	if err := env.ParseWithOptions(&o, env.Options{Environment: vars}); err != nil {
		return o, configError{err}
	}
	if err := o.Validate(); err != nil {
		return o, configError{err}
	}
	return o, nil
}

// setPrefix takes the prefix from the environment if no flag gives it.
func (n *natsFlags) setPrefix(environ []string) {
	if n.prefix != "" || given(n.fs)["prefix"] {
		return
	}
	if n.prefix = variable(environ, "HERD_SUBJECT_PREFIX"); n.prefix == "" {
		n.prefix = "herd"
	}
}

// byDefault tells whether neither a flag nor a variable names the NATS server, so that whichever
// listens at the default address is asked.
func (n *natsFlags) byDefault(environ []string) bool {
	got := given(n.fs)
	return !got["server"] && !got["s"] && !got["context"] && variable(environ, "NATS_URL") == "" && variable(environ, "NATS_CONTEXT") == ""
}

// nobody is the error where no edge of the herd answered at a server. others are the prefixes of
// the herds that did.
func (n *natsFlags) nobody(environ []string, server string, others []string) error {
	text := fmt.Sprintf("no edge of the herd %q answers at %s", n.prefix, server)
	if len(others) > 0 {
		text += ", which has edges of " + quoted(others) + " (--prefix)"
	}
	if o, err := n.options(environ); err == nil && (o.NKey != "" || o.Creds != "" || o.User != "") {
		text += "; where edges have accounts, operator.nk may ask them, and other keys may not ask them all"
	}
	if n.byDefault(environ) {
		text += "; this is the default address: --server or NATS_URL names another"
	}
	return errors.New(text)
}

// quoted returns the names of herds for people.
func quoted(prefixes []string) string {
	all := make([]string, len(prefixes))
	for i, name := range prefixes {
		all[i] = strconv.Quote(name)
	}
	return list(all)
}

// connect waits for the NATS server as long as the flags allow. events reports what happens
// to the connection later.
func (n *natsFlags) connect(ctx context.Context, p *process, events broker.Events) (*broker.Conn, error) {
	n.setPrefix(p.environ)
	if n.prefix == "" || strings.ContainsFunc(n.prefix, notAlphanumeric) {
		return nil, usageError("--prefix: want letters and digits")
	}
	options, err := n.options(p.environ)
	if err != nil {
		return nil, err
	}
	return dialNATS(ctx, options, events, n.timeout)
}

func dialNATS(ctx context.Context, options options.Broker, events broker.Events, timeout time.Duration) (*broker.Conn, error) {
	conn, err := broker.Dial(options, "herd tool", events, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, configError{err}
	}
	waiting, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("no answer"))
	defer cancel()
	if err := conn.Wait(waiting); err != nil {
		conn.Close()
		if broker.Refuses(err) {
			return nil, fmt.Errorf("the NATS server is there and refuses this login (--nkey FILE or NATS_NKEY, such as operator.nk): %w", err)
		}
		return nil, fmt.Errorf("no NATS server within %v: %w", timeout, err)
	}
	return conn, nil
}

func notAlphanumeric(r rune) bool {
	letter := r | 0x20
	return !('0' <= r && r <= '9' || 'a' <= letter && letter <= 'z')
}
