package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// AffinityListFull is a limit of the iptables match recent.
var AffinityListFull = Kind{
	ID: "affinity-list-full", Severity: Warning, Title: "affinity forgets",
	Means: "The Service asks for session affinity, and more clients use one endpoint than the node's kernel remembers: in iptables mode 100 for each " +
		"endpoint. The clients that were forgotten go to any endpoint.",
	Proven: "The node's live flows of the Service have more than 100 different clients of one endpoint, and kube-proxy is in iptables mode.",
	Fix:    "use kube-proxy's nftables mode, or load xt_recent with a larger ip_list_tot",
}

// recentLimit is the default of xt_recent's parameter ip_list_tot (net/netfilter/xt_recent.c).
const recentLimit = 100

func affinityFamily() Family {
	return Family{Name: "Session affinity", Kinds: []Kind{AffinityListFull}, check: checkAffinity}
}

func checkAffinity(s *scene, l *ledger) {
	if s.model.Affinity == 0 {
		return
	}
	for _, n := range s.nodes {
		for _, path := range s.model.Paths {
			if survey.ModeOf(n.Describe, path.Family) != intent.IPTables {
				continue
			}
			clients := map[netip.AddrPort]map[netip.Addr]bool{}
			for _, f := range n.FlowsOf(path) {
				if clients[f.ReplySource] == nil {
					clients[f.ReplySource] = map[netip.Addr]bool{}
				}
				clients[f.ReplySource][f.Source.Addr()] = true
			}
			for to, from := range clients {
				if len(from) <= recentLimit {
					continue
				}
				l.add(n.Name, draft{
					kind: AffinityListFull, subject: to.String(), evidence: []Evidence{value("clients with flows to "+to.String(), len(from), "%d clients have flows to %s by %s", len(from), to, path)},
					sentence: fmt.Sprintf("%d clients use endpoint %s, and the kernel remembers %d of them for session affinity", len(from), to, recentLimit),
				}, Place{Path: path})
			}
		}
	}
}
