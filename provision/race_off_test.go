//go:build !race

package provision

const raceDetector = false
