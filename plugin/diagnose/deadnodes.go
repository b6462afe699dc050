package diagnose

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// EndpointOnDeadNode is found where a node has failed and the API has not drawn the consequence yet.
var EndpointOnDeadNode = Kind{
	ID: "endpoint-on-dead-node", Severity: Warning, Title: "endpoint on a dead node",
	Means: "A node is not ready, and the EndpointSlices still list its pods as ready. Until they are marked, every node sends them their share of the " +
		"connections, which time out if the node is really gone. When all endpoints are on such nodes it is an error.",
	Proven:     "The endpoint is ready in its EndpointSlice, and the Ready condition of its node is not True, or the node does not exist.",
	Fix:        "bring the node back, or, if it is gone for good, delete it or taint it node.kubernetes.io/out-of-service; its pods are then moved",
	References: []string{"kubernetes/kubernetes#8335", "kubernetes/kubernetes#17284", "kubernetes/kubernetes#16257"},
}

func deadNodeFamily() Family {
	return Family{Name: "Nodes in the API", Kinds: []Kind{EndpointOnDeadNode}, check: checkDeadNodes}
}

func checkDeadNodes(s *scene, l *ledger) {
	if len(s.api.Nodes) == 0 {
		return
	}
	for i := range s.model.Ports {
		p := &s.model.Ports[i]
		usableCount, dead := 0, map[string][]intent.Endpoint{}
		var order []string
		for _, e := range p.Endpoints {
			if !e.Ready {
				continue
			}
			usableCount++
			if n, ok := s.model.Node(e.Node); e.Node != "" && (!ok || !n.Ready) {
				if dead[e.Node] == nil {
					order = append(order, e.Node)
				}
				dead[e.Node] = append(dead[e.Node], e)
			}
		}
		total := 0
		for _, eps := range dead {
			total += len(eps)
		}
		for _, name := range order {
			why := "is not in the API"
			if n, ok := s.model.Node(name); ok {
				why = "is not ready (" + n.NotReady + ")"
			}
			d := draft{
				kind: EndpointOnDeadNode, subject: name,
				sentence: fmt.Sprintf("node %s %s, and %d of %d ready endpoints are on it: connections to them are likely to time out", name, why, len(dead[name]), usableCount),
			}
			if total == usableCount {
				d.severity = Error
			}
			for _, e := range dead[name] {
				d.evidence = append(d.evidence, s.endpointField(e, "conditions.ready", "true", "endpoint %s is ready in EndpointSlice %s", endpointName(e), e.Slice))
			}
			l.add("", d, s.placesOf(i)...)
		}
	}
}
