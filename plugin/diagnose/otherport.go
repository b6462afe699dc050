package diagnose

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// UnknownPort is a client that uses a port that the Service does not have.
var UnknownPort = Kind{
	ID: "unknown-port-on-service-address", Severity: Warning, Title: "unknown port",
	Means: "A client connects to the Service's address at a port that the Service does not have. In iptables mode nothing answers: the packet follows the default " +
		"route, and the client waits until it gives up.",
	Proven:     "The node's connection tracking has a flow to the Service's address at another port, and it is not translated; or --to names a port that the Service has not.",
	Fix:        "correct the client's port, or add the port to the Service",
	References: []string{"kubernetes/kubernetes#22952"},
}

func otherPortFamily() Family {
	return Family{Name: "Other ports", Kinds: []Kind{UnknownPort}, check: func(s *scene, l *ledger) {
		s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
			for _, f := range a.OtherPorts {
				if f.ReplySource == f.Destination {
					checkOtherPort(s.model, n, f, l)
				}
			}
		})
	}}
}

// UnknownPortOf explains what becomes of connections to the Service's cluster IP at a port that it does not have; nothing
// where it has the port.
func UnknownPortOf(m *intent.Model, port uint16) []Finding {
	var (
		l   ledger
		has []string
	)
	for _, p := range m.Ports {
		if p.Port == port {
			return nil
		}
		has = appendNew(has, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	l.add("", draft{kind: UnknownPort, subject: fmt.Sprint(port),
		evidence: []Evidence{field("Service", m.Namespace, m.Name, "spec.ports[].port", strings.Join(has, ", "), "the Service has %s", strings.Join(has, ", "))},
		sentence: fmt.Sprintf("the Service has no port %d, it has %s: in nftables and IPVS mode connections to its ClusterIP there are refused, in iptables mode they wait until they give up",
			port, strings.Join(has, ", "))})
	return l.sorted()
}

func checkOtherPort(m *intent.Model, n *survey.Node, f wire.Flow, l *ledger) {
	var has []string
	for _, p := range m.Ports {
		if p.Family == intent.FamilyOf(f.Destination.Addr()) {
			has = append(has, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
		}
	}
	l.add(n.Name, draft{kind: UnknownPort, subject: fmt.Sprintf("%s %s", f.Protocol, f.Destination), evidence: []Evidence{flowOf(f), said("the Service has %s", strings.Join(has, ", "))},
		sentence: fmt.Sprintf("%s connects to %s (%s), a port that the Service does not have", f.Source.Addr(), f.Destination, f.Protocol)})
}
