// Package herdtest runs a herd for Go tests: in the test's own process, or as processes that can
// be killed, paused and cut off. It also has a judge, which compares what clients were promised
// with what the edges hold.
//
// A herd in the test's process starts in a fraction of a second, and needs neither binaries nor
// a NATS server:
//
//	h := herdtest.Start(t, herdtest.Options{})
//	at, err := h.Client(t, "Clark").IAMAT(t.Context(), "kiwi", "+34.068930-118.445127", time.Now())
//
// Herds share no state, so any number of them can run side by side. Use [Open] for a herd that
// outlives a test, for example in TestMain.
//
// [StartProcesses] builds the binaries with the go command, once per test run, and starts
// nats-server and each edge as a process. Tests that use it must call [RemoveBinaries] at the
// end of TestMain.
//
// # From another module
//
// The path of the herd's module is herd, which no module proxy serves. A module that uses this
// package therefore needs a copy of the herd's source, and a replace line with its place:
//
//	require herd v0.0.0
//
//	replace herd => ../herd
//
// A replace line applies only in the main module; modules that depend on it need their own.
//
// The package is for tests. It knows nothing of how an edge works, and only tests and benchmarks
// import it.
package herdtest
