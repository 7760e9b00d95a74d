package journal

import "slices"

// CriticalPath is the chain of steps that decided when the last one ended, as indices into steps,
// in the order of time.
//
// It is found from its end: the step that ended last (one that still runs counts as later than
// all), then of what that one needed the step that ended last, and so on. Shortening a step outside
// it makes a run no shorter.
func CriticalPath(steps []Step) []int {
	index := make(map[string]int, len(steps))
	all := make([]int, len(steps))
	for i := range steps {
		index[steps[i].Name], all[i] = i, i
	}
	seen := map[int]bool{} // data from a store may contain cycles
	var chain []int
	for at := latest(steps, all, seen); at >= 0; {
		chain = append(chain, at)
		seen[at] = true
		var deps []int
		for _, name := range steps[at].Deps {
			if d, ok := index[name]; ok {
				deps = append(deps, d)
			}
		}
		at = latest(steps, deps, seen)
	}
	slices.Reverse(chain)
	return chain
}

// latest is the one among of that ended last, -1 if none began. Of those that still run it is the
// first.
func latest(steps []Step, of []int, seen map[int]bool) int {
	best := -1
	for _, i := range of {
		s := &steps[i]
		if s.Began.IsZero() || seen[i] {
			continue
		}
		switch {
		case best < 0:
			best = i
		case steps[best].Ended.IsZero(): // runs
		case s.Ended.IsZero(), s.Ended.After(steps[best].Ended):
			best = i
		}
	}
	return best
}
