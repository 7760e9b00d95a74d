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

// Store is what the journal uses of a state store: *state.Store has it.
type Store interface {
	Put(ctx context.Context, items map[string]secret.Bytes) error
	Get(ctx context.Context, name string) (secret.Bytes, error)
	List(ctx context.Context, prefix string) ([]string, error)
	Remove(ctx context.Context, names ...string) error
}

const (
	prefix = "runs/"
	// kept is how many runs a store keeps.
	kept = 100
	// readers is how many runs are read at a time: a bucket may be far away.
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

// Numbers gives the numbers of the runs in the store, the oldest first.
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

// List gives the runs in the store, the oldest first, and what is wrong with those that cannot be read.
//
// They lack what is large: their plans, and all of planned steps but what became of them. Counts are right: Count and
// Changes. live says whether a process holds the store's lock. Where none does, a run that says that it is running has
// lost its process, and is given as Interrupted.
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

// Get reads one run with all that it has; live is as for List. errors.Is finds fs.ErrNotExist where there is none of
// that number, and a *DamagedError is one that cannot be read.
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

// read gives what the document of a run has.
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
