package intent

import (
	"slices"
	"strings"
)

// topologyMode is how hints narrow the cluster-wide endpoints on one node.
type topologyMode int

const (
	everywhere topologyMode = iota
	sameZone
	sameNode
)

// topology applies kube-proxy's rules for hints: they count only when every ready endpoint has one and one of them names
// this node (from 1.34) or its zone. Up to 1.30 the Service also needs an annotation.
func (m *Model) topology(ready []Endpoint, n Node) topologyMode {
	if len(ready) == 0 {
		return everywhere
	}
	if n.Release.Before(31) {
		if m.HintsAnnotation == "" || strings.EqualFold(m.HintsAnnotation, "disabled") {
			return everywhere
		}
	}
	if !n.Release.Before(34) && hinted(ready, func(e Endpoint) []string { return e.ForNodes }, n.Name) {
		return sameNode
	}
	if n.Zone != "" && hinted(ready, func(e Endpoint) []string { return e.ForZones }, n.Zone) {
		return sameZone
	}
	return everywhere
}

// hinted reports whether every endpoint has a hint and at least one names what is here.
func hinted(eps []Endpoint, hints func(Endpoint) []string, here string) bool {
	named := false
	for _, e := range eps {
		h := hints(e)
		if len(h) == 0 {
			return false
		}
		named = named || slices.Contains(h, here)
	}
	return named
}

// narrow keeps the endpoints that the mode lets this node use.
func (t topologyMode) narrow(eps []Endpoint, n Node) []Endpoint {
	switch t {
	case sameNode:
		return keep(eps, func(e Endpoint) bool { return slices.Contains(e.ForNodes, n.Name) })
	case sameZone:
		return keep(eps, func(e Endpoint) bool { return slices.Contains(e.ForZones, n.Zone) })
	default:
		return eps
	}
}

func keep(eps []Endpoint, ok func(Endpoint) bool) []Endpoint {
	var out []Endpoint
	for _, e := range eps {
		if ok(e) {
			out = append(out, e)
		}
	}
	return out
}
