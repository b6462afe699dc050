package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// The kinds of this family: what is in front of the nodes.
var (
	LoadBalancerPending = Kind{
		ID: "load-balancer-pending", Severity: Warning, Title: "no address yet",
		Means: "The Service is of type LoadBalancer and has no address: no controller serves it. Its ClusterIP and node ports work; clients outside have " +
			"nowhere to connect to.",
		Proven:     "status.loadBalancer is empty. The class that the Service asks for and the events of controllers are the evidence.",
		Fix:        "install a load balancer controller, or one for the Service's loadBalancerClass, which cannot be changed later; its events and log say more",
		References: []string{"metallb/metallb#1526", "kubernetes/kubernetes#23562"},
	}
	NodesExcluded = Kind{
		ID: "nodes-excluded-from-load-balancers", Severity: Warning, Title: "nodes left out",
		Means: "Every node that could take connections for the load balancer has a label that excludes it from load balancers, so that its address is " +
			"not answered.",
		Proven:     "The label node.kubernetes.io/exclude-from-external-load-balancers is on all nodes, or with externalTrafficPolicy Local on all nodes with endpoints.",
		Fix:        "remove the label: kubectl label node NAME node.kubernetes.io/exclude-from-external-load-balancers-",
		References: []string{"metallb/metallb#2344", "kubernetes/kubernetes#81178"},
	}
	SourceRangesOneFamily = Kind{
		ID: "source-ranges-one-family", Severity: Warning, Title: "one family open",
		Means: "loadBalancerSourceRanges hold ranges of only one IP family, and the Service has a load balancer address of the other too. " +
			"A family without a range is open to everybody.",
		Proven: "No range is of the family of one of the load balancer's addresses.",
		Fix:    "add a range of the other family to loadBalancerSourceRanges",
	}
	NodePortUnrestricted = Kind{
		ID: "node-port-unrestricted", Severity: Info, Title: "node port is open",
		Means:      "loadBalancerSourceRanges bind the load balancer's address alone. The Service's node ports are open to whoever reaches a node.",
		Proven:     "The Service has source ranges and node ports.",
		Fix:        "set allocateLoadBalancerNodePorts: false if the load balancer does not need them, or let a firewall guard the nodes",
		References: []string{"kubernetes/kubernetes#110289", "kubernetes/kubernetes#62638"},
	}
	LoadBalancerBypassed = Kind{
		ID: "load-balancer-bypassed", Severity: Warning, Title: "shortcut past the balancer",
		Means: "The load balancer speaks the PROXY protocol, and its address has ipMode VIP: connections from inside the cluster are translated by the node " +
			"and never pass the load balancer, so the header that the application waits for is missing.",
		Proven:     "An annotation of the Service switches the PROXY protocol on, and the load balancer's address does not have ipMode Proxy.",
		Fix:        "let the load balancer's controller set ipMode: Proxy, which it can from Kubernetes 1.30 on, or use a host name in place of the address",
		References: []string{"kubernetes/kubernetes#118895", "hetznercloud/hcloud-cloud-controller-manager#727"},
	}
)

// excludeLabel keeps load balancers away from a node (corev1.LabelNodeExcludeBalancers).
const excludeLabel = corev1.LabelNodeExcludeBalancers

func loadBalancerFamily() Family {
	return Family{Name: "Load balancers", check: checkLoadBalancer, Kinds: []Kind{
		LoadBalancerPending, NodesExcluded, SourceRangesOneFamily, NodePortUnrestricted, LoadBalancerBypassed,
	}}
}

func checkLoadBalancer(s *scene, l *ledger) {
	svc := s.api.Service
	if svc == nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	if len(svc.Status.LoadBalancer.Ingress) == 0 {
		checkPending(s, l, svc)
		return
	}
	checkExcluded(s, l)
	checkSourceRanges(s, l, svc)
	checkBypass(s, l, svc)
}

func checkPending(s *scene, l *ledger, svc *corev1.Service) {
	d := draft{kind: LoadBalancerPending, sentence: "the load balancer has no address: no controller has served the Service", evidence: []Evidence{s.serviceField("status.loadBalancer", "", "status.loadBalancer is empty")}}
	if class := svc.Spec.LoadBalancerClass; class != nil {
		d.sentence = fmt.Sprintf("the load balancer has no address: only a controller for the class %q would give it one, and none has", *class)
		d.evidence = append(d.evidence, s.serviceField("spec.loadBalancerClass", *class, "spec.loadBalancerClass: %s", *class))
	}
	for i := range s.api.Events {
		e := &s.api.Events[i]
		if e.InvolvedObject.Kind != "Service" || e.InvolvedObject.Name != svc.Name {
			continue
		}
		if e.Type == corev1.EventTypeWarning {
			d.sentence = fmt.Sprintf("the load balancer has no address: %s (%s)", e.Message, e.Reason)
		}
		d.evidence = append(d.evidence, field("Event", e.Namespace, e.Name, "message", e.Message, "event %s: %s", e.Reason, e.Message))
	}
	l.add("", d)
}

// checkExcluded looks for a load balancer that is to leave out every node it could use. Control-plane nodes have the
// label by default: some excluded nodes are nothing.
func checkExcluded(s *scene, l *ledger) {
	with := s.model.EndpointNodes()
	var excluded, open []string
	for i := range s.api.Nodes {
		n := &s.api.Nodes[i]
		if s.model.ExternalLocal && !slices.Contains(with, n.Name) {
			continue
		}
		if _, ok := n.Labels[excludeLabel]; ok {
			excluded = append(excluded, n.Name)
		} else {
			open = append(open, n.Name)
		}
	}
	if len(excluded) == 0 || len(open) > 0 {
		return
	}
	which := "every node"
	if s.model.ExternalLocal {
		which = "every node with endpoints (externalTrafficPolicy is Local)"
	}
	d := draft{kind: NodesExcluded, sentence: fmt.Sprintf("%s is excluded from load balancers by its labels: the load balancer's address is likely to go unanswered", which)}
	for _, name := range excluded {
		d.evidence = append(d.evidence, field("Node", "", name, "metadata.labels["+excludeLabel+"]", "", "Node %s: label %s", name, excludeLabel))
	}
	l.add("", d, s.pathsOf(intent.LoadBalancerIP)...)
}

func (s *scene) pathsOf(kind intent.AccessKind) []Place {
	var out []Place
	for _, path := range s.model.Paths {
		if path.Kind == kind {
			out = append(out, Place{Path: path})
		}
	}
	return out
}

func checkSourceRanges(s *scene, l *ledger, svc *corev1.Service) {
	if len(s.model.SourceRanges) == 0 {
		return
	}
	for _, path := range s.model.Paths {
		if path.Kind != intent.LoadBalancerIP || path.Proxied {
			continue
		}
		if !slices.ContainsFunc(s.model.SourceRanges, func(r netip.Prefix) bool { return intent.FamilyOf(r.Addr()) == path.Family }) {
			l.add("", draft{
				kind: SourceRangesOneFamily, subject: string(path.Family), evidence: []Evidence{s.serviceField("spec.loadBalancerSourceRanges", joinPrefixes(s.model.SourceRanges), "loadBalancerSourceRanges: %s", joinPrefixes(s.model.SourceRanges))},
				sentence: fmt.Sprintf("loadBalancerSourceRanges hold no %s range, so the load balancer's %s address is open to everybody", path.Family, path.Family),
			}, Place{Path: path})
		}
	}
	if places := s.pathsOf(intent.NodePort); len(places) > 0 {
		var ports []string
		for _, p := range places {
			ports = append(ports, fmt.Sprintf("%d/%s", p.Path.Port, p.Path.Protocol))
		}
		l.add("", draft{
			kind: NodePortUnrestricted, evidence: []Evidence{
				s.serviceField("spec.ports[].nodePort", strings.Join(ports, ", "), "nodePorts: %s", strings.Join(ports, ", ")),
				s.serviceField("spec.loadBalancerSourceRanges", strings.Join(svc.Spec.LoadBalancerSourceRanges, ", "), "loadBalancerSourceRanges: %s", strings.Join(svc.Spec.LoadBalancerSourceRanges, ", ")),
			},
			sentence: "loadBalancerSourceRanges do not bind the Service's node ports: whoever reaches a node may use them",
		}, places...)
	}
}

func checkBypass(s *scene, l *ledger, svc *corev1.Service) {
	annotation := ""
	for _, k := range labelKeys(svc.Annotations) {
		v := strings.ToLower(svc.Annotations[k])
		if (strings.Contains(k, "proxy-protocol") || strings.Contains(k, "proxyprotocol")) && v != "" && v != "false" && v != "disabled" && v != "none" {
			annotation = k + ": " + svc.Annotations[k]
		}
	}
	if annotation == "" {
		return
	}
	for _, path := range s.model.Paths {
		if path.Kind == intent.LoadBalancerIP && !path.Proxied {
			l.add("", draft{
				kind: LoadBalancerBypassed, subject: path.Address.String(), evidence: []Evidence{
					s.serviceField("metadata.annotations", annotation, "annotation %s", annotation),
					s.serviceField("status.loadBalancer.ingress[].ipMode", "VIP", "status.loadBalancer: %s with ipMode VIP", path.Address),
				},
				sentence: fmt.Sprintf("connections from the cluster to %s never pass the load balancer, so they lack the PROXY protocol's header", path.Address),
			}, Place{Path: path, Client: intent.FromPod}, Place{Path: path, Client: intent.FromNode})
		}
	}
}
