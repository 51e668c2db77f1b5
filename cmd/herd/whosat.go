package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"herd/edge/wire"
)

var whosatCommand = command{
	name: "whosat", operands: "CLIENT RADIUS MAX", least: 3, most: 3,
	brief: "ask an edge which clients are near a client",
	more: `
RADIUS is in kilometres, 0 to 50; MAX is the maximum number of clients, 0 to 20.
The answer, the client's position and those of the clients nearest to it, nearest
first, is printed as received. If it begins with "? ", the command was refused, and
the exit code is 1.
`,
	setup: func(fs *flag.FlagSet) action {
		at := askFlags(fs)
		return func(ctx context.Context, p *process, operands []string) error {
			err := at.ask(ctx, p, "WHOSAT", operands, func(args []byte) error {
				_, err := wire.ParseWHOSAT(args)
				return err
			})
			if errors.Is(err, errRefused) { // its grammar is right
				return fmt.Errorf("%w: unknown client, or an edge with HERD_LIVE=off (L1)", err)
			}
			return err
		}
	},
}
