//go:build linux

package nft_test

import (
	_ "embed"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// kubeProxy is the rule set of kube-proxy 1.37 in nftables mode with four Services.
//
//go:embed testdata/kube-proxy.nft
var kubeProxy string

func TestKubeProxyServices(t *testing.T) {
	ctx := newNamespace(t)
	load(t, kubeProxy)
	e := newEnv(t)
	e.local[netip.MustParseAddr("192.168.1.10")] = true
	ev := &nftables.Evaluator{Env: e}

	tests := []struct {
		name     string
		proto    uint8
		src, dst string
		chain    string
		want     []string // "probability code destination mark", one for each branch
		way      []string // of the first branch
	}{
		{
			name: "cluster IP from a pod", proto: skb.TCP, src: "10.244.1.9:40000", dst: "10.96.0.25:80", chain: "services",
			want: []string{"1/2 10.244.1.10:8080 0x0", "1/2 10.244.2.15:8080 0x0"},
			way: []string{
				"goto service-ULMVA6XW-ns/web/tcp/http | 10.96.0.25 . tcp . 80 is in service-ips",
				"dnat to 10.244.1.10:8080 | ",
			},
		},
		{
			name: "cluster IP from outside is masqueraded", proto: skb.TCP, src: "192.168.7.7:1234", dst: "10.96.0.1:443", chain: "services",
			want: []string{"1 192.168.1.2:6443 0x4000"},
			way: []string{
				"mark set 0x4000 | 10.96.0.1 is in cluster-ips",
				"goto service-BBBBBBBB-default/kubernetes/tcp/https | 10.96.0.1 . tcp . 443 is in service-ips",
				"dnat to 192.168.1.2:6443 | ",
			},
		},
		{
			name: "node port", proto: skb.TCP, src: "192.168.7.7:1234", dst: "192.168.1.10:30080", chain: "services",
			want: []string{"1/2 10.244.1.10:8080 0x4000", "1/2 10.244.2.15:8080 0x4000"},
		},
		{
			name: "another address and port", proto: skb.TCP, src: "10.244.1.9:40000", dst: "10.244.2.2:80", chain: "services",
			want: []string{"1 10.244.2.2:80 0x0"},
		},
		{
			name: "affinity without history", proto: skb.TCP, src: "10.244.1.9:40000", dst: "10.96.0.30:80", chain: "services",
			want: []string{"1/2 10.244.1.11:80 0x0", "1/2 10.244.2.12:80 0x0"},
		},
		{
			name: "udp on a tcp service", proto: skb.UDP, src: "10.244.1.9:40000", dst: "10.96.0.25:80", chain: "services",
			want: []string{"1 10.96.0.25:80 0x0"},
		},
	}
	for _, tt := range tests {
		p := newPacket(t, tt.proto, tt.src, tt.dst)
		p.In, p.Hook = "veth1", skb.Prerouting
		branches := walk(t, ctx, e, ev, node.NFTIPv4, "kube-proxy", tt.chain, p)
		var got []string
		for _, b := range branches {
			got = append(got, b.P.RatString()+" "+b.Value.packet.Destination().String()+" 0x"+hex(b.Value.packet.Mark))
			if len(b.Assumptions) > 0 {
				t.Errorf("%s: assumptions %v", tt.name, b.Assumptions)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, d)
		}
		if tt.way != nil {
			if d := cmp.Diff(tt.way, branches[0].Value.way); d != "" {
				t.Errorf("%s: way (-want +got)\n%s", tt.name, d)
			}
		}
	}
}

func hex(v uint32) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	started := false
	for i := 28; i >= 0; i -= 4 {
		if d := v >> i & 15; d != 0 || started || i == 0 {
			b.WriteByte(digits[d])
			started = true
		}
	}
	return b.String()
}

func TestKubeProxyAffinityIsRead(t *testing.T) {
	ctx := newNamespace(t)
	load(t, kubeProxy)
	run(t, "", "nft", "add", "element", "ip", "kube-proxy", "affinity-AAAA0002-ns/sticky/tcp/__10.244.2.12/80", "{ 10.244.1.9 }")
	e := newEnv(t)
	ev := &nftables.Evaluator{Env: e}
	branches := walk(t, ctx, e, ev, node.NFTIPv4, "kube-proxy", "services", newPacket(t, skb.TCP, "10.244.1.9:40000", "10.96.0.30:80"))
	if len(branches) != 1 || branches[0].Value.packet.Destination().String() != "10.244.2.12:80" {
		t.Errorf("a client with an affinity element has %d branches, the first to %s", len(branches), branches[0].Value.packet.Destination())
	}
}

func TestKubeProxyRejectsServicesWithoutEndpoints(t *testing.T) {
	ctx := newNamespace(t)
	load(t, kubeProxy)
	e := newEnv(t)
	ev := &nftables.Evaluator{Env: e}
	p := newPacket(t, skb.TCP, "10.244.1.9:40000", "10.96.0.40:80")
	p.Hook = skb.Forward
	branches := walk(t, ctx, e, ev, node.NFTIPv4, "kube-proxy", "filter-forward", p)
	if len(branches) != 1 || branches[0].Value.With != "icmp-port-unreachable" {
		t.Errorf("got %d branches, the first %+v", len(branches), branches[0].Value.Result)
	}
}
