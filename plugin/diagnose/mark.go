package diagnose

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// MarkCollision is a mark that two programs use.
var MarkCollision = Kind{
	ID: "mark-collision", Severity: Warning, Title: "mark collision",
	Means: "kube-proxy marks packets that are to be masqueraded with one bit of the packet's mark (0x4000 by default), and a rule of another program writes the " +
		"same bit. Connections then keep a source address that they should lose, or lose one that they should keep.",
	Proven:     "On the Service's path a rule that is not kube-proxy's sets bits of the mark among which is kube-proxy's.",
	Fix:        "give the rule a mask that leaves the bit alone (--set-xmark VALUE/MASK), or move kube-proxy's bit (iptables.masqueradeBit, nftables.masqueradeBit)",
	Explains:   []string{"not-masqueraded", "source-lost"},
	References: []string{"tailscale/tailscale#591", "cilium/cilium#36104", "netbirdio/netbird#6022"},
}

func markFamily() Family {
	return Family{Name: "Marks", Kinds: []Kind{MarkCollision}, check: checkMarks}
}

func checkMarks(s *scene, l *ledger) {
	for _, n := range s.nodes {
		for i := range n.Walks {
			w := &n.Walks[i]
			if w.Trace == nil {
				continue
			}
			for k := range w.Trace.Hops {
				h := &w.Trace.Hops[k]
				if h.Rule == nil || ownerOf(h) == kubeProxyName {
					continue
				}
				on := s.nodeOf(h, n)
				bit := masqueradeBit(on)
				bits, ok := writtenBits(h.Rule.Text)
				if !ok || bits&bit == 0 {
					continue
				}
				l.addSeen(on.Name, n.Name, draft{kind: MarkCollision, subject: h.Table + " " + h.Chain, evidence: []Evidence{counted(h), value("kube-proxy masqueradeBit", trace.Mark(bit), "kube-proxy's bit is %s", trace.Mark(bit))},
					sentence: fmt.Sprintf("a rule in chain %s of table %s writes the bit of the mark that kube-proxy masquerades by", h.Chain, h.Table)},
					Place{Path: w.Path, Client: w.Client.Kind})
			}
		}
	}
}

func masqueradeBit(n *survey.Node) uint32 {
	if n.Facts != nil && n.Facts.KubeProxy.Config != nil {
		if b := n.Facts.KubeProxy.Config.MasqueradeBit; b >= 0 && b < 32 {
			return 1 << b
		}
	}
	return 1 << 14
}

// How rules that write the packet's mark are printed. A rule that takes the mark from the flow's writes the bits of its mask.
var (
	setXmark = regexp.MustCompile(`-j MARK --set-xmark (0x[0-9a-f]+)/(0x[0-9a-f]+)`)
	restored = regexp.MustCompile(`-j CONNMARK --restore-mark --nfmask 0x[0-9a-f]+ --ctmask (0x[0-9a-f]+)`)
	nftMark  = regexp.MustCompile(`meta mark set (?:(?:meta )?mark (or|xor|and|\||\^|&) )?(0x[0-9a-f]+)`)
)

// writtenBits are the bits of the packet's mark that a rule may change.
func writtenBits(text string) (uint32, bool) {
	if m := setXmark.FindStringSubmatch(text); m != nil {
		return hex(m[1]) | hex(m[2]), true
	}
	if m := restored.FindStringSubmatch(text); m != nil {
		return hex(m[1]), true
	}
	m := nftMark.FindStringSubmatch(text)
	switch {
	case m == nil:
		return 0, false
	case m[1] == "":
		return ^uint32(0), true
	case m[1] == "and" || m[1] == "&":
		return ^hex(m[2]), true
	}
	return hex(m[2]), true
}

func hex(s string) uint32 {
	v, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0 // the expressions let nothing else through but numbers that are too long
	}
	return uint32(v)
}
