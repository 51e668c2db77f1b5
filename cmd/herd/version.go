package main

import (
	"context"
	"flag"
	"fmt"

	"herd/edge"
)

var versionCommand = command{
	name:  "version",
	brief: "print version and commit",
	setup: func(*flag.FlagSet) action {
		return func(_ context.Context, p *process, _ []string) error {
			version, commit := edge.Version()
			_, err := fmt.Fprintf(p.stdout, "herd %s (%s)\n", version, commit)
			return err
		}
	},
}
