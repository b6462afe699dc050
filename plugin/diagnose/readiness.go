package diagnose

import (
	"fmt"
	"strings"
)

// NoReadyEndpoints is the most common cause of all.
var NoReadyEndpoints = Kind{
	ID: "no-ready-endpoints", Severity: Error, Title: "no endpoints",
	Means: "A service port has no endpoint that could answer: no pod matches the selector, none has the target port, or those that do are not ready. " +
		"Every node refuses the connection.",
	Proven:     "No EndpointSlice of the Service holds an endpoint for the port that is ready, or that still serves while it terminates.",
	Fix:        "see the pods and their readiness: kubectl get pods, kubectl describe",
	References: []string{"kubernetes/kubernetes#17359", "kubernetes/kubernetes#97360", "kubernetes/kubernetes#112233"},
}

func readinessFamily() Family {
	return Family{Name: "Endpoints in the API", Kinds: []Kind{NoReadyEndpoints}, check: checkReadiness}
}

// checkReadiness reports service ports that no endpoint serves.
func checkReadiness(s *scene, l *ledger) {
	m := s.model
	for i, p := range m.Ports {
		usable := 0
		var states []string
		for _, e := range p.Endpoints {
			if e.Ready || e.Serving && e.Terminating {
				usable++
			}
			states = append(states, fmt.Sprintf("endpoint %s is %s", endpointName(e), e.State()))
		}
		if usable > 0 {
			continue
		}
		d := draft{kind: NoReadyEndpoints, subject: fmt.Sprintf("%s %d/%s", p.Family, p.Port, p.Protocol), evidence: states}
		what := fmt.Sprintf("port %d/%s (%s) of the Service", p.Port, strings.ToUpper(p.Protocol), p.Family)
		switch {
		case len(p.Endpoints) > 0:
			d.sentence = fmt.Sprintf("none of the %d endpoints of %s is ready: clients are refused", len(p.Endpoints), what)
		case m.Selector == "":
			d.sentence = what + " has no endpoints: the Service has no selector, so someone must write its EndpointSlices, and clients are refused"
		default:
			d.sentence = fmt.Sprintf("%s has no endpoints: no pod with an address matches %s, or none has the target port %s; clients are refused", what, m.Selector, p.Target)
		}
		d.evidence = append(d.evidence, m.Notes...)
		var places []Place
		for _, path := range m.Paths {
			if path.PortIndex == i {
				places = append(places, Place{Path: path})
			}
		}
		l.add("", d, places...)
	}
}
