package survey

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/journey"
)

// affinity asks which clients the node keeps with which endpoint, if the Service has session affinity.
func affinity(ctx context.Context, a journey.Agent, m *intent.Model, n *Node) error {
	lists := m.AffinityLists()
	if len(lists) == 0 {
		return nil
	}
	r := &wire.AffinityRequest{TimeoutSeconds: int64(m.Affinity.Seconds())}
	for _, l := range lists {
		r.Lists = append(r.Lists, wire.AffinityList{Endpoint: l.Endpoint, Recent: l.Recent, Set: l.Set})
	}
	ans, err := a.Ask(ctx, wire.Request{Affinity: r})
	switch {
	case err != nil:
		return err
	case ans.Error != nil:
		n.AffinityError = ans.Error.Message
	case ans.Affinity == nil:
		return fmt.Errorf("the agent on node %s answered an affinity request with something else", n.Name)
	default:
		n.Affinity, n.AffinityTotal = ans.Affinity.Entries, max(ans.Affinity.Total, len(ans.Affinity.Entries))
	}
	n.Micros += ans.Micros
	slices.SortFunc(n.Affinity, func(a, b wire.AffinityEntry) int {
		return cmp.Or(a.Client.Compare(b.Client), a.Endpoint.Compare(b.Endpoint))
	})
	return nil
}
