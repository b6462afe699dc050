package cli

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/launch"
)

// reach finds the agents of a run, and starts one on a node when a walk comes there.
type reach struct {
	fleet *launch.Fleet
	model *intent.Model
	limit int

	mu      sync.Mutex
	allowed map[string]bool
	failed  map[string]error
}

// newReach allows the nodes that agents were started on, those that endpoints are on, and others up to a limit.
func newReach(fleet *launch.Fleet, m *intent.Model, started []intent.Node, limit int) *reach {
	r := &reach{fleet: fleet, model: m, limit: limit, allowed: map[string]bool{}, failed: map[string]error{}}
	with, _, _ := m.ChooseNodes(limit)
	for _, n := range append(slices.Clone(started), with...) {
		r.allowed[n.Name] = true
	}
	return r
}

// On implements journey.Agents.
func (r *reach) On(ctx context.Context, node string) (journey.Agent, error) {
	if !r.allow(node) {
		return nil, journey.ErrLimit
	}
	if _, skipped, _ := r.model.NamedNodes([]string{node}); len(skipped) > 0 {
		return nil, r.fail(node, errors.New(skipped[0].Why))
	}
	r.fleet.Add(node)
	a, err := r.fleet.Agent(ctx, node)
	if err != nil {
		return nil, r.fail(node, err)
	}
	return a, nil
}

func (r *reach) allow(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.allowed[node] && len(r.allowed) >= r.limit {
		return false
	}
	r.allowed[node] = true
	return true
}

// fail notes why a node could not be asked.
func (r *reach) fail(node string, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed[node] == nil && !errors.Is(err, context.Canceled) {
		r.failed[node] = err
	}
	return err
}

// skipped lists the nodes that walks came to and that could not be asked, but for those that are named already.
func (r *reach) skipped(already []intent.Skipped) []intent.Skipped {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []intent.Skipped
	for node, err := range r.failed {
		if !slices.ContainsFunc(already, func(s intent.Skipped) bool { return s.Node == node }) {
			out = append(out, intent.Skipped{Node: node, Why: err.Error()})
		}
	}
	slices.SortFunc(out, func(a, b intent.Skipped) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return out
}
