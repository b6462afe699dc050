package diagnose

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// The kinds of this family: why a service port has no endpoint that can be used.
var (
	EndpointsNotReady = Kind{
		ID: "endpoints-not-ready", Severity: Error, Title: "not ready",
		Means: "Pods match the Service's selector, and none of them may be used: they are not ready, not running, or have no address yet. " +
			"Every node refuses the connection.",
		Proven: "The EndpointSlices hold no endpoint of the port that is ready. The reason is the pod's own: the state of its containers, its readiness " +
			"gates, or the message of the probe that fails.",
		Fix:        "mend what the reason names: kubectl describe pod shows the probe and its events",
		Explains:   []string{"no-ready-endpoints"},
		References: []string{"kubernetes/kubernetes#78290"},
	}
	PortNameMismatch = Kind{
		ID: "port-name-mismatch", Severity: Error, Title: "port name differs",
		Means: "EndpointSlices of the Service hold endpoints, but under another port name or protocol than the Service's port. Both are joined by name " +
			"and protocol, never by number, so the port has no endpoints.",
		Proven:     "An EndpointSlice of the Service has endpoints, and none of its ports has the name and protocol of the service port.",
		Fix:        "give the port of the EndpointSlice the name and protocol of the service port",
		Explains:   []string{"no-ready-endpoints"},
		References: []string{"kubernetes/kubernetes#79732", "kubernetes/kubernetes#16293", "istio/istio#17837"},
	}
	NamedTargetPortMissing = Kind{
		ID: "named-target-port-missing", Severity: Error, Title: "no such target port",
		Means: "The service port's targetPort is a name, and no container of the matching pods has a port of that name and protocol. Such pods are left out " +
			"of the port's endpoints without a word.",
		Proven:     "The pods' containers are searched for the name; the names that they do have are the evidence.",
		Fix:        "name the container's port as the Service's targetPort does, or use the number",
		Explains:   []string{"no-ready-endpoints"},
		References: []string{"kubernetes/kubernetes#79732"},
	}
	SelectorlessWithoutSlices = Kind{
		ID: "selectorless-without-slices", Severity: Error, Title: "nobody writes endpoints",
		Means:    "The Service has no selector, so the control plane writes no EndpointSlices for it, and nobody else did.",
		Proven:   "spec.selector is empty, and no EndpointSlice carries the label kubernetes.io/service-name with the Service's name.",
		Fix:      "give the Service a selector, or write an EndpointSlice with the label kubernetes.io/service-name",
		Explains: []string{"no-ready-endpoints"},
	}
	FamilyWithoutEndpoints = Kind{
		ID: "family-without-endpoints", Severity: Error, Title: "family without endpoints",
		Means: "The Service has addresses of both IP families, and endpoints of only one. Clients that look the name up may take the other family first, " +
			"and are refused.",
		Proven:     "The same service port has usable endpoints in one family and no endpoint at all in the other.",
		Fix:        "give the pods addresses of both families, or set ipFamilyPolicy: SingleStack on the Service",
		Explains:   []string{"no-ready-endpoints"},
		References: []string{"kubernetes/kubernetes#94505", "kubernetes/kubernetes#121631"},
	}
	NoReadyEndpoints = Kind{
		ID: "no-ready-endpoints", Severity: Error, Title: "no endpoints",
		Means: "A service port has no endpoint that could answer: no pod matches the selector, none has the target port, or those that do are not ready. " +
			"Every node refuses the connection.",
		Proven: "No EndpointSlice of the Service holds an endpoint for the port that is ready, or that still serves while it terminates. Where no pod matches, " +
			"the pods with the nearest labels are named.",
		Fix:        "see the pods and their readiness: kubectl get pods, kubectl describe",
		References: []string{"kubernetes/kubernetes#17359", "kubernetes/kubernetes#97360", "kubernetes/kubernetes#112233"},
	}
	TerminatingEndpointsOnly = Kind{
		ID: "terminating-endpoints-only", Severity: Warning, Title: "only terminating",
		Means: "Every endpoint of the port that still serves is terminating. kube-proxy sends connections to them because nothing else is left; " +
			"when the last one ends, clients are refused.",
		Proven:     "No endpoint of the port is ready, and at least one is serving and terminating.",
		Fix:        "see why no new pod is ready: kubectl rollout status; a surge and a preStop hook keep old pods until new ones serve",
		References: []string{"kubernetes/kubernetes#85643", "KEP-1669"},
	}
)

func readinessFamily() Family {
	return Family{Name: "Endpoints in the API", check: checkReadiness, Kinds: []Kind{
		EndpointsNotReady, PortNameMismatch, NamedTargetPortMissing, SelectorlessWithoutSlices, FamilyWithoutEndpoints, NoReadyEndpoints, TerminatingEndpointsOnly,
	}}
}

// checkReadiness reports service ports that no endpoint serves, and why.
func checkReadiness(s *scene, l *ledger) {
	for i := range s.model.Ports {
		p := &s.model.Ports[i]
		ready, dying := 0, 0
		for _, e := range p.Endpoints {
			switch {
			case e.Ready:
				ready++
			case e.Serving && e.Terminating:
				dying++
			}
		}
		switch {
		case ready > 0:
			checkNamedTargetPort(s, l, i)
			continue
		case dying > 0:
			l.add("", draft{
				kind: TerminatingEndpointsOnly, subject: portSubject(p),
				sentence: fmt.Sprintf("%s has no ready endpoint; connections go to %d that still serve%s while terminating", portText(p), dying, thirdPerson(dying)),
				evidence: s.endpointStates(p),
			}, s.placesOf(i)...)
			continue
		}
		d := draft{kind: NoReadyEndpoints, subject: portSubject(p), evidence: s.endpointStates(p)}
		switch {
		case len(p.Endpoints) > 0:
			d.sentence = fmt.Sprintf("none of the %d endpoints of %s is ready: clients are refused", len(p.Endpoints), portText(p))
			checkNotReady(s, l, i)
		case checkPortName(s, l, i) || checkOtherFamily(s, l, i) || checkNamedTargetPort(s, l, i):
			d.sentence = portText(p) + " has no endpoints: clients are refused"
		case s.model.Selector == "":
			d.sentence = portText(p) + " has no endpoints: the Service has no selector, so someone must write its EndpointSlices, and clients are refused"
			if s.api.Service != nil && len(s.api.Slices) == 0 {
				l.add("", draft{
					kind: SelectorlessWithoutSlices, subject: portSubject(p),
					sentence: "the Service has no selector, and no EndpointSlice was written for it: clients are refused",
					evidence: []Evidence{s.serviceField("spec.selector", "", "spec.selector is empty"), said("no EndpointSlice has the label kubernetes.io/service-name=%s", s.model.Name)},
				}, s.placesOf(i)...)
			}
		default:
			s.explainNoEndpoints(l, i, &d)
		}
		l.add("", d, s.placesOf(i)...)
	}
}

// explainNoEndpoints says why a Service with a selector has no endpoints: no pod matches, or those that do cannot be used.
func (s *scene) explainNoEndpoints(l *ledger, i int, d *draft) {
	p := &s.model.Ports[i]
	if !s.api.Read.Pods {
		d.sentence = fmt.Sprintf("%s has no endpoints: no pod with an address matches %s, or none has the target port %s; clients are refused", portText(p), s.model.Selector, p.Target)
		return
	}
	matching := s.matchingPods()
	if len(matching) > 0 {
		d.sentence = fmt.Sprintf("%s has no endpoints: clients are refused", portText(p))
		checkNotReady(s, l, i)
		return
	}
	d.sentence = fmt.Sprintf("%s has no endpoints: no pod of namespace %s has the labels %s; clients are refused", portText(p), s.model.Namespace, s.model.Selector)
	if near, ok := s.nearestLabels(); ok {
		d.sentence += "; " + near.sentence()
		d.fix = fmt.Sprintf("correct the Service's selector or the pods' labels: kubectl set selector service %s -n %s '%s'", s.model.Name, s.model.Namespace, near.selector())
		d.evidence = append(d.evidence, near.evidence(s.model.Namespace)...)
	}
}

// checkNotReady gives the pods' own reasons. It says nothing where the pods could not be read and the slices say no more.
func checkNotReady(s *scene, l *ledger, i int) {
	p := &s.model.Ports[i]
	var reasons []Evidence
	for _, pod := range s.matchingPods() {
		if why := s.whyNotReady(pod); why != "" {
			reasons = append(reasons, field("Pod", pod.Namespace, pod.Name, "status.conditions[Ready]", "False", "pod %s: %s", pod.Name, why))
		}
	}
	if len(reasons) == 0 {
		return
	}
	first := reasons[0].Text
	if n := len(reasons) - 1; n > 0 {
		first += fmt.Sprintf(" (and %d more)", n)
	}
	l.add("", draft{
		kind: EndpointsNotReady, subject: portSubject(p),
		sentence: fmt.Sprintf("no pod of the Service is ready, so clients of %s are refused: %s", portText(p), first), evidence: reasons,
	}, s.placesOf(i)...)
}

// checkPortName looks for endpoints that are there under another port name or protocol.
func checkPortName(s *scene, l *ledger, i int) bool {
	p := &s.model.Ports[i]
	var evidence []Evidence
	for k := range s.api.Slices {
		slice := &s.api.Slices[k]
		if len(slice.Endpoints) == 0 || string(slice.AddressType) != addressType(p.Family) || s.servesAnotherPort(slice, p) {
			continue
		}
		var names []string
		for _, sp := range slice.Ports {
			names = append(names, slicePortText(sp))
		}
		if len(names) == 0 {
			names = []string{"no port"}
		}
		evidence = append(evidence, field("EndpointSlice", slice.Namespace, slice.Name, "ports", strings.Join(names, ", "), "EndpointSlice %s has %d endpoint%s for %s", slice.Name, len(slice.Endpoints), plural(len(slice.Endpoints)), strings.Join(names, ", ")))
	}
	if len(evidence) == 0 || s.model.Selector != "" && strings.Trim(p.Target, "0123456789") != "" {
		return false // pods without a port of the name are their own finding
	}
	l.add("", draft{
		kind: PortNameMismatch, subject: portSubject(p), evidence: evidence,
		sentence: fmt.Sprintf("%s is named %q, and no EndpointSlice has a %s port of that name: its endpoints are not used, and clients are refused",
			portText(p), p.Name, strings.ToUpper(p.Protocol)),
		fix: fmt.Sprintf("name the port in the EndpointSlice %q, with protocol %s", p.Name, strings.ToUpper(p.Protocol)),
	}, s.placesOf(i)...)
	return true
}

// checkOtherFamily looks for endpoints of the same port in the other family.
func checkOtherFamily(s *scene, l *ledger, i int) bool {
	p := &s.model.Ports[i]
	for _, o := range s.model.Ports {
		if o.Family == p.Family || o.Name != p.Name || o.Protocol != p.Protocol || len(o.Endpoints) == 0 {
			continue
		}
		l.add("", draft{
			kind: FamilyWithoutEndpoints, subject: portSubject(p),
			sentence: fmt.Sprintf("%s has no endpoints, and %d of %s: %s clients are refused", portText(p), len(o.Endpoints), o.Family, p.Family),
			evidence: []Evidence{value("endpoints of address type "+addressType(p.Family), 0, "no EndpointSlice of address type %s has an endpoint for the port", addressType(p.Family)), said("%s", s.podFamilies())},
		}, s.placesOf(i)...)
		return true
	}
	return false
}

// checkNamedTargetPort looks for pods without a container port of the targetPort's name. Where others have it, the pods
// without are silently no endpoints: some capacity is missing, nothing fails.
func checkNamedTargetPort(s *scene, l *ledger, i int) bool {
	p := &s.model.Ports[i]
	if s.model.Selector == "" || strings.Trim(p.Target, "0123456789") == "" {
		return false
	}
	var without []Evidence
	matching := s.matchingPods()
	for _, pod := range matching {
		if !hasPort(pod, p.Target, p.Protocol) {
			without = append(without, field("Pod", pod.Namespace, pod.Name, "spec.containers[].ports[].name", containerPorts(pod), "pod %s has %s", pod.Name, containerPorts(pod)))
		}
	}
	if len(without) == 0 {
		return false
	}
	d := draft{
		kind: NamedTargetPortMissing, subject: portSubject(p), evidence: without,
		sentence: fmt.Sprintf("the target port %q of %s is no port of any of the %d matching pods, so they are no endpoints: clients are refused", p.Target, portText(p), len(without)),
	}
	if len(without) < len(matching) {
		d.severity = Warning
		d.sentence = fmt.Sprintf("%d of %d matching pods have no port named %q and are left out of the endpoints of %s", len(without), len(matching), p.Target, portText(p))
	}
	l.add("", d, s.placesOf(i)...)
	return true
}

// placesOf are the access paths of a service port, for every client.
func (s *scene) placesOf(port int) []Place {
	var out []Place
	for _, path := range s.model.Paths {
		if path.PortIndex == port {
			out = append(out, Place{Path: path})
		}
	}
	return out
}

// everyPlace are all access paths.
func (s *scene) everyPlace() []Place {
	out := make([]Place, 0, len(s.model.Paths))
	for _, path := range s.model.Paths {
		out = append(out, Place{Path: path})
	}
	return out
}

func portText(p *intent.Port) string {
	return fmt.Sprintf("port %d/%s (%s) of the Service", p.Port, strings.ToUpper(p.Protocol), p.Family)
}

func portSubject(p *intent.Port) string {
	return fmt.Sprintf("%s %d/%s", p.Family, p.Port, p.Protocol)
}

func (s *scene) endpointStates(p *intent.Port) []Evidence {
	var out []Evidence
	for _, e := range p.Endpoints {
		out = append(out, s.endpointField(e, "conditions", e.State(), "endpoint %s is %s", endpointName(e), e.State()))
	}
	return out
}

func addressType(f intent.Family) string {
	if f == intent.IPv6 {
		return string(corev1.IPv6Protocol)
	}
	return string(corev1.IPv4Protocol)
}

// thirdPerson is the s of a verb after one subject.
func thirdPerson(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}
