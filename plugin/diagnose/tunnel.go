package diagnose

import (
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// The kinds of this family: tunnels between nodes.
var (
	MTUTooSmall = Kind{
		ID: "mtu-too-small", Severity: Warning, Title: "MTU too small",
		Means: "A tunnel between the nodes takes packets that, with what the tunnel adds, do not fit the interface it leaves by. Small requests work; large ones hang, " +
			"unless the network carries the fragments and the messages about them.",
		Proven:     "The tunnel's MTU plus its overhead is larger than the MTU of the interface that its packets leave by.",
		Fix:        "lower the pods' and the tunnel's MTU in the network plugin's configuration (VXLAN over IPv4: 50 less than the network's), and recreate the pods",
		References: []string{"projectcalico/calico#12432", "kubeovn/kube-ovn#4254", "cilium/cilium#14339"},
	}
	VXLANChecksumOffload = Kind{
		ID: "vxlan-checksum-offload", Severity: Warning, Title: "VXLAN checksums",
		Means: "This kernel computes wrong checksums for packets that are masqueraded and then leave by a VXLAN interface whose checksums are left to the device. " +
			"Connections to Services across nodes take 1, 3 or 63 seconds, or fail.",
		Proven:     "The interface's transmit checksum offload is on, and the kernel is older than the fix (4.19.123, 5.4.41, 5.6.13).",
		Fix:        "ethtool -K INTERFACE tx-checksum-ip-generic off, or a newer kernel",
		References: []string{"kubernetes/kubernetes#88986", "k3s-io/k3s#2013", "projectcalico/calico#3145", "flannel-io/flannel#1282"},
	}
)

func tunnelFamily() Family {
	return Family{Name: "Tunnels", Kinds: []Kind{MTUTooSmall, MTUAboveTunnel, VXLANChecksumOffload}, check: func(s *scene, l *ledger) {
		s.facts(func(n *survey.Node, a *wire.FactsAnswer) {
			for _, x := range a.Links {
				checkTunnel(n, x, l)
			}
		})
	}}
}

func checkTunnel(n *survey.Node, x wire.Link, l *ledger) {
	if x.Up && x.Overhead > 0 && x.OuterMTU > 0 && x.MTU+x.Overhead > x.OuterMTU {
		l.add(n.Name, draft{kind: MTUTooSmall, subject: x.Name,
			sentence: fmt.Sprintf("packets of %s grow to %d bytes, and %s takes %d", x.Name, x.MTU+x.Overhead, x.Outer, x.OuterMTU),
			evidence: []Evidence{value(x.Name+" mtu", x.MTU, "%s (%s): mtu %d, adds %d", x.Name, x.Kind, x.MTU, x.Overhead), value(x.Outer+" mtu", x.OuterMTU, "%s: mtu %d", x.Outer, x.OuterMTU)}})
	}
	if x.Up && x.Kind == "vxlan" && x.ChecksumOffload && miscounts(n.Hello.Kernel) {
		l.add(n.Name, draft{kind: VXLANChecksumOffload, subject: x.Name,
			sentence: fmt.Sprintf("kernel %s miscomputes checksums of masqueraded packets that leave by %s", n.Hello.Kernel, x.Name),
			evidence: []Evidence{value(x.Name+" tx-checksumming", "on", "%s: tx-checksumming is on", x.Name), value("kernel", n.Hello.Kernel, "kernel %s", n.Hello.Kernel)}})
	}
}

// fixed are the first releases of stable series without the fault; every series from 5.7 on is without.
var fixed = [][3]int{{4, 19, 123}, {5, 4, 41}, {5, 6, 13}}

// miscounts reports whether a kernel release has the fault. What is no release is taken for a good one.
func miscounts(release string) bool {
	var v [3]int
	if n, _ := fmt.Sscanf(release, "%d.%d.%d", &v[0], &v[1], &v[2]); n < 2 {
		return false
	}
	for _, f := range fixed {
		if v[0] == f[0] && v[1] == f[1] {
			return v[2] < f[2]
		}
	}
	return slices.Compare(v[:], []int{5, 6, 0}) < 0
}
