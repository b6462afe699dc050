package e2e

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// serviceChain names the chain that a node's kube-proxy sends the ClusterIP's connections to.
func (f *faulty) serviceChain(ctx context.Context, n *lab.Node) (string, error) {
	ip := f.web.ClusterIPs[0].Addr().String()
	args, pattern := []string{"iptables-save", "-t", "nat"}, `-A KUBE-SERVICES -d `+regexp.QuoteMeta(ip)+`/32 .* -j (KUBE-SVC-\w+)`
	if n.Proxy == lab.NFTables {
		args, pattern = []string{"nft", "list", "map", "ip", "kube-proxy", "service-ips"}, regexp.QuoteMeta(ip)+` \. tcp \. 80 : goto ([^\s,]+)`
	}
	out, err := n.Run(ctx, args[0], args[1:]...)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("no chain for %s on %s in:\n%s", ip, n, out)
	}
	return m[1], nil
}

// deleteFirst deletes the first endpoint's rule. In nftables mode both endpoints share a rule with a map: there it is
// replaced by one for the last endpoint alone.
func (f *faulty) deleteFirst(ctx context.Context, n *lab.Node) error {
	if n.Proxy == lab.NFTables {
		return f.replaceTranslation(ctx, n, "dnat to "+f.endpoints[len(f.endpoints)-1].String())
	}
	return f.deleteRule(ctx, n, func(rules []int) int { return rules[0] })
}

// deleteLast deletes the last endpoint's rule; in nftables mode, its element of the map. Its share of the connections is
// then not translated at all.
func (f *faulty) deleteLast(ctx context.Context, n *lab.Node) error {
	if n.Proxy == lab.NFTables {
		e := f.endpoints[0]
		return f.replaceTranslation(ctx, n, fmt.Sprintf("dnat ip addr . port to numgen random mod %d map { 0 : %s . %d }", len(f.endpoints), e.Addr(), e.Port()))
	}
	return f.deleteRule(ctx, n, func(rules []int) int { return rules[len(rules)-1] })
}

// deleteRule deletes the rule for one endpoint, of which choose picks the number.
func (f *faulty) deleteRule(ctx context.Context, n *lab.Node, choose func(rules []int) int) error {
	chain, err := f.serviceChain(ctx, n)
	if err != nil {
		return err
	}
	out, err := n.Run(ctx, "iptables", "-t", "nat", "-S", chain)
	if err != nil {
		return err
	}
	var rules []int
	number := 0
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if number++; strings.Contains(line, "-j KUBE-SEP-") {
			rules = append(rules, number)
		}
	}
	if len(rules) != len(f.endpoints) {
		return fmt.Errorf("%d rules for endpoints on %s, want %d:\n%s", len(rules), n, len(f.endpoints), out)
	}
	_, err = n.Run(ctx, "iptables", "-t", "nat", "-D", chain, fmt.Sprint(choose(rules)))
	return err
}

// replaceTranslation replaces the rule of nftables mode that chooses the endpoint.
func (f *faulty) replaceTranslation(ctx context.Context, n *lab.Node, by string) error {
	chain, err := f.serviceChain(ctx, n)
	if err != nil {
		return err
	}
	out, err := n.Run(ctx, "nft", "-a", "list", "chain", "ip", "kube-proxy", chain)
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`dnat .* # handle (\d+)`).FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("no dnat rule on %s in:\n%s", n, out)
	}
	_, err = n.RunInput(ctx, fmt.Sprintf("replace rule ip kube-proxy %s handle %s meta l4proto tcp %s\n", chain, m[1], by), "nft", "-f", "-")
	return err
}

// flushService empties the Service's chain.
func (f *faulty) flushService(ctx context.Context, n *lab.Node) error {
	chain, err := f.serviceChain(ctx, n)
	if err != nil {
		return err
	}
	return flush(ctx, n, chain)
}

// flushMasquerade empties the chain that replaces clients' addresses.
func (f *faulty) flushMasquerade(ctx context.Context, n *lab.Node) error {
	if n.Proxy == lab.NFTables {
		return flush(ctx, n, "masquerading")
	}
	return flush(ctx, n, "KUBE-POSTROUTING")
}

func flush(ctx context.Context, n *lab.Node, chain string) (err error) {
	if n.Proxy == lab.NFTables {
		_, err = n.Run(ctx, "nft", "flush", "chain", "ip", "kube-proxy", chain)
	} else {
		_, err = n.Run(ctx, "iptables", "-t", "nat", "-F", chain)
	}
	return err
}

func (f *faulty) stopProxy(ctx context.Context, n *lab.Node) error { return n.StopKubeProxy(ctx) }

// The foreign rules, whose first word says how the chain is changed.
func (f *faulty) forwardRule(change string) []string {
	return []string{change, "FORWARD", "-d", f.endpoints[0].Addr().String(), "-p", "tcp", "--dport", fmt.Sprint(lab.WebPort), "-j", "DROP"}
}

func (f *faulty) earlyRules(change string) [][]string {
	var out [][]string
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		out = append(out, []string{"-t", "raw", change, chain, "-d", f.web.ClusterIPs[0].Addr().String(), "-p", "tcp", "-j", "DROP"})
	}
	return out
}

func (f *faulty) dropForwarded(ctx context.Context, n *lab.Node) error {
	return iptables(ctx, n, f.forwardRule("-I"))
}

func (f *faulty) dropForwardedNoMore(ctx context.Context, n *lab.Node) error {
	return iptables(ctx, n, f.forwardRule("-D"))
}

func (f *faulty) dropEarly(ctx context.Context, n *lab.Node) error {
	return iptables(ctx, n, f.earlyRules("-I")...)
}

func (f *faulty) dropEarlyNoMore(ctx context.Context, n *lab.Node) error {
	return iptables(ctx, n, f.earlyRules("-D")...)
}

func iptables(ctx context.Context, n *lab.Node, commands ...[]string) error {
	for _, args := range commands {
		if _, err := n.Run(ctx, "iptables", args...); err != nil {
			return err
		}
	}
	return nil
}

// scaleTo gives the worked example's Deployment so many replicas and waits until the API says so.
func scaleTo(replicas int) func(context.Context, *faulty) error {
	return func(ctx context.Context, f *faulty) error {
		scale := &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: lab.DemoName, Namespace: lab.DemoNamespace},
			Spec:       autoscalingv1.ScaleSpec{Replicas: int32(replicas)},
		}
		if _, err := f.client.AppsV1().Deployments(lab.DemoNamespace).UpdateScale(ctx, lab.DemoName, scale, metav1.UpdateOptions{}); err != nil {
			return err
		}
		err := eventually(ctx, fmt.Sprintf("wait for %d pods of the example", replicas), func() (bool, error) {
			pods, err := f.client.CoreV1().Pods(lab.DemoNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + lab.DemoName})
			return err == nil && len(pods.Items) == replicas, err
		})
		if err != nil {
			return err
		}
		return f.AwaitEndpoints(ctx, lab.DemoNamespace, lab.DemoName, replicas)
	}
}

// readEndpoints reads the endpoints of the worked example from the API.
func (f *faulty) readEndpoints(ctx context.Context) error {
	pods, err := f.client.CoreV1().Pods(lab.DemoNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + lab.DemoName})
	if err != nil {
		return err
	}
	f.endpoints = nil
	for _, p := range pods.Items {
		a, err := netip.ParseAddr(p.Status.PodIP)
		if err != nil {
			return err
		}
		f.endpoints = append(f.endpoints, netip.AddrPortFrom(a, lab.WebPort))
	}
	// kube-proxy sorts them as text
	slices.SortFunc(f.endpoints, func(a, b netip.AddrPort) int { return cmp.Compare(a.String(), b.String()) })
	return nil
}
