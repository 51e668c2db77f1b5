//go:build race

package test

// raceDetector says whether the tests, and so the binaries, have the race detector.
const raceDetector = true
