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
	brief: "ask an edge what is near a client",
	more: `
RADIUS is in kilometres, 0 to 50; MAX is how many places at most, 0 to 20.
The answer, where the client is and a JSON text, is printed as it comes.
A refusal begins with "? ", and exits 1.
`,
	setup: func(fs *flag.FlagSet) action {
		at := askFlags(fs)
		return func(ctx context.Context, p *process, operands []string) error {
			err := at.ask(ctx, p, "WHATSAT", operands, func(args []byte) error {
				_, err := wire.ParseWHATSAT(args)
				return err
			})
			if errors.Is(err, errRefused) { // by no rule of grammar
				return fmt.Errorf("%w: the edge knows nothing of this client (C13)", err)
			}
			return err
		}
	},
}
