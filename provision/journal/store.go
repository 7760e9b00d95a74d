package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/provision/secret"
)

// Store is the part of a state store that the journal uses; *state.Store implements it.
type Store interface {
	Put(ctx context.Context, items map[string]secret.Bytes) error
	Get(ctx context.Context, name string) (secret.Bytes, error)
	List(ctx context.Context, prefix string) ([]string, error)
	Remove(ctx context.Context, names ...string) error
}

const (
	prefix = "runs/"
	// kept is the number of runs that a store keeps.
	kept = 100
	// readers is the number of runs read in parallel, because a bucket may be far away.
	readers = 16
)

var entryPattern = regexp.MustCompile(`^runs/([0-9]{6,9})\.json$`)

// DamagedError is an entry of the journal that cannot be read. The others can.
type DamagedError struct {
	Number int
	Name   string // in the store
	Err    error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("run %d (%s in the state) cannot be read: %v", e.Number, e.Name, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Numbers returns the numbers of the runs in the store, the oldest first.
func Numbers(ctx context.Context, store Store) ([]int, error) {
	names, err := store.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the runs: %w", err)
	}
	var numbers []int
	for _, name := range names {
		if m := entryPattern.FindStringSubmatch(name); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil && n > 0 && entry(n) == name {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// List returns the runs in the store, the oldest first, and errors for those that cannot be read.
//
// They lack large data: their plans, and everything of planned steps except their results. Count
// and Changes are still correct. live reports whether a process holds the store's lock. If none
// does, a run marked as running has lost its process, and is returned as Interrupted.
func List(ctx context.Context, store Store, live bool) (runs []*Run, damaged []*DamagedError, err error) {
	numbers, err := Numbers(ctx, store)
	if err != nil {
		return nil, nil, err
	}
	found, errs := make([]*Run, len(numbers)), make([]error, len(numbers))
	var group errgroup.Group
	group.SetLimit(readers)
	for i, n := range numbers {
		group.Go(func() error {
			found[i], errs[i] = read(ctx, store, n, live)
			return nil
		})
	}
	_ = group.Wait() // the errors are kept by run
	for i, err := range errs {
		var broken *DamagedError
		switch {
		case errors.As(err, &broken):
			damaged = append(damaged, broken)
		case errors.Is(err, fs.ErrNotExist): // it was old, and went while we were reading
		case err != nil:
			return nil, nil, err
		default:
			runs = append(runs, found[i])
		}
	}
	return runs, damaged, nil
}

// Get reads one complete run; live is as for List. The error is fs.ErrNotExist if there is no run
// with that number, and a *DamagedError if it cannot be read.
func Get(ctx context.Context, store Store, number int, live bool) (*Run, error) {
	run, err := read(ctx, store, number, live)
	if err != nil {
		return nil, err
	}
	if run.planned > 0 {
		steps, err := store.Get(ctx, stepsEntry(number))
		if err != nil {
			return nil, fmt.Errorf("the steps of run %d: %w", number, err)
		}
		if err := run.join(steps.Reveal()); err != nil {
			return nil, &DamagedError{Number: number, Name: stepsEntry(number), Err: err}
		}
	}
	plan, err := store.Get(ctx, planEntry(number))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the plan of run %d: %w", number, err)
	case !json.Valid(plan.Reveal()):
		return nil, &DamagedError{Number: number, Name: planEntry(number), Err: errors.New("it is not JSON")}
	default:
		run.Plan = plan.Reveal()
	}
	return run, nil
}

// read returns the contents of a run's document.
func read(ctx context.Context, store Store, number int, live bool) (*Run, error) {
	content, err := store.Get(ctx, entry(number))
	if err != nil {
		return nil, fmt.Errorf("run %d: %w", number, err)
	}
	run, err := decode(content.Reveal())
	if err == nil && run.Number != number {
		err = fmt.Errorf("it says that it is run %d", run.Number)
	}
	if err != nil {
		return nil, &DamagedError{Number: number, Name: entry(number), Err: err}
	}
	if run.Result == Running && !live {
		run.abandon()
	}
	return run, nil
}
