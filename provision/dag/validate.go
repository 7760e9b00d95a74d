package dag

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Validate reports everything that keeps the plan from running: steps without a name or a function, names used twice,
// dependencies that do not exist, and a cycle, which it names. The errors are joined.
func (p Plan) Validate() error {
	var errs []error
	index := make(map[string]int, len(p.Steps))
	for i, s := range p.Steps {
		if s.Name == "" {
			errs = append(errs, fmt.Errorf("step %d has no name", i+1))
			continue
		}
		if s.Do == nil {
			errs = append(errs, fmt.Errorf("step %q has nothing to do", s.Name))
		}
		if _, twice := index[s.Name]; twice {
			errs = append(errs, fmt.Errorf("step %q is in the plan twice", s.Name))
			continue
		}
		index[s.Name] = i
	}
	for _, s := range p.Steps {
		for _, dep := range s.Deps {
			if _, known := index[dep]; !known {
				errs = append(errs, fmt.Errorf("step %q depends on %q, which is not in the plan", s.Name, dep))
			}
		}
	}
	if cycle := p.cycle(index); cycle != nil {
		errs = append(errs, fmt.Errorf("steps wait for each other: %s", strings.Join(cycle, " -> ")))
	}
	return errors.Join(errs...)
}

// cycle returns the names along one cycle, the first repeated at the end, each step waiting for the one after it;
// nil where there is none.
func (p Plan) cycle(index map[string]int) []string {
	const (
		unseen = iota
		onPath
		cleared
	)
	state := make([]int, len(p.Steps))
	var path []string
	var visit func(i int) []string
	visit = func(i int) []string {
		name := p.Steps[i].Name
		switch state[i] {
		case cleared:
			return nil
		case onPath:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[i] = onPath
		path = append(path, name)
		for _, dep := range p.Steps[i].Deps {
			if j, known := index[dep]; known {
				if found := visit(j); found != nil {
					return found
				}
			}
		}
		path = path[:len(path)-1]
		state[i] = cleared
		return nil
	}
	for i := range p.Steps {
		if found := visit(i); found != nil {
			return found
		}
	}
	return nil
}
