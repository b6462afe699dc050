//go:build linux

package walk_test

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// oneWay is a namespace with an interface to a neighbour whose hardware address is known.
var oneWay = []string{
	"ip link set lo up", "ip link add eth0 type veth peer name far", "ip link set far up", "ip link set eth0 up", "ip addr add 10.250.0.11/24 dev eth0",
	"ip neigh add 10.250.0.12 dev eth0 lladdr 02:00:00:00:00:12 nud permanent",
}

// received counts the packets that come to the other end of eth0 when one datagram to the neighbour is sent.
func received(t *testing.T) (n int) {
	t.Helper()
	count := func() string {
		all, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(all), "far:")
		return strings.Fields(line)[1] // received packets
	}
	shell(t, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1 net.ipv6.conf.far.disable_ipv6=1")
	before := count()
	c, err := net.Dial("udp", "10.250.0.12:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("x"))
	for range 20 {
		if count() != before {
			return 1
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0
}

func TestQueueThatDiscardsDropsThePacket(t *testing.T) {
	namespace(t, oneWay...)
	s := start("10.250.0.11:0", "10.250.0.12:80")
	s.Follow = false
	for _, c := range []struct {
		qdisc   string
		verdict trace.Verdict
		came    int
	}{{"noqueue", trace.Forwarded, 1}, {"htb", trace.Forwarded, 1}, {"tbf rate 8mbit burst 20k latency 10ms", trace.Forwarded, 1}, {"blackhole", trace.Dropped, 0}} {
		if c.qdisc != "noqueue" {
			shell(t, "tc qdisc replace dev eth0 root handle 7: "+c.qdisc)
		}
		x := walkHere(t, s)
		if came := received(t); came != c.came || len(x.Outcomes) != 1 || x.Outcomes[0].Verdict != c.verdict {
			t.Errorf("%s: %d packets came, want %d; %+v, want %s", c.qdisc, came, c.came, x.Outcomes, c.verdict)
		}
		if c.qdisc != "noqueue" {
			shell(t, "tc qdisc del dev eth0 root")
		}
	}
}

// queued is a node whose interfaces are said to have a queueing discipline that the kernel of the tests may not have.
type queued struct {
	*live.Node
	kind string
}

func (n queued) Namespace(ctx context.Context, id string) (node.Namespace, string, error) {
	ns, label, err := n.Node.Namespace(ctx, id)
	return queuedNamespace{ns, n.kind}, label, err
}

type queuedNamespace struct {
	node.Namespace
	kind string
}

func (n queuedNamespace) Links(ctx context.Context) ([]node.Link, error) {
	links, err := n.Namespace.Links(ctx)
	links = slices.Clone(links)
	for i := range links {
		links[i].Qdisc = n.kind
	}
	return links, err
}

func TestQueueThatIsNotModelledIsUnknown(t *testing.T) {
	namespace(t, oneWay...)
	s := start("10.250.0.11:0", "10.250.0.12:80")
	s.Follow = false
	for _, kind := range []string{"netem", "hfsc", "plug", "of-tomorrow"} {
		w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
			n, err := live.OpenNode()
			if err != nil {
				return nil, nil, err
			}
			return queued{n, kind}, n.Close, nil
		}}
		x, err := w.Walk(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range x.Outcomes {
			if o.Verdict != trace.Undetermined || len(o.Unknown) != 1 || !strings.Contains(o.Unknown[0].What, kind) {
				t.Errorf("%s: %+v", kind, o)
			}
		}
	}
}
