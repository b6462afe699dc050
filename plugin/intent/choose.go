package intent

import (
	"fmt"
	"slices"
)

// Skipped is a node that ought to be traced but cannot be, or a client that no packet can start from.
type Skipped struct {
	// Node is the node, or the client's, as far as it has one.
	Node string
	// Client is the client as the user named it; empty when the node itself cannot be traced.
	Client string
	Why    string
}

// ChooseNodes picks the nodes to trace: those that run a usable endpoint, and one that runs none, where only a client
// could be. At most limit nodes are picked. Nodes that are not ready, run another operating system or are not in the API are
// returned as skipped; left says how many more nodes run endpoints.
func (m *Model) ChooseNodes(limit int) (chosen []Node, skipped []Skipped, left int) {
	with := m.EndpointNodes()
	for _, name := range with {
		n, ok := m.Node(name)
		switch why := m.cannotTrace(name, n, ok); {
		case why != "":
			skipped = append(skipped, Skipped{Node: name, Why: why})
		case len(chosen) < limit:
			chosen = append(chosen, n)
		default:
			left++
		}
	}
	if len(chosen) == limit && limit > 1 && left > 0 {
		return chosen, skipped, left
	}
	for _, n := range m.Nodes {
		if !slices.Contains(with, n.Name) && m.cannotTrace(n.Name, n, true) == "" && len(chosen) < limit {
			return append(chosen, n), skipped, left
		}
	}
	return chosen, skipped, left
}

// NamedNodes looks up the nodes that the user named. Unknown names are returned apart from nodes that cannot be traced.
func (m *Model) NamedNodes(names []string) (chosen []Node, skipped []Skipped, unknown []string) {
	for _, name := range names {
		n, ok := m.Node(name)
		switch why := m.cannotTrace(name, n, ok); {
		case !ok:
			unknown = append(unknown, name)
		case why != "":
			skipped = append(skipped, Skipped{Node: name, Why: why})
		case !slices.ContainsFunc(chosen, func(c Node) bool { return c.Name == name }):
			chosen = append(chosen, n)
		}
	}
	return chosen, skipped, unknown
}

func (m *Model) cannotTrace(name string, n Node, found bool) string {
	switch {
	case !found:
		return fmt.Sprintf("node %s is named by an EndpointSlice but is not in the API", name)
	case n.OS != "" && n.OS != "linux":
		return fmt.Sprintf("node %s runs %s; only Linux nodes can be traced", name, n.OS)
	case !n.Ready:
		return fmt.Sprintf("node %s is not ready: %s", name, n.NotReady)
	}
	return ""
}
