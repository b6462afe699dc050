package diagnose

import (
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: pods on one bridge of a node.
var (
	BridgeNetfilterOff = Kind{
		ID: "bridge-netfilter-off", Severity: Error, Title: "bridge netfilter off",
		Means: "A pod that reaches an endpoint on its own node by the Service's address gets the answer from the endpoint's address: it crosses the bridge between " +
			"the two without passing the node's rules, which would translate it back. TCP clients reset or time out, DNS clients complain of an unexpected source.",
		Proven:     "Client and endpoint are on ports of one bridge, the walk keeps the client's address, and bridge-nf-call-iptables is 0 or does not exist.",
		Fix:        "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1 (and bridge-nf-call-ip6tables)",
		Explains:   []string{"reply-not-translated", "reply-dropped"},
		References: []string{"kubernetes/kubernetes#38802", "kubernetes/kubernetes#127031", "cloudnativelabs/kube-router#151"},
	}
	HairpinOff = Kind{
		ID: "hairpin-off", Severity: Warning, Title: "hairpin off",
		Means: "A pod that connects to the Service and is chosen as its endpoint cannot reach itself: the bridge does not send a frame back out of the port that it " +
			"came in by. Such a pod fails with one connection in as many as there are endpoints.",
		Proven:     "The endpoint is behind a port of a bridge whose hairpin mode is off.",
		Fix:        "set hairpinMode true in the CNI configuration of the bridge and recreate the pods; for a running one: bridge link set dev PORT hairpin on",
		Explains:   []string{"reply-not-translated", "reply-dropped", "stopped-after-translation"},
		References: []string{"kubernetes/kubernetes#20475", "kubernetes/kubernetes#45790", "cloudnativelabs/kube-router#1235"},
	}
)

func bridgeFamily() Family {
	return Family{Name: "Bridges", Kinds: []Kind{BridgeNetfilterOff, HairpinOff}, check: func(s *scene, l *ledger) {
		s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
			for _, x := range a.Attached {
				checkBridge(s.model, n, a, x, l)
			}
		})
	}}
}

func checkBridge(m *intent.Model, n *survey.Node, a *wire.FactsAnswer, x wire.Attached, l *ledger) {
	where := value("bridge port of "+x.Endpoint.String(), x.Bridge+" "+x.Port, "endpoint %s is behind port %s of bridge %s", x.Endpoint, x.Port, x.Bridge)
	if !x.Hairpin {
		l.add(n.Name, draft{kind: HairpinOff, subject: x.Endpoint.String(), evidence: []Evidence{where, value(x.Port+" hairpin_mode", 0, "/sys/class/net/%s/brport/hairpin_mode is 0", x.Port)},
			sentence: fmt.Sprintf("the pod %s cannot reach itself through the Service", x.Endpoint)}, podPlaces(m, x)...)
	}
	if x.CallsIP {
		return
	}
	name := "net/bridge/bridge-nf-call-iptables"
	if x.Endpoint.Is6() {
		name = "net/bridge/bridge-nf-call-ip6tables"
	}
	for i := range n.Walks {
		w := &n.Walks[i]
		if w.Trace == nil || w.Client.Kind != intent.FromPod || w.Client.Source == x.Endpoint {
			continue
		}
		kept := slices.ContainsFunc(w.Trace.Outcomes, func(o trace.Outcome) bool {
			return o.Destination.Addr() == x.Endpoint && !o.Masqueraded && o.Destination != w.Destination
		})
		if !kept {
			continue
		}
		l.add(n.Name, draft{kind: BridgeNetfilterOff, subject: x.Bridge, evidence: []Evidence{sysctlOf(a, name), where},
			sentence: fmt.Sprintf("pods on bridge %s that reach an endpoint on the same node through the Service get answers that are not translated back", x.Bridge)},
			Place{Path: w.Path, Client: w.Client.Kind})
	}
}

func podPlaces(m *intent.Model, x wire.Attached) []Place {
	var out []Place
	for _, p := range m.Paths {
		if p.Family == intent.FamilyOf(x.Endpoint) {
			out = append(out, Place{Path: p, Client: intent.FromPod})
		}
	}
	return out
}
