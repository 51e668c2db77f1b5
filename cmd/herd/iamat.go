package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"herd/cmd/herd/load"
	"herd/edge/wire"
)

var iamatCommand = command{
	name: "iamat", operands: "CLIENT LOCATION [TIME]", least: 2, most: 3,
	brief: "tell an edge where a client is",
	more: `
LOCATION is latitude and longitude in degrees with their signs, such as
+34.068930-118.445127; TIME is in seconds since 1970, now if left out.
What the edge answers is printed. A refusal begins with "? ", and exits 1.
`,
	setup: func(fs *flag.FlagSet) action {
		at := askFlags(fs)
		return func(ctx context.Context, p *process, operands []string) error {
			if len(operands) == 2 {
				operands = append(operands, string(load.AppendTime(nil, time.Now().UnixNano())))
			}
			return at.ask(ctx, p, "IAMAT", operands, func(args []byte) error {
				_, err := wire.ParseIAMAT(args)
				return err
			})
		}
	},
}

// asking is what iamat and whatsat have in common.
type asking struct {
	addr    string
	timeout time.Duration
	secure  *tlsFlags
}

func askFlags(fs *flag.FlagSet) *asking {
	a := &asking{secure: newTLSFlags(fs)}
	fs.StringVar(&a.addr, "addr", "127.0.0.1:12000", "client port of the edge, `HOST:PORT`")
	fs.DurationVar(&a.timeout, "timeout", 15*time.Second, "how long to wait for the answer, a `DURATION`")
	return a
}

// ask sends one command, prints its answer, and says why it was refused as far as
// that can be known here: parse finds what is wrong with its grammar.
func (a *asking) ask(ctx context.Context, p *process, verb string, operands []string, parse func([]byte) error) error {
	if _, _, err := net.SplitHostPort(a.addr); err != nil {
		return usageError("--addr: " + err.Error())
	}
	line := []byte(verb)
	for _, word := range operands {
		// White space would make another command of it.
		if field, rest := wire.Cut([]byte(word)); len(field) == 0 || len(rest) > 0 || len(field) < len(word) {
			return usageError(fmt.Sprintf("%q is not one word", word))
		}
		line = append(append(line, ' '), word...)
	}
	secure, err := a.secure.config()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("no answer within %v", a.timeout))
	defer cancel()
	c, err := load.Dial(ctx, a.addr, secure)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := c.Do(ctx, line)
	if err != nil {
		return err
	}
	if _, err := p.stdout.Write(answer); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	if !bytes.HasPrefix(answer, []byte("? ")) {
		return nil
	}
	if err := parse(line[len(verb):]); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	return errRefused
}

var errRefused = errors.New("refused")
