//go:build race

package provision

// raceDetector makes what computes for long, in one goroutine, take many times as long.
const raceDetector = true
