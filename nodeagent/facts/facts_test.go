package facts_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/facts"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// proxy answers as kube-proxy 1.37 does.
func proxy(w http.ResponseWriter, r *http.Request) {
	answers := map[string]string{
		"/proxyMode": "iptables",
		"/metrics": "# HELP x y\nkubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 1.7e+09\n" +
			"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1.6e+09\n" +
			"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family=\"IPv4\"} 3\n" +
			"kubernetes_build_info{build_date=\"x\",git_version=\"v1.33.4\",major=\"1\"} 1\n",
		"/configz": `{"kubeproxy.config.k8s.io":{"clusterCIDR":"10.244.0.0/16,fd00::/48","hostnameOverride":"n1","nodePortAddresses":["10.250.0.0/24"],"iptables":{"masqueradeBit":15,"localhostNodePorts":true}}}`,
	}
	body, ok := answers[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(body))
}

// collect asks a network namespace of its own, prepared with the real tools, in which a kube-proxy answers. The thread is not
// given back.
func collect(t *testing.T, q wire.FactsRequest, commands ...string) *wire.FactsAnswer {
	t.Helper()
	done := make(chan *wire.FactsAnswer, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("making a network namespace (needs root): %v", err)
			return
		}
		for _, c := range append([]string{"ip link set lo up"}, commands...) {
			if out, err := exec.Command("sh", "-ec", c).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", c, err, out)
				return
			}
		}
		listener, err := net.Listen("tcp", "127.0.0.1:10249")
		if err != nil {
			t.Error(err)
			return
		}
		server := &http.Server{Handler: http.HandlerFunc(proxy)}
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		ns, err := live.Open()
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		a, err := facts.Collect(ctx, ns, q, func(c *skb.Conn) wire.Flow { return wire.Flow{Destination: c.Orig.Dst} })
		if err != nil {
			t.Error(err)
			return
		}
		done <- a
	}()
	a := <-done
	if a == nil {
		t.FailNow()
	}
	if len(a.Unread) > 0 {
		t.Errorf("could not read %v", a.Unread)
	}
	return a
}

func TestWhatKubeProxySays(t *testing.T) {
	k := collect(t, wire.FactsRequest{}).KubeProxy
	if k.Health.Listening || !k.Metrics.Listening || k.Metrics.Status != 200 || k.Mode != "iptables" || k.Failures != 3 || k.Version != "v1.33.4" || !k.Runs() {
		t.Errorf("%+v", k)
	}
	if len(k.Sync) != 1 || k.Sync[0].Family != "IPv4" || k.Sync[0].Queued != 1.7e9 || k.Sync[0].Last != 1.6e9 || k.Sync[0].QueuedAge < 1e6 {
		t.Errorf("%+v", k.Sync)
	}
	c := k.Config
	if c == nil || len(c.ClusterCIDR) != 2 || c.HostnameOverride != "n1" || c.MasqueradeBit != 15 || !c.LocalhostNodePorts {
		t.Errorf("%+v", c)
	}
}

func TestChainsOfBothBackends(t *testing.T) {
	rules := func(tool string) string {
		return strings.ReplaceAll("@ -t nat -N KUBE-SERVICES; @ -t nat -A PREROUTING -j KUBE-SERVICES; @ -N KUBE-FORWARD; @ -A FORWARD -j KUBE-FORWARD;"+
			"@ -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP; @ -N DOCKER-USER; @ -A FORWARD -j DOCKER-USER", "@", tool)
	}
	a := collect(t, wire.FactsRequest{Chains: []string{"KUBE-SVC-X"}}, rules("iptables-nft"), rules("iptables-legacy"))
	for _, backend := range []string{"nft", "legacy"} {
		find := func(table, name string) wire.Chain {
			i := slices.IndexFunc(a.Chains, func(c wire.Chain) bool {
				return c.Backend == backend && c.Table == table && c.Name == name && c.Family == "ipv4"
			})
			if i < 0 {
				t.Fatalf("%s: no answer about %s", backend, name)
			}
			return a.Chains[i]
		}
		if c := find("nat", "KUBE-SERVICES"); !c.Present || !slices.Equal(c.From, []string{"PREROUTING"}) || !slices.Equal(c.NotFrom, []string{"OUTPUT"}) {
			t.Errorf("%+v", c)
		}
		if c := find("filter", "KUBE-FORWARD"); !c.Present || len(c.Rules) != 1 || c.Rules[0].Text != "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP" {
			t.Errorf("%+v", c)
		}
		if c := find("nat", "KUBE-SVC-X"); c.Present {
			t.Errorf("%+v", c)
		}
	}
	if len(a.Owners) != 1 || a.Owners[0].Name != "Docker" {
		t.Errorf("owners %+v", a.Owners)
	}
}

func TestTunnelThatDoesNotFit(t *testing.T) {
	a := collect(t, wire.FactsRequest{Endpoints: []netip.Addr{netip.MustParseAddr("10.9.9.9")}},
		"ip link add eth7 type veth peer name far7; ip link set eth7 up; ip link set far7 up; ip addr add 10.7.0.1/24 dev eth7",
		"ip link add vx7 type vxlan id 7 local 10.7.0.1 dstport 8472; ip link set vx7 mtu 1500 up")
	i := slices.IndexFunc(a.Links, func(l wire.Link) bool { return l.Name == "vx7" })
	if i < 0 {
		t.Fatalf("%+v", a.Links)
	}
	if l := a.Links[i]; l.Outer != "eth7" || l.OuterMTU != 1500 || l.MTU != 1500 || l.Overhead != 50 || !l.ChecksumOffload || !l.Up {
		t.Errorf("%+v", l)
	}
	if len(a.Routes) != 1 || a.Routes[0].Refused != "ENETUNREACH" {
		t.Errorf("%+v", a.Routes)
	}
	if v, ok := a.Sysctl("net/ipv4/conf/eth7/forwarding"); !ok || v == "" {
		t.Errorf("%q %v", v, ok)
	}
}
