//go:build !race

package herdtest

// RaceDetector reports whether the tests, and so the binaries, are built with the race detector.
const RaceDetector = false
