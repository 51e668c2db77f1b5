package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"herd/edge/wire"
)

var whatsatCommand = command{
	name: "whatsat", operands: "CLIENT RADIUS MAX", least: 3, most: 3,
	brief: "ask an edge which places are near a client",
	more: `
RADIUS is in kilometres, 0 to 50; MAX is the maximum number of places, 0 to 20.
The answer, the client's position and a JSON text, is printed as received.
If it begins with "? ", the command was refused, and the exit code is 1.
`,
	setup: func(fs *flag.FlagSet) action {
		at := askFlags(fs)
		return func(ctx context.Context, p *process, operands []string) error {
			err := at.ask(ctx, p, "WHATSAT", operands, func(args []byte) error {
				_, err := wire.ParseWHATSAT(args)
				return err
			})
			if errors.Is(err, errRefused) { // its grammar is right
				return fmt.Errorf("%w: unknown client (C13)", err)
			}
			return err
		}
	},
}
