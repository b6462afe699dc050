package render

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// kept is a client that a node keeps with an endpoint.
type kept struct {
	node  string
	entry wire.AffinityEntry
}

// keptClients lists the clients of all nodes, by address.
func keptClients(a *Answer) []kept {
	var out []kept
	for _, n := range a.Nodes {
		for _, e := range n.Affinity {
			out = append(out, kept{n.Name, e})
		}
	}
	slices.SortStableFunc(out, func(a, b kept) int { return a.entry.Client.Compare(b.entry.Client) })
	return out
}

// isEndpoint reports whether an address is an endpoint of the Service today, whatever its state.
func isEndpoint(m *intent.Model, a netip.AddrPort) bool {
	for _, p := range m.Ports {
		if slices.ContainsFunc(p.Endpoints, func(e intent.Endpoint) bool { return e.Address == a }) {
			return true
		}
	}
	return false
}

// affinity writes which clients session affinity keeps with which endpoint; nothing where it keeps none.
func (p *page) affinity(a *Answer) error {
	const limit = 12
	all, total := keptClients(a), 0
	var unread []string
	for _, n := range a.Nodes {
		total += n.AffinityTotal
		if n.AffinityError != "" {
			unread = append(unread, fmt.Sprintf("  %s: could not be read: %s", n.Name, n.AffinityError))
		}
	}
	if len(all)+len(unread) == 0 {
		return nil
	}
	p.blank()
	p.line(bold, "AFFINITY")
	shown := all
	if !p.wide {
		shown = all[:min(len(all), limit)]
	}
	var rows [][]string
	for _, k := range shown {
		rows = append(rows, []string{k.entry.Client.String(), k.entry.Endpoint.String(), leftText(k.entry.LeftSeconds), k.node})
	}
	if len(rows) > 0 {
		if err := p.table([]string{"CLIENT", "STAYS WITH", "LEFT", "NODE"}, rows); err != nil {
			return err
		}
	}
	if more := max(total, len(all)) - len(shown); more > 0 {
		hint := ""
		if len(shown) < len(all) {
			hint = " (-o wide shows more)"
		}
		p.line(plain, fmt.Sprintf("  … %d more%s", more, hint))
	}
	for _, u := range unread {
		p.line(yellow, u)
	}
	return nil
}

// leftText is a time to the second, since it runs out: "2h59m12s".
func leftText(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }

// affinityOf is the same for the model.
func affinityOf(a *Answer) []Affinity {
	out := []Affinity{}
	for _, k := range keptClients(a) {
		out = append(out, Affinity{
			Node: k.node, Client: k.entry.Client, Endpoint: k.entry.Endpoint, Current: isEndpoint(a.Model, k.entry.Endpoint),
			LeftSeconds: k.entry.LeftSeconds, Where: k.entry.Where,
		})
	}
	return out
}
