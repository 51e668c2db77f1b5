//go:build race

package command

// raceDetector makes pools forget at random, so allocations say nothing.
const raceDetector = true
