package diagnose

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// FlowGroup is the live flows of one access path that go to one endpoint and are alike.
type FlowGroup struct {
	Path intent.AccessPath
	// Endpoint is where the replies come from.
	Endpoint netip.AddrPort
	// Current is true when it is an endpoint of the Service today, whatever its state.
	Current bool
	// State is the TCP state in conntrack's words, empty for others; Unreplied is true when no reply was seen.
	State     string
	Unreplied bool
	// DNAT and SNAT say what conntrack translates: the destination, the source.
	DNAT, SNAT bool
	Count      int
	// ExpiresSeconds is the longest time until one of them expires.
	ExpiresSeconds int
	// Zone is the conntrack zone of their original direction, 0 for the default one.
	Zone uint16
	// YoungestSeconds and OldestSeconds bound how long they have been there; nil unless the kernel notes it for every one.
	YoungestSeconds, OldestSeconds *int64
	// Nodes are where they were found.
	Nodes []string
}

// FlowGroups sorts the live flows of all nodes: by access path, endpoint and state.
func FlowGroups(m *intent.Model, nodes []*survey.Node) []FlowGroup {
	type key struct {
		endpoint        netip.AddrPort
		state           string
		unreplied, d, s bool
		zone            uint16
	}
	var out []FlowGroup
	for _, p := range m.Paths {
		by := map[key]*FlowGroup{}
		var groups []*FlowGroup
		for _, n := range nodes {
			for _, f := range n.FlowsOf(p) {
				k := key{plainAddress(f.ReplySource), f.State, f.Unreplied, translatesDestination(f), translatesSource(f), f.Zone}
				g := by[k]
				if g == nil {
					_, current := known(m, p, k.endpoint)
					g = &FlowGroup{Path: p, Endpoint: k.endpoint, Current: current, State: f.State, Unreplied: f.Unreplied, DNAT: k.d, SNAT: k.s, Zone: k.zone}
					g.YoungestSeconds, g.OldestSeconds = f.AgeSeconds, f.AgeSeconds
					by[k] = g
					groups = append(groups, g)
				}
				g.Count++
				g.age(f.AgeSeconds)
				g.ExpiresSeconds = max(g.ExpiresSeconds, f.TimeoutSeconds)
				if !slices.Contains(g.Nodes, n.Name) {
					g.Nodes = append(g.Nodes, n.Name)
				}
			}
		}
		slices.SortStableFunc(groups, func(a, b *FlowGroup) int {
			return cmp.Or(a.Endpoint.Compare(b.Endpoint), strings.Compare(a.State, b.State))
		})
		for _, g := range groups {
			out = append(out, *g)
		}
	}
	return out
}

// age counts one more flow's age in; one that is not known leaves that of the group unknown.
func (g *FlowGroup) age(seconds *int64) {
	if seconds == nil || g.OldestSeconds == nil {
		g.YoungestSeconds, g.OldestSeconds = nil, nil
		return
	}
	if *seconds < *g.YoungestSeconds {
		g.YoungestSeconds = seconds
	}
	if *seconds > *g.OldestSeconds {
		g.OldestSeconds = seconds
	}
}

func translatesDestination(f wire.Flow) bool {
	return plainAddress(f.ReplySource) != plainAddress(f.Destination)
}

func translatesSource(f wire.Flow) bool {
	return plainAddress(f.ReplyDestination) != plainAddress(f.Source)
}

// NAT names what is translated: dnat, snat, both, or none.
func (g FlowGroup) NAT() string {
	switch {
	case g.DNAT && g.SNAT:
		return "dnat+snat"
	case g.DNAT:
		return "dnat"
	case g.SNAT:
		return "snat"
	default:
		return "none"
	}
}
