package diagnose

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
)

// The kinds of this family: Services that no node translates.
var (
	HeadlessPort = Kind{
		ID: "headless-port", Severity: Warning, Title: "headless port differs",
		Means: "The Service is headless: its name leads to the pods themselves, and nothing translates ports. A client that connects to the Service's port " +
			"is refused by the pod, which listens on another.",
		Proven:     "clusterIP is None, and the port of the Service differs from the one that the pods listen on.",
		Fix:        "connect to the pods' own port, or give the Service port the same number, or a ClusterIP",
		References: []string{"kubernetes/kubernetes#131270", "kubernetes/kubernetes#20488", "istio/istio#51908", "istio/istio#23675"},
	}
	HeadlessWithoutEndpoints = Kind{
		ID: "headless-without-endpoints", Severity: Error, Title: "name without addresses",
		Means:      "The Service is headless and has no ready endpoint: its name cannot be resolved. Pods that wait for each other's names before they become ready never do.",
		Proven:     "clusterIP is None, publishNotReadyAddresses is false, and no endpoint is ready.",
		Fix:        "see why no pod is ready; if pods need each other to become ready, set publishNotReadyAddresses: true",
		References: []string{"kubernetes/kubernetes#78290"},
	}
	ExternalNameIsAddress = Kind{
		ID: "external-name-is-address", Severity: Error, Title: "externalName is an address",
		Means:      "externalName holds an IP address. DNS answers with a CNAME to it as if it were a host name, which cannot be resolved.",
		Proven:     "spec.externalName parses as an IP address.",
		Fix:        "make a Service without a selector, and an EndpointSlice with the address",
		References: []string{"kubernetes/kubernetes#61226", "istio/istio#20703"},
	}
	ExternalNamePorts = Kind{
		ID: "external-name-ports-ignored", Severity: Info, Title: "ports have no effect",
		Means:      "The Service is of type ExternalName: its name is an alias in DNS, and its ports translate nothing. Clients must use the target's own port, and its host name in TLS and HTTP.",
		Proven:     "spec.type is ExternalName, and spec.ports is not empty.",
		Fix:        "connect to the port of the target itself; for another port, make a Service without a selector and an EndpointSlice",
		References: []string{"istio/istio#27484", "istio/istio#20703"},
	}
)

func untranslatableFamily() Family {
	return Family{Name: "Services that no node translates", Kinds: []Kind{HeadlessPort, HeadlessWithoutEndpoints, ExternalNameIsAddress, ExternalNamePorts}}
}

// Untranslatable looks at a Service that no node translates: headless, or of type ExternalName.
func Untranslatable(api *apistate.State) []Finding {
	var l ledger
	svc := api.Service
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		checkExternalName(svc, &l)
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		checkHeadless(api, &l)
	}
	return fold(l.sorted())
}

func checkExternalName(svc *corev1.Service, l *ledger) {
	if _, err := netip.ParseAddr(svc.Spec.ExternalName); err == nil {
		l.add("", draft{
			kind: ExternalNameIsAddress, evidence: []Evidence{field("Service", svc.Namespace, svc.Name, "spec.externalName", svc.Spec.ExternalName, "spec.externalName: %s", svc.Spec.ExternalName)},
			sentence: fmt.Sprintf("externalName %s is an address, and DNS cannot make it an alias: the Service's name cannot be resolved", svc.Spec.ExternalName),
		})
	}
	if len(svc.Spec.Ports) > 0 {
		var ports []string
		for _, p := range svc.Spec.Ports {
			ports = append(ports, fmt.Sprintf("%d/%s", p.Port, protocolOr(p.Protocol)))
		}
		l.add("", draft{
			kind: ExternalNamePorts, evidence: []Evidence{field("Service", svc.Namespace, svc.Name, "spec.ports", strings.Join(ports, ", "), "spec.ports: %s", strings.Join(ports, ", "))},
			sentence: fmt.Sprintf("the ports %s have no effect: the name is an alias of %s, whose own ports count", strings.Join(ports, ", "), svc.Spec.ExternalName),
		})
	}
}

func checkHeadless(api *apistate.State, l *ledger) {
	svc := api.Service
	ready := 0
	for i := range api.Slices {
		for k := range api.Slices[i].Endpoints {
			if r := api.Slices[i].Endpoints[k].Conditions.Ready; r == nil || *r {
				ready++
			}
		}
	}
	if ready == 0 && !svc.Spec.PublishNotReadyAddresses {
		d := draft{kind: HeadlessWithoutEndpoints, sentence: "no endpoint is ready, so the Service's name has no address", evidence: []Evidence{field("Service", svc.Namespace, svc.Name, "spec.publishNotReadyAddresses", "false", "publishNotReadyAddresses: false")}}
		s := &scene{api: api}
		for _, p := range s.matchingPods() {
			if why := s.whyNotReady(p); why != "" {
				d.evidence = append(d.evidence, field("Pod", p.Namespace, p.Name, "status.conditions[Ready]", "False", "pod %s: %s", p.Name, why))
			}
		}
		if len(d.evidence) > 1 {
			d.sentence += ": " + d.evidence[1].Text
		}
		l.add("", d)
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		var pods []string
		for k := range api.Slices {
			for _, sp := range api.Slices[k].Ports {
				if sp.Name != nil && *sp.Name == p.Name && sp.Port != nil && *sp.Port != p.Port {
					pods = appendNew(pods, fmt.Sprint(*sp.Port))
				}
			}
		}
		if len(pods) == 0 {
			continue
		}
		l.add("", draft{
			kind: HeadlessPort, subject: fmt.Sprintf("%d/%s", p.Port, protocolOr(p.Protocol)),
			sentence: fmt.Sprintf("the Service is headless and its port %d is not translated: the pods listen on %s, and clients must connect there", p.Port, strings.Join(pods, ", ")),
			evidence: []Evidence{field("Service", svc.Namespace, svc.Name, "spec.ports[].targetPort", p.TargetPort.String(), "Service %s: port %d, targetPort %s", svc.Name, p.Port, p.TargetPort.String())},
		})
	}
}
