package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// wayBack is a reply that does not come back as the packet came, or the client's address does not reach where it should.
type wayBack struct {
	name string
	// cause changes the cluster and returns what undoes it; nil for a healthy cluster.
	cause func(c *cluster, ctx context.Context) (undo func(context.Context) error, err error)
	// args trace it; from is where the real connections start, nil for where the walks do.
	args func(c *cluster) []string
	from func(c *cluster) connector
	// returns are how replies come back, by the name of the pod that answers.
	returns map[string]string
	// says is in the reason of those that are not symmetric.
	says string
	// finding is that of the walk, empty for none.
	finding string
}

var waysBack = []wayBack{
	{
		name:    "nothing is wrong",
		args:    func(c *cluster) []string { return append(fromPod("plain", c.clients[0].Name), "--to", "clusterip") },
		returns: map[string]string{"web-a": "symmetric", "web-b": "symmetric", "web-c": "symmetric"},
	},
	{
		name: "on one bridge, without br_netfilter",
		cause: func(c *cluster, ctx context.Context) (func(context.Context) error, error) {
			const name = "net.bridge.bridge-nf-call-iptables"
			old, err := c.Node(1).Sysctl(ctx, name, "0")
			return func(ctx context.Context) error { _, err := c.Node(1).Sysctl(ctx, name, old); return err }, err
		},
		args:    func(c *cluster) []string { return append(fromPod("plain", c.clients[0].Name), "--to", "clusterip") },
		returns: map[string]string{"web-a": "untranslated", "web-b": "untranslated", "web-c": "symmetric"},
		says:    "and the client had asked", finding: "reply-not-translated",
	},
	{
		name: "without masquerade, and a direct route to the client",
		cause: func(c *cluster, ctx context.Context) (func(context.Context) error, error) {
			_, err := c.Node(1).Run(ctx, "iptables", "-t", "nat", "-I", "KUBE-POSTROUTING", "-j", "RETURN")
			return func(ctx context.Context) error {
				_, err := c.Node(1).Run(ctx, "iptables", "-t", "nat", "-D", "KUBE-POSTROUTING", "-j", "RETURN")
				return err
			}, err
		},
		args: func(c *cluster) []string {
			return []string{"plain", "-o", "json", "--from", "external=" + c.outsideAddresses()[0].String(), "--node", "node1", "--to", "nodeport"}
		},
		returns: map[string]string{"web-a": "symmetric", "web-b": "symmetric", "web-c": "untranslated"},
		says:    "and the client had asked", finding: "reply-not-translated",
	},
	{
		// kube-proxy leaves the source of a pod alone, and sends it to endpoints of every node
		name: "a pod's connection to another node's port, under externalTrafficPolicy Local",
		args: func(c *cluster) []string {
			return []string{"external-local", "-o", "json", "--from", "external=" + c.podAddress(2).String(), "--node", "node1", "--to", "nodeport"}
		},
		from:    func(c *cluster) connector { return c.clients[2] },
		returns: map[string]string{"web-a": "symmetric", "web-b": "symmetric", "web-c": "untranslated"},
		says:    "and the client had asked", finding: "reply-not-translated",
	},
	{
		name: "a port of a node with endpoints, under externalTrafficPolicy Local",
		args: func(c *cluster) []string {
			return []string{"external-local", "-o", "json", "--from", "external=" + c.outsideAddresses()[0].String(), "--node", "node2", "--to", "nodeport"}
		},
		returns: map[string]string{"web-c": "symmetric"},
	},
	{
		name: "by another node",
		cause: func(c *cluster, ctx context.Context) (func(context.Context) error, error) {
			to, via := netip.PrefixFrom(c.podAddress(0), 32).String(), nodeAddress(c.Node(3), true).String()
			_, err := c.Node(2).Run(ctx, "ip", "route", "add", to, "via", via)
			return func(ctx context.Context) error {
				_, err := c.Node(2).Run(ctx, "ip", "route", "del", to, "via", via)
				return err
			}, err
		},
		args:    func(c *cluster) []string { return append(fromPod("plain", c.clients[0].Name), "--to", "clusterip") },
		returns: map[string]string{"web-a": "symmetric", "web-b": "symmetric", "web-c": "asymmetric"},
		says:    "goes back by node2, node3, node1", finding: "asymmetric-path",
	},
}

// TestRepliesComeBackAsWalked causes each way in which a reply goes astray, and requires that the trace says how and why,
// and that real connections end so.
func TestRepliesComeBackAsWalked(t *testing.T) {
	c := newClusterOf(t, "back", lab.Options{Nodes: 3, Proxy: []lab.ProxyMode{lab.IPTables, lab.NFTables, lab.NFTables}, Family: lab.IPv4})
	ctx := within(t, 8*time.Minute)
	if err := c.makeWeb(ctx, []service{services[0], services[1]}); err != nil {
		t.Fatal(err)
	}
	for _, x := range waysBack {
		t.Run(x.name, func(t *testing.T) {
			if x.cause != nil {
				undo, err := x.cause(c, ctx)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := undo(ctx); err != nil {
						t.Error(err)
					}
				}()
			}
			a, _ := c.trace(ctx, t, x.args(c)...)
			if len(a.Walks) == 0 {
				t.Fatal("no walks")
			}
			for _, w := range a.Walks {
				c.checkReturns(ctx, t, x, a, w)
			}
			c.compareBack(ctx, t, x, a)
			if err := c.forgetFlows(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// checkReturns requires that the replies of a walk come back as they should, with a reason.
func (c *cluster) checkReturns(ctx context.Context, t *testing.T, x wayBack, a *render.ServiceTrace, w render.Walk) {
	t.Helper()
	if a.AccessPaths[w.AccessPath].Protocol != "tcp" {
		return
	}
	pods, err := c.podAddresses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range w.Replies {
		for _, i := range append([]int{r.Outcome}, r.Same...) {
			got[pods[w.Trace.Outcomes[i].Destination.Addr()]] = r.Return
		}
		if r.Return != "symmetric" && !strings.Contains(r.Reason, x.says) {
			t.Errorf("%s: the reason %q does not say %q", w.Destination, r.Reason, x.says)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(x.returns) {
		t.Errorf("%s: replies come back %v, want %v", w.Destination, got, x.returns)
	}
	if x.finding != "" && !slices.Contains(w.Findings, x.finding) {
		t.Errorf("%s: findings %q, want %s", w.Destination, w.Findings, x.finding)
	}
}

// compareBack compares the walks with real connections, from where they really start.
func (c *cluster) compareBack(ctx context.Context, t *testing.T, x wayBack, a *render.ServiceTrace) {
	t.Helper()
	f, err := c.follower(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		if slices.ContainsFunc(a.Walks, func(w render.Walk) bool { return w.Node == n.Name && w.Client.Kind == "outside" }) {
			if err := c.routeOutside(ctx, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, w := range a.Walks {
		k, err := c.taskFrom(a, w)
		if err != nil {
			t.Fatal(err)
		}
		if x.from != nil {
			k.from = x.from(c)
		}
		if err := c.compare(ctx, f, k, &sum{}); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// podAddress is the IPv4 address of the idle pod on a node, counted from 0.
func (c *cluster) podAddress(i int) netip.Addr {
	addrs, err := c.clients[i].Addresses(context.Background())
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range addrs {
		if a.Is4() {
			return a
		}
	}
	return netip.Addr{}
}
