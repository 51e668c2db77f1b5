// Package test looks at the herd from outside: it builds cmd/edge, cmd/herd and a
// nats-server, runs them as processes of their own, kills, stops and restarts them, and
// speaks to them over sockets as clients and operators do.
//
// It knows the rules (PROTOCOL.md) and the names (CONTRACT.md) and nothing of how the
// herd keeps them: no room of the house is imported here. The one test about the house
// itself is TestArrowsPointDown, which guards its imports.
//
// go test ./test/ runs every promise in a small size; HERD_TEST=full gives the sizes and
// durations that the issues name. What was measured is logged: go test -v.
package test
