// Package test tests the herd from outside. It builds cmd/edge, cmd/herd and nats-server, runs
// them as processes, kills, pauses and restarts them, and connects to them as clients and
// operators do.
//
// It knows the rules (docs/PROTOCOL.md) and the names (README.md), and nothing of how the herd
// keeps them. Most tests import only test/herdtest, which runs the processes, other helpers of
// tests, and the load generator.
// Some tests are about the repository itself: TestArrowsPointDown checks its
// imports, and others check its documents.
//
// go test ./test/ runs each test in a small size. HERD_TEST=full selects the full sizes and
// durations. go test -v shows what was measured. No test judges speed: time limits only end what
// hangs, and test/bench measures beside a floor.
package test
