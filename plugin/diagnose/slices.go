package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// The kinds of this family: EndpointSlices that say something else than they seem to, or than the pods do.
var (
	StaleEndpointSlice = Kind{
		ID: "stale-endpoint-slice", Severity: Error, Title: "stale slice",
		Means: "An EndpointSlice lists as usable a pod that does not exist, or one that has another address by now. Every node sends its share of the " +
			"connections there.",
		Proven: "The endpoint's targetRef names a pod that is not in the API, or has another UID or address. The slice was read before the pods and after them.",
		Fix:    "delete the EndpointSlice: its controller writes it anew; if it comes back, restart the controller that manages it",
		References: []string{"kubernetes/kubernetes#105987", "kubernetes/kubernetes#93374", "kubernetes/kubernetes#117193", "kubernetes/kubernetes#127370",
			"kubernetes/kubernetes#125354"},
	}
	SliceManagers = Kind{
		ID: "slices-of-two-managers", Severity: Warning, Title: "two slice managers",
		Means: "EndpointSlices of two controllers belong to the Service, and kube-proxy uses the endpoints of both. Usually one of them is left over " +
			"from before the Service had a selector, or lost it.",
		Proven:     "The EndpointSlices of the Service carry different values of the label endpointslice.kubernetes.io/managed-by, and each has endpoints.",
		Fix:        "delete the EndpointSlice that nobody maintains any more",
		References: []string{"kubernetes/kubernetes#105987", "kubernetes/kubernetes#112143", "kubernetes/kubernetes#85353"},
	}
	DuplicateEndpoint = Kind{
		ID: "duplicate-endpoint", Severity: Warning, Title: "endpoint twice",
		Means:      "One address and port stands in the EndpointSlices for two different pods. kube-proxy keeps one of the two entries, and with it that one's conditions and node.",
		Proven:     "Two endpoints of the same service port have the same address and different targetRefs.",
		Fix:        "delete the entry of the pod that does not have the address; see duplicate-pod-address if both do",
		References: []string{"kubernetes/kubernetes#125354"},
	}
	ManualSlicePortDiffers = Kind{
		ID: "manual-slice-port-differs", Severity: Warning, Title: "targetPort ignored",
		Means:      "The Service has no selector, so its targetPort has no effect: connections go to the port in the EndpointSlice, which is another one.",
		Proven:     "spec.selector is empty, targetPort is a number of its own, and the EndpointSlice's port differs from it.",
		Fix:        "set the port in the EndpointSlice; changing targetPort does nothing",
		References: []string{"kubernetes/kubernetes#90427"},
	}
	SeveralAddresses = Kind{
		ID: "several-addresses-in-endpoint", Severity: Warning, Title: "addresses ignored",
		Means:      "An endpoint of an EndpointSlice lists several addresses. They mean one endpoint, and kube-proxy uses the first; the others get no connection.",
		Proven:     "The list addresses of an endpoint has more than one entry.",
		Fix:        "write one endpoint for each address",
		References: []string{"kubernetes/kubernetes#123954", "kubernetes/website#42748"},
	}
	EndpointIsServiceAddress = Kind{
		ID: "endpoint-is-service-address", Severity: Error, Title: "endpoint is a Service",
		Means:      "An endpoint's address is the ClusterIP of a Service. A packet is translated once, so it leaves the node for an address that no machine has.",
		Proven:     "The endpoint's address is the ClusterIP of a Service, or lies in a range of cluster IPs.",
		Fix:        "use the addresses of the pods, or a Service of type ExternalName",
		Explains:   []string{"stopped-after-translation"},
		References: []string{"kubernetes/kubernetes#16293"},
	}
	EndpointsTruncated = Kind{
		ID: "endpoints-object-truncated", Severity: Info, Title: "Endpoints cut short",
		Means: "The old Endpoints object of the Service is cut at 1,000 addresses. kube-proxy reads EndpointSlices and is not concerned; whatever still " +
			"reads Endpoints misses pods.",
		Proven:     "The Endpoints object has the annotation endpoints.kubernetes.io/over-capacity: truncated.",
		Fix:        "let what reads Endpoints read EndpointSlices",
		References: []string{"kubernetes/kubernetes#103520", "kubernetes/kubernetes#73324"},
	}
)

func sliceFamily() Family {
	return Family{Name: "EndpointSlices", check: checkSlices, Kinds: []Kind{
		StaleEndpointSlice, SliceManagers, DuplicateEndpoint, ManualSlicePortDiffers, SeveralAddresses, EndpointIsServiceAddress, EndpointsTruncated,
	}}
}

// checkSlices looks at the EndpointSlices themselves, and at the pods that they name.
func checkSlices(s *scene, l *ledger) {
	for i := range s.api.Slices {
		slice := &s.api.Slices[i]
		checkManualPort(s, l, slice)
		for k := range slice.Endpoints {
			e := &slice.Endpoints[k]
			where := field("EndpointSlice", slice.Namespace, slice.Name, "endpoints[].addresses", strings.Join(e.Addresses, ", "), "EndpointSlice %s: addresses %s", slice.Name, strings.Join(e.Addresses, ", "))
			if len(e.Addresses) > 1 {
				l.add("", draft{
					kind: SeveralAddresses, subject: e.Addresses[0], evidence: []Evidence{where},
					sentence: fmt.Sprintf("an endpoint of EndpointSlice %s has %d addresses, and only the first, %s, is used", slice.Name, len(e.Addresses), e.Addresses[0]),
				}, s.everyPlace()...)
			}
			checkServiceAddress(s, l, slice, e)
			checkStale(s, l, slice, e)
		}
	}
	checkManagers(s, l)
	checkDuplicates(s, l)
	if o := s.api.Endpoints; o != nil && o.Annotations[corev1.EndpointsOverCapacity] == "truncated" {
		l.add("", draft{
			kind: EndpointsTruncated, evidence: []Evidence{field("Endpoints", o.Namespace, o.Name, "metadata.annotations["+corev1.EndpointsOverCapacity+"]", "truncated", "Endpoints %s: annotation %s: truncated", o.Name, corev1.EndpointsOverCapacity)},
			sentence: "the Endpoints object of the Service lists only 1,000 of its endpoints: what reads it misses pods (kube-proxy does not read it)",
		})
	}
}

// usable reports whether kube-proxy could send to an endpoint as the slice states it.
func usable(e *discoveryv1.Endpoint) bool {
	is := func(b *bool, or bool) bool {
		if b == nil {
			return or
		}
		return *b
	}
	return is(e.Conditions.Ready, true) || is(e.Conditions.Serving, true) && is(e.Conditions.Terminating, false)
}

// checkStale compares an endpoint with the pod that it names. Terminating endpoints outlive their pods for a moment, and
// are left alone.
func checkStale(s *scene, l *ledger, slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) {
	ref := e.TargetRef
	if !s.api.Read.Pods || ref == nil || ref.Kind != "Pod" || len(e.Addresses) == 0 || !usable(e) || e.Conditions.Terminating != nil && *e.Conditions.Terminating {
		return
	}
	d := draft{kind: StaleEndpointSlice, subject: e.Addresses[0]}
	what := fmt.Sprintf("EndpointSlice %s lists %s for pod %s as ready", slice.Name, e.Addresses[0], ref.Name)
	d.evidence = []Evidence{endpointField(slice.Namespace, slice.Name, e.Addresses[0], "targetRef", ref.Namespace+"/"+ref.Name, "%s", what)}
	p := s.pod(slice.Namespace, ref.Name)
	switch {
	case p == nil && !s.again(slice.Name, e.Addresses[0]):
		return
	case p == nil:
		d.sentence = what + ", and there is no such pod: connections to it fail"
	case ref.UID != "" && p.UID != "" && ref.UID != p.UID:
		d.sentence = what + ", and the pod of that name is another one by now"
		d.evidence = append(d.evidence, field("Pod", p.Namespace, p.Name, "metadata.uid", string(p.UID), "targetRef.uid %s, pod's uid %s", ref.UID, p.UID))
	case len(podAddresses(p)) > 0 && !slices.ContainsFunc(podAddresses(p), func(a netip.Addr) bool { return a.String() == e.Addresses[0] }):
		d.sentence = fmt.Sprintf("%s, and the pod's address is %s", what, joinAddresses(podAddresses(p)))
	default:
		return
	}
	l.add("", d, s.placesOfFamily(slice.AddressType)...)
}

// again reports whether the slice still had the address when it was read once more, after the pods.
func (s *scene) again(slice, address string) bool {
	for i := range s.api.SlicesAgain {
		o := &s.api.SlicesAgain[i]
		if o.Name == slice && slices.ContainsFunc(o.Endpoints, func(e discoveryv1.Endpoint) bool { return slices.Contains(e.Addresses, address) && usable(&e) }) {
			return true
		}
	}
	return false
}

func (s *scene) pod(namespace, name string) *corev1.Pod {
	for i := range s.api.Pods {
		if p := &s.api.Pods[i]; p.Namespace == namespace && p.Name == name {
			return p
		}
	}
	return nil
}

func podAddresses(p *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func joinAddresses(list []netip.Addr) string {
	out := make([]string, 0, len(list))
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// placesOfFamily are the access paths that a slice's endpoints serve.
func (s *scene) placesOfFamily(t discoveryv1.AddressType) []Place {
	var out []Place
	for _, path := range s.model.Paths {
		if addressType(path.Family) == string(t) {
			out = append(out, Place{Path: path})
		}
	}
	return out
}

// checkManagers looks for slices of more than one controller.
func checkManagers(s *scene, l *ledger) {
	by := map[string][]string{}
	var managers []string
	for i := range s.api.Slices {
		slice := &s.api.Slices[i]
		if len(slice.Endpoints) == 0 {
			continue
		}
		m := slice.Labels[discoveryv1.LabelManagedBy]
		if m == "" {
			m = "nobody"
		}
		if by[m] == nil {
			managers = append(managers, m)
		}
		by[m] = append(by[m], slice.Name)
	}
	if len(managers) < 2 {
		return
	}
	slices.Sort(managers)
	d := draft{kind: SliceManagers, sentence: fmt.Sprintf("EndpointSlices of %s belong to the Service, and connections go to the endpoints of all of them", strings.Join(managers, " and "))}
	for _, m := range managers {
		d.evidence = append(d.evidence, field("EndpointSlice", s.model.Namespace, strings.Join(by[m], ", "), "metadata.labels["+discoveryv1.LabelManagedBy+"]", m, "%s manages %s", m, strings.Join(by[m], ", ")))
	}
	l.add("", d, s.everyPlace()...)
}

// checkDuplicates looks for an address that stands for two pods.
func checkDuplicates(s *scene, l *ledger) {
	for i := range s.model.Ports {
		p := &s.model.Ports[i]
		seen := map[netip.AddrPort]intent.Endpoint{}
		for _, e := range p.Endpoints {
			o, dup := seen[e.Address]
			if dup && o.Pod != e.Pod {
				l.add("", draft{
					kind: DuplicateEndpoint, subject: e.Address.String(),
					sentence: fmt.Sprintf("endpoint %s stands in the EndpointSlices for two pods, %s and %s", e.Address, orNone(o.Pod), orNone(e.Pod)),
					evidence: []Evidence{
						s.endpointField(o, "targetRef", o.Pod, "EndpointSlice %s: pod %s, %s", o.Slice, orNone(o.Pod), o.State()),
						s.endpointField(e, "targetRef", e.Pod, "EndpointSlice %s: pod %s, %s", e.Slice, orNone(e.Pod), e.State()),
					},
				}, s.placesOf(i)...)
			}
			seen[e.Address] = e
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "no pod"
	}
	return s
}

// checkManualPort looks for a targetPort that someone set and that has no effect. A targetPort that equals the port was
// not set by anybody.
func checkManualPort(s *scene, l *ledger, slice *discoveryv1.EndpointSlice) {
	if s.model.Selector != "" || len(slice.Endpoints) == 0 {
		return
	}
	for i := range s.model.Ports {
		p := &s.model.Ports[i]
		target, err := strconv.ParseUint(p.Target, 10, 16)
		if err != nil || uint16(target) == p.Port || addressType(p.Family) != string(slice.AddressType) {
			continue
		}
		for _, sp := range slice.Ports {
			if sp.Name == nil || *sp.Name != p.Name || sp.Port == nil || *sp.Port == int32(target) {
				continue
			}
			l.add("", draft{
				kind: ManualSlicePortDiffers, subject: portSubject(p),
				sentence: fmt.Sprintf("targetPort %d of %s has no effect: the Service has no selector, and EndpointSlice %s sends to port %d", target, portText(p), slice.Name, *sp.Port),
				evidence: []Evidence{
					field("EndpointSlice", slice.Namespace, slice.Name, "ports", slicePortText(sp), "EndpointSlice %s: %s", slice.Name, slicePortText(sp)),
					s.serviceField("spec.ports[].targetPort", strconv.FormatUint(target, 10), "Service %s: targetPort %d", s.model.Name, target),
				},
			}, s.placesOf(i)...)
		}
	}
}

// checkServiceAddress looks for an endpoint that is the address of a Service.
func checkServiceAddress(s *scene, l *ledger, slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) {
	if len(e.Addresses) == 0 || e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		return
	}
	why := ""
	for i := range s.api.Services {
		o := &s.api.Services[i]
		if slices.Contains(o.Spec.ClusterIPs, e.Addresses[0]) || o.Spec.ClusterIP == e.Addresses[0] {
			why = fmt.Sprintf("the ClusterIP of Service %s/%s", o.Namespace, o.Name)
		}
	}
	if a, err := netip.ParseAddr(e.Addresses[0]); err == nil && why == "" {
		for _, r := range s.serviceRanges() {
			if r.Contains(a.Unmap()) {
				why = fmt.Sprintf("in the range of cluster IPs, %s", r)
			}
		}
	}
	if why == "" {
		return
	}
	about := []string{}
	for _, p := range slice.Ports {
		if a, err := netip.ParseAddr(e.Addresses[0]); err == nil && p.Port != nil {
			about = append(about, netip.AddrPortFrom(a.Unmap(), uint16(*p.Port)).String())
		}
	}
	l.add("", draft{
		about: about, kind: EndpointIsServiceAddress, subject: e.Addresses[0], evidence: []Evidence{field("EndpointSlice", slice.Namespace, slice.Name, "endpoints[].addresses", e.Addresses[0], "EndpointSlice %s lists %s", slice.Name, e.Addresses[0])},
		sentence: fmt.Sprintf("endpoint %s is %s, and a packet is translated only once: connections to it go nowhere", e.Addresses[0], why),
	}, s.placesOfFamily(slice.AddressType)...)
}
