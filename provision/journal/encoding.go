package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"slipway.dev/slipway/provision/secret"
)

// A run is stored in up to three entries. Its document is rewritten with every event, so it must be
// small: it lacks what does not change during the run. That is in the other entries, which are
// written once, before the document refers to them.
func entry(number int) string      { return fmt.Sprintf("%s%06d.json", prefix, number) }
func planEntry(number int) string  { return fmt.Sprintf("%s%06d.plan.json", prefix, number) }
func stepsEntry(number int) string { return fmt.Sprintf("%s%06d.steps.json", prefix, number) }

// entries are all that a run may have, the document last: as long as it is there, it is known which
// run they are of.
func entries(number int) []string {
	return []string{planEntry(number), stepsEntry(number), entry(number)}
}

// document is the stored form of a run.
type document struct {
	Run
	// Planned is the number of first steps whose planned part is in the steps entry.
	Planned int `json:"planned,omitempty"`
	// PlannedChanges is the number of changes there.
	PlannedChanges int `json:"plannedChanges,omitempty"`
}

// plannedStep is the part of a step that does not change.
type plannedStep struct {
	Name    string   `json:"name"`
	Host    string   `json:"host,omitempty"`
	Kind    Kind     `json:"kind"`
	Deps    []string `json:"deps,omitempty"`
	Changes []string `json:"changes,omitempty"`
}

// cut takes the planned part out of a step.
func (s *Step) cut() plannedStep {
	p := plannedStep{s.Name, s.Host, s.Kind, s.Deps, s.Changes}
	s.Name, s.Host, s.Kind, s.Deps, s.Changes = "", "", "", nil, nil
	return p
}

// encode returns the document of a run.
func (r Run) encode() (map[string]secret.Bytes, error) {
	d := document{Run: r, Planned: r.planned, PlannedChanges: r.unread}
	d.Plan, d.Steps = nil, slices.Clone(r.Steps)
	for i := range d.Steps[:r.planned] {
		d.PlannedChanges += len(d.Steps[i].cut().Changes)
	}
	content, err := json.Marshal(d)
	return map[string]secret.Bytes{entry(r.Number): content}, err
}

// encodePlanned returns the other entries.
func (r Run) encodePlanned() (map[string]secret.Bytes, error) {
	items := map[string]secret.Bytes{}
	if r.Plan != nil {
		items[planEntry(r.Number)] = secret.Bytes(r.Plan)
	}
	if r.planned == 0 {
		return items, nil
	}
	steps := make([]plannedStep, r.planned)
	for i := range steps {
		s := r.Steps[i]
		steps[i] = s.cut()
	}
	content, err := json.Marshal(steps)
	items[stepsEntry(r.Number)] = content
	return items, err
}

// decode decodes a document. Its steps lack what is in the steps entry.
func decode(content []byte) (*Run, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return nil, err
	}
	switch {
	case head.Version < 1:
		return nil, errors.New("it has no version")
	case head.Version > Version:
		return nil, fmt.Errorf("it has format %d, but this slipway only supports formats up to %d", head.Version, Version)
	}
	var d document
	if err := json.Unmarshal(content, &d); err != nil {
		return nil, err
	}
	switch {
	case d.Began.IsZero() || d.Result == "":
		return nil, errors.New("it lacks its beginning or its result")
	case d.Planned < 0 || d.Planned > len(d.Steps) || d.PlannedChanges < 0:
		return nil, fmt.Errorf("it has %d steps, of which %d were planned with %d changes", len(d.Steps), d.Planned, d.PlannedChanges)
	}
	d.planned, d.unread = d.Planned, d.PlannedChanges
	return &d.Run, nil
}

// join adds the data of the steps entry to the steps of a run.
func (r *Run) join(content []byte) error {
	var steps []plannedStep
	if err := json.Unmarshal(content, &steps); err != nil {
		return err
	}
	if len(steps) != r.planned {
		return fmt.Errorf("it has %d steps, and %d were planned", len(steps), r.planned)
	}
	for i, p := range steps {
		s := &r.Steps[i]
		s.Name, s.Host, s.Kind, s.Deps, s.Changes = p.Name, p.Host, p.Kind, p.Deps, p.Changes
	}
	r.planned, r.unread = 0, 0
	return nil
}
