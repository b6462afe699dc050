package diagnose

import "fmt"

// The kinds of this family: who serves the Service's ports.
var (
	LeftToAnotherProxy = Kind{
		ID: "left-to-another-proxy", Severity: Warning, Title: "not kube-proxy's",
		Means: "A label hands the Service to another proxy than kube-proxy, which leaves it alone. If that proxy does not run, nothing translates the " +
			"Service's addresses.",
		Proven: "The Service has the label service.kubernetes.io/service-proxy-name.",
		Fix:    "see whether the proxy that the label names runs, or remove the label",
	}
)

func ownershipFamily() Family {
	return Family{Name: "Who serves the ports", Kinds: []Kind{LeftToAnotherProxy}, check: checkOwnership}
}

func checkOwnership(s *scene, l *ledger) {
	if p := s.model.OtherProxy; p != "" {
		l.add("", draft{
			kind: LeftToAnotherProxy, evidence: []Evidence{s.serviceField("metadata.labels[service.kubernetes.io/service-proxy-name]", p, "label service.kubernetes.io/service-proxy-name: %s", p)},
			sentence: fmt.Sprintf("kube-proxy leaves the Service to a proxy named %q: nothing translates its addresses unless that one runs", p),
		}, s.everyPlace()...)
	}
}
