package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// hostPort is where the web server in the node's own network listens.
const hostPort = 9090

// The pods that are not like others: each is the only one behind the Service of its name, except for the client.
const (
	hostWeb    = "host-web"    // in node 2's network
	hostClient = "host-client" // in node 1's network
	loopback   = "loopback"    // listens on a loopback address only
	meshed     = "meshed"      // behind a sidecar that its own rules redirect to
)

var unusual = []service{
	{name: hostWeb, selects: map[string]string{"app": hostWeb}, target: hostPort},
	{name: loopback, selects: map[string]string{"app": loopback}},
	{name: meshed, selects: map[string]string{"app": meshed}},
}

// sidecarSource is what a meshed pod's own program sees as the client.
func sidecarSource(pod netip.Addr) netip.Addr {
	if pod.Is4() {
		return netip.MustParseAddr("127.0.0.6")
	}
	return netip.MustParseAddr("::6")
}

// makeUnusual makes the pods and the Services, and waits for the rules.
func (c *cluster) makeUnusual(ctx context.Context) error {
	g, making := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := c.RunPod(making, hostWeb, c.Node(2), lab.HostNetworkWebPodSpec(hostPort))
		return err
	})
	g.Go(func() error {
		_, err := c.HostNetworkClientPod(making, hostClient, c.Node(1))
		return err
	})
	g.Go(func() error {
		address := "127.0.0.1"
		if c.Options().Family == lab.IPv6 {
			address = "[::1]"
		}
		spec := lab.WebPodSpec("--listen", fmt.Sprintf("%s:%d", address, lab.WebPort))
		spec.Containers[0].ReadinessProbe = nil // the kubelet is refused too
		_, err := c.RunPod(making, loopback, c.Node(1), spec)
		return err
	})
	g.Go(func() error {
		_, err := c.SidecarPod(making, meshed, c.Node(2))
		return err
	})
	for i, s := range unusual {
		g.Go(func() error { return c.makeService(making, s, 60+i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.awaitRules(ctx, unusual)
}

// compareUnusual traces Services and clients that are not like others, and compares every walk with real connections:
// hosts' own networks, an endpoint that is its own client, an endpoint on a loopback address, and sidecars.
func (c *cluster) compareUnusual(ctx context.Context, t *testing.T, sums *sum) {
	if err := c.makeUnusual(ctx); err != nil {
		t.Fatal(err)
	}
	deaf := []string{"listens-on-loopback-only"}
	if c.Options().Family == lab.Dual {
		deaf = append(deaf, "target-port-not-listening") // over IPv6 nobody listens at all
	}
	for _, x := range []struct {
		name string
		args []string
		// finds are all findings.
		finds []string
		// check holds the walks against more than their ends; nil for nothing.
		check func(t *testing.T, a *render.ServiceTrace)
	}{
		{"an endpoint in its node's network", c.traceArgs(hostWeb), nil, nil},
		{"an endpoint on a loopback address", c.traceArgs(loopback), deaf, nil},
		{"an endpoint behind a sidecar", c.traceArgs(meshed), nil, nil},
		{"a client in its node's network", fromPod("plain", hostClient), nil, nil},
		{"a client in the network of its endpoint", fromPod(hostWeb, hostWeb), nil, nil},
		{"a client that is the only endpoint", fromPod("one-endpoint", "web-c"), nil, masqueradedToItself},
		{"a client that is one of the endpoints", fromPod("plain", "web-a"), nil, masqueradedToItself},
		{"a client behind a sidecar", fromPod("plain", meshed), nil, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			a, r := c.trace(ctx, t, x.args...)
			want := exitOK
			if len(x.finds) > 0 {
				want = exitFindings
			}
			if got := slices.Sorted(maps.Keys(findings(a))); !slices.Equal(got, x.finds) {
				t.Errorf("found %q, want %q: %+v", got, x.finds, a.Findings)
			}
			if r.code != want || r.stderr != "" || len(a.NotTraced) > 0 || len(a.Walks) == 0 {
				t.Errorf("exit code %d, want %d; %d walks, not traced %v; stderr:\n%s", r.code, want, len(a.Walks), a.NotTraced, r.stderr)
			}
			if x.check != nil {
				x.check(t, a)
			}
			c.compareWalks(ctx, t, a, sums)
		})
	}
	// what nobody answered has left flows, which the plugin would rightly find later
	if err := c.forgetFlows(ctx); err != nil {
		t.Fatal(err)
	}
}

// fromPod traces a Service from one pod.
func fromPod(service, pod string) []string {
	return []string{service, "-o", "json", "--from", "pod/" + pod}
}

// compareWalks compares every walk with real connections; those that a sidecar takes, with what it does with them.
func (c *cluster) compareWalks(ctx context.Context, t *testing.T, a *render.ServiceTrace, sums *sum) {
	t.Helper()
	var tasks []task
	for _, w := range a.Walks {
		k, err := c.taskFrom(a, w)
		if err != nil {
			t.Fatal(err)
		}
		if !w.Sidecar {
			tasks = append(tasks, k)
			continue
		}
		if err := c.compareSidecar(ctx, k); err != nil {
			t.Errorf("%s: %v\n%s", k.name, err, describe(w.Trace))
		}
	}
	c.compareTasks(ctx, t, tasks, sums)
}

// sidecarsOwn is the condition under which a packet is one that the sidecar itself has sent.
var sidecarsOwn = regexp.MustCompile(`^the sender's (user|group) is 1337$`)

// compareSidecar requires that a client's own pod redirects its connections to the sidecar, which makes one of its own,
// and that the trace says so.
func (c *cluster) compareSidecar(ctx context.Context, k task) error {
	taken := 0
	for _, o := range k.walk.Trace.Outcomes {
		switch own := slices.ContainsFunc(o.Conditions, func(c string) bool { return sidecarsOwn.MatchString(c) }); {
		case o.Verdict == trace.Delivered && o.Destination.Port() == lab.SidecarOutbound && !own:
			taken++
		case !own:
			return fmt.Errorf("not only the sidecar's own packets pass it: %s to %s, conditions %q", o.Verdict, o.Destination, o.Conditions)
		}
	}
	if taken != 1 {
		return fmt.Errorf("%d outcomes at the sidecar, want 1", taken)
	}
	pod := c.Pod(namespace, meshed)
	if _, err := pod.RunTool(ctx, "conntrack", "-F"); err != nil {
		return err
	}
	got, err := k.from.Connect(ctx, k.to, lab.ConnectOptions{Timeout: answerPatience})
	if err != nil {
		return err
	}
	if k.walk.Expected.Fate == "translated" && !got.All(lab.Answered) {
		return fmt.Errorf("through the sidecar: %+v", got)
	}
	flows, err := pod.RunTool(ctx, "conntrack", "-L", "-p", "tcp", "-f", familyName(k.to.Addr()), "--orig-dst", k.to.Addr().String())
	if err != nil {
		return err
	}
	if !strings.Contains(flows, fmt.Sprintf("sport=%d ", lab.SidecarOutbound)) {
		return fmt.Errorf("no flow in the pod is redirected to port %d:\n%s", lab.SidecarOutbound, flows)
	}
	return nil
}

// familyName is the family's name for conntrack -f.
func familyName(a netip.Addr) string {
	if a.Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// masqueradedToItself requires that the client's share of its own connections is masqueraded, and that it is traced to
// come back to the client's own socket.
func masqueradedToItself(t *testing.T, a *render.ServiceTrace) {
	t.Helper()
	for _, w := range a.Walks {
		p := a.AccessPaths[w.AccessPath]
		own := 0
		for _, o := range w.Trace.Outcomes {
			if o.Destination.Addr() != w.Client.Address {
				continue
			}
			own++
			if !o.Masqueraded || o.Source.Addr() == w.Client.Address || o.Verdict != trace.Delivered {
				t.Errorf("%s %s: the client's packet to itself: %s, from %s, masqueraded: %t", p.Kind, w.Destination, o.Verdict, o.Source, o.Masqueraded)
			}
		}
		if own == 0 {
			t.Errorf("%s %s: the client is not among its endpoints\n%s", p.Kind, w.Destination, describe(w.Trace))
		}
	}
}
