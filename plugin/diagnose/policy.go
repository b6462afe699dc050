package diagnose

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: what the traffic policies ask for.
var (
	EndpointsWithoutNode = Kind{
		ID: "endpoints-without-node", Severity: Error, Title: "never local",
		Means: "A traffic policy of the Service is Local, and its endpoints do not say on which node they are. They are local to no node, so that " +
			"connections are dropped on all of them.",
		Proven:   "Every usable endpoint of the port has no nodeName in its EndpointSlice.",
		Fix:      "write nodeName into the endpoints of the EndpointSlice, or use the policy Cluster",
		Explains: []string{"no-local-endpoints", "external-policy-local"},
	}
	NoLocalEndpoints = Kind{
		ID: "no-local-endpoints", Severity: Info, Title: "no local endpoint, by design",
		Means: "internalTrafficPolicy is Local and the node runs no usable endpoint: connections from its pods to the ClusterIP are dropped, as asked. " +
			"Clients there wait until they give up, while clients on other nodes are served.",
		Proven:     "The walk is dropped on the node, and no endpoint in the EndpointSlices is on it.",
		Fix:        "internalTrafficPolicy Local needs an endpoint on every node with clients: use a DaemonSet, or the policy Cluster",
		References: []string{"kubernetes/kubernetes#121371", "kubernetes/kubernetes#134895"},
	}
	ExternalPolicyLocal = Kind{
		ID: "external-policy-local", Severity: Info, Title: "local only, by design",
		Means: "externalTrafficPolicy is Local, and the node runs no usable endpoint: connections from outside that arrive there are dropped, as asked. " +
			"A load balancer is to leave such nodes out, by the health check node port, which answers 503 there.",
		Proven:     "The walk from outside is dropped on the node, and no endpoint in the EndpointSlices is on it.",
		Fix:        "nothing, if a load balancer checks the health check node port; else send clients to nodes with endpoints, or use the policy Cluster",
		References: []string{"kubernetes/kubernetes#66354", "kubernetes/kubernetes#65387", "kubernetes/kubernetes#75262"},
	}
	SourceRangesExclude = Kind{
		ID: "source-ranges-exclude", Severity: Info, Title: "source not allowed",
		Means: "loadBalancerSourceRanges do not contain the address of pods or of the node, so their connections to the load balancer's address are dropped, " +
			"as asked. Pods that use the Service by its public name notice it.",
		Proven:     "The walk is dropped, and the client's address is in none of the ranges.",
		Fix:        "add the pod and node ranges to loadBalancerSourceRanges, or let clients in the cluster use the ClusterIP",
		References: []string{"kubernetes/kubernetes#110289", "kubernetes/kubernetes#88698", "kubernetes/kubernetes#33586", "cilium/cilium#34903"},
	}
)

func policyFamily() Family {
	return Family{Name: "Traffic policies", check: checkWithoutNode, Kinds: []Kind{EndpointsWithoutNode, NoLocalEndpoints, ExternalPolicyLocal, SourceRangesExclude}}
}

// checkWithoutNode looks for a policy Local that no endpoint can satisfy anywhere.
func checkWithoutNode(s *scene, l *ledger) {
	m := s.model
	if !m.InternalLocal && !m.ExternalLocal {
		return
	}
	for i := range m.Ports {
		p := &m.Ports[i]
		usable, placed := 0, 0
		var evidence []Evidence
		for _, e := range p.Endpoints {
			if e.Ready || e.Serving && e.Terminating {
				usable++
				if e.Node != "" {
					placed++
				}
				evidence = append(evidence, s.endpointField(e, "nodeName", "", "endpoint %s of EndpointSlice %s has no nodeName", e.Address, e.Slice))
			}
		}
		if usable == 0 || placed > 0 {
			continue
		}
		var places []Place
		var policies []string
		for _, path := range m.Paths {
			if path.PortIndex == i && (path.Kind == intent.ClusterIP && m.InternalLocal || path.Kind != intent.ClusterIP && m.ExternalLocal) {
				places = append(places, Place{Path: path})
			}
		}
		if m.InternalLocal {
			policies = append(policies, "internalTrafficPolicy")
		}
		if m.ExternalLocal {
			policies = append(policies, "externalTrafficPolicy")
		}
		l.add("", draft{
			kind: EndpointsWithoutNode, subject: portSubject(p), evidence: evidence,
			sentence: fmt.Sprintf("%s is Local, and no endpoint of %s says on which node it is: connections are dropped on every node", strings.Join(policies, " and "), portText(p)),
		}, places...)
	}
}

// checkAskedFor explains a drop that is as the API asks for.
func checkAskedFor(m *intent.Model, w *survey.Walk) []draft {
	switch {
	case w.Path.Kind == intent.ClusterIP:
		return []draft{{
			kind:     NoLocalEndpoints,
			sentence: "connections to the ClusterIP are dropped: internalTrafficPolicy is Local, and no usable endpoint runs on the node",
			evidence: []Evidence{value("nodes with usable endpoints", nodesOfUsable(m, w.Path), "usable endpoints are on %s", nodesOfUsable(m, w.Path))},
		}}
	case strings.Contains(w.Expect.Why, "loadBalancerSourceRanges"):
		if w.Client.Kind == intent.FromOutside {
			return nil // an address outside that is kept out is what ranges are for
		}
		return []draft{{
			kind: SourceRangesExclude, subject: string(w.Client.Kind) + " " + w.Path.String(),
			sentence: fmt.Sprintf("connections of %s to %s are dropped: loadBalancerSourceRanges %s do not contain it", clientText(w.Client), w.Path, joinPrefixes(m.SourceRanges)),
			evidence: []Evidence{field("Service", m.Namespace, m.Name, "spec.loadBalancerSourceRanges", joinPrefixes(m.SourceRanges), "loadBalancerSourceRanges: %s", joinPrefixes(m.SourceRanges))},
		}}
	case m.ExternalLocal && w.Client.Kind == intent.FromOutside:
		d := draft{
			kind:     ExternalPolicyLocal,
			sentence: "connections from outside are dropped, as asked: externalTrafficPolicy is Local, and no usable endpoint runs on the node",
			evidence: []Evidence{value("nodes with usable endpoints", nodesOfUsable(m, w.Path), "usable endpoints are on %s", nodesOfUsable(m, w.Path))},
		}
		if m.HealthCheckNodePort != 0 {
			d.evidence = append(d.evidence, value("healthCheckNodePort", m.HealthCheckNodePort, "health check node port %d of the node answers 503, so that a load balancer leaves it out", m.HealthCheckNodePort))
		}
		return []draft{d}
	}
	return nil
}

func clientText(c intent.Client) string {
	if c.Kind == intent.FromNode {
		return "the node itself"
	}
	return fmt.Sprintf("%s (%s)", c.Kind, c.Source)
}

// nodesOfUsable names the nodes that have endpoints of a path.
func nodesOfUsable(m *intent.Model, p intent.AccessPath) string {
	var names []string
	for _, e := range m.Ports[p.PortIndex].Endpoints {
		if e.Ready || e.Serving && e.Terminating {
			names = appendNew(names, cmp.Or(e.Node, "no named node"))
		}
	}
	if len(names) > 6 {
		names = append(names[:6], fmt.Sprintf("%d more", len(names)-6))
	}
	return strings.Join(names, ", ")
}

func appendNew(list []string, s string) []string {
	for _, o := range list {
		if o == s {
			return list
		}
	}
	return append(list, s)
}
