//go:build race

package command

// raceDetector: pools then drop objects at random, so counting allocations is meaningless.
const raceDetector = true
