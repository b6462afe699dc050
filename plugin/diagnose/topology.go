package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// The kinds of this family: topology hints.
var (
	HintsIgnored = Kind{
		ID: "hints-ignored", Severity: Info, Title: "hints ignored",
		Means: "The Service asks for connections to stay near, and they do not: kube-proxy takes hints only if every ready endpoint has one and one of " +
			"them names the node or its zone.",
		Proven: "The ready endpoints of the port are gone through by kube-proxy's own rules; the endpoint without a hint, or the node without a matching zone, is named.",
		Fix: "give the pods' nodes the label topology.kubernetes.io/zone, run endpoints in each zone, and see the events of the Service: the control plane " +
			"withholds hints where zones are too uneven",
		References: []string{"kubernetes/kubernetes#122437", "gardener/gardener#6718"},
	}
	HintsConcentrate = Kind{
		ID: "hints-concentrate", Severity: Info, Title: "one endpoint for the zone",
		Means:      "Topology hints send all connections from a node to a single endpoint, while others exist elsewhere. It carries the load of its whole zone.",
		Proven:     "By the hints one endpoint is left for the node, of three or more that are ready.",
		Fix:        "spread the pods over the zones with topologySpreadConstraints, or remove trafficDistribution",
		References: []string{"kubernetes/kubernetes#122437"},
	}
)

func topologyFamily() Family {
	return Family{Name: "Topology", Kinds: []Kind{HintsIgnored, HintsConcentrate}, check: checkTopology}
}

// wantsNear says what asks for connections to stay near; empty if nothing does.
func (s *scene) wantsNear() string {
	if s.api.Service == nil {
		return ""
	}
	if d := s.api.Service.Spec.TrafficDistribution; d != nil {
		return "trafficDistribution " + *d
	}
	if a := s.model.HintsAnnotation; a != "" && !strings.EqualFold(a, "disabled") {
		return "annotation service.kubernetes.io/topology-mode: " + a
	}
	return ""
}

// checkTopology looks at each service port, as each traced node sees it.
func checkTopology(s *scene, l *ledger) {
	asked := s.wantsNear()
	if asked == "" {
		return
	}
	for i := range s.model.Ports {
		p := &s.model.Ports[i]
		var ready, without []intent.Endpoint
		for _, e := range p.Endpoints {
			if !e.Ready {
				continue
			}
			ready = append(ready, e)
			if len(e.ForZones)+len(e.ForNodes) == 0 {
				without = append(without, e)
			}
		}
		if len(ready) == 0 {
			continue
		}
		if len(without) > 0 {
			d := draft{kind: HintsIgnored, subject: portSubject(p), evidence: []Evidence{s.asking(asked)}}
			d.sentence = fmt.Sprintf("%s is asked for, and %d of %d ready endpoints have no hint, so all nodes use all endpoints", asked, len(without), len(ready))
			for _, e := range without {
				zone := ""
				if e.Zone == "" {
					zone = ", and its node no zone"
				}
				d.evidence = append(d.evidence, s.endpointField(e, "hints", "", "endpoint %s has no hint%s", endpointName(e), zone))
			}
			l.add("", d, s.placesOf(i)...)
			continue
		}
		for _, n := range s.nodes {
			checkHintsOn(s, l, i, n.Node, ready, asked)
		}
	}
}

func checkHintsOn(s *scene, l *ledger, i int, n intent.Node, ready []intent.Endpoint, asked string) {
	p := &s.model.Ports[i]
	var here []intent.Endpoint
	for _, e := range ready {
		if slices.Contains(e.ForNodes, n.Name) || n.Zone != "" && slices.Contains(e.ForZones, n.Zone) {
			here = append(here, e)
		}
	}
	switch {
	case len(here) == 0:
		why := fmt.Sprintf("no endpoint has a hint for its zone %s", n.Zone)
		if n.Zone == "" {
			why = "the node has no label topology.kubernetes.io/zone"
		}
		l.add(n.Name, draft{
			kind: HintsIgnored, subject: portSubject(p) + " on nodes", evidence: []Evidence{s.asking(asked), field("Node", "", n.Name, "metadata.labels[topology.kubernetes.io/zone]", n.Zone, "node %s: %s", n.Name, why)},
			sentence: fmt.Sprintf("%s is asked for, and the node uses all endpoints: %s", asked, why),
		}, s.placesOf(i)...)
	case len(here) == 1 && len(ready) >= 3:
		l.add(n.Name, draft{
			kind: HintsConcentrate, subject: here[0].Address.String(),
			sentence: fmt.Sprintf("by the hints all connections go to endpoint %s, of %d that are ready", endpointName(here[0]), len(ready)),
			evidence: []Evidence{s.asking(asked), s.endpointField(here[0], "hints", strings.Join(append(slices.Clone(here[0].ForZones), here[0].ForNodes...), ", "), "hints of %s: zones %s, nodes %s", here[0].Address, cmp.Or(strings.Join(here[0].ForZones, ", "), "none"), cmp.Or(strings.Join(here[0].ForNodes, ", "), "none"))},
		}, s.placesOf(i)...)
	}
}

// asking is what asks for connections to stay near, as evidence.
func (s *scene) asking(asked string) Evidence {
	if v, ok := strings.CutPrefix(asked, "trafficDistribution "); ok {
		return s.serviceField("spec.trafficDistribution", v, "%s", asked)
	}
	return s.serviceField("metadata.annotations[service.kubernetes.io/topology-mode]", s.model.HintsAnnotation, "%s", asked)
}
