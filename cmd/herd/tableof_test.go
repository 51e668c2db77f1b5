package main

import (
	"testing"

	"herd/edge/position"
	"herd/edge/wire"
)

// tableOf makes a table that holds these lines, by client. Each is at revision 1 or close behind it.
func tableOf(t *testing.T, held map[string]string) *position.Table {
	t.Helper()
	table := position.New(position.Config{})
	for _, line := range held {
		at, err := wire.ParseAT([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		ops := make([]position.Op, 1)
		table.PreparePut(&ops[0], []byte(line+"\n"), &at)
		table.Apply(0, position.Source{}, ops)
	}
	return table
}
