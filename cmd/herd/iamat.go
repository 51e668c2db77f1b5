package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"

	"herd/edge/client"
	"herd/edge/wire"
)

var iamatCommand = command{
	name: "iamat", operands: "CLIENT LOCATION [TIME]", least: 2, most: 3,
	brief: "report a client's position to an edge",
	more: `
LOCATION is latitude and longitude in degrees with their signs, such as
+34.068930-118.445127; TIME is in seconds since 1970, by default now.
The edge's answer is printed. If it begins with "? ", the command was refused,
and the exit code is 1.
`,
	setup: func(fs *flag.FlagSet) action {
		at := askFlags(fs)
		return func(ctx context.Context, p *process, operands []string) error {
			if len(operands) == 2 {
				operands = append(operands, string(client.AppendTime(nil, time.Now().UnixNano())))
			}
			return at.ask(ctx, p, "IAMAT", operands, func(args []byte) error {
				_, err := wire.ParseIAMAT(args)
				return err
			})
		}
	},
}

// asking is what iamat and whatsat share.
type asking struct {
	addr    string
	timeout time.Duration
	secure  *tlsFlags
}

func askFlags(fs *flag.FlagSet) *asking {
	a := &asking{secure: newTLSFlags(fs)}
	fs.StringVar(&a.addr, "addr", "127.0.0.1:12000", "`HOST:PORT` of the edge's client port")
	fs.DurationVar(&a.timeout, "timeout", 15*time.Second, "longest `DURATION` to wait for the answer")
	return a
}

// ask sends one command and prints its answer. If the edge refused it, the error says why as
// far as the tool can know: parse checks the command's grammar.
func (a *asking) ask(ctx context.Context, p *process, verb string, operands []string, parse func([]byte) error) error {
	if _, _, err := net.SplitHostPort(a.addr); err != nil {
		return usageError("--addr: " + err.Error())
	}
	line := []byte(verb)
	for _, word := range operands {
		// White space would change the command.
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
	c, err := client.Dial(ctx, a.addr, secure)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := c.Do(ctx, line)
	if errors.Is(err, io.ErrUnexpectedEOF) && secure == nil {
		return fmt.Errorf("%w: a client port that speaks TLS closes plain text so (--tls-ca FILE)", err)
	}
	if err != nil {
		return err
	}
	_, refused := client.Refused(answer)
	if word, _ := wire.Cut(answer); !refused && string(word) != "AT" { // an admin port, say
		return fmt.Errorf("this is no edge's client port: it answers %.80q", answer)
	}
	if _, err := p.stdout.Write(answer); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	if !refused {
		return nil
	}
	if err := parse(line[len(verb):]); err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	return errRefused
}

var errRefused = errors.New("refused")
