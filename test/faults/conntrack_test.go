package faults

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// conntrackFaults are about the table without which nothing is translated.
var conntrackFaults = []fault{
	{
		name: "the connection tracking table is full", want: "conntrack-full", node: 1,
		cause: filled(100), repair: forget, real: fails(clientPod, clusterIP), proof: []string{"nf_conntrack_count is", "drop "},
	},
	{
		name: "the connection tracking table is nearly full", want: "conntrack-nearly-full", node: 1,
		cause: filled(93), repair: forget, sees: "93 of 100 entries are settled", proof: []string{"nf_conntrack_count is"},
	},

	{
		name: "established connections whose entries are gone", want: "invalid-drop", node: 1, quiet: true,
		cause: sequence(set("net.netfilter.nf_conntrack_tcp_loose", "0"), midway), repair: sequence(set("net.netfilter.nf_conntrack_tcp_loose", "1"), restartProxy),
		sees:  "the connections hang: kube-proxy's rule drops their next packets",
		proof: []string{"--ctstate INVALID", "handle", "nf_conntrack_tcp_be_liberal = 0"},
	},
}

// lastFaults leave traces that the kernel never forgets.
var lastFaults = []fault{
	{
		name: "two connections that need the same source port", want: "conntrack-insert-failed", node: 1, quiet: true, stays: true,
		cause: sequence(shell("iptables -t nat -I POSTROUTING -p tcp -d 10.250.0.99 -j SNAT --to-source 10.250.0.11:40000"), func(ctx context.Context, _ *bed, n *lab.Node) error {
			_, err := n.Connect(ctx, netip.MustParseAddrPort("10.250.0.99:9"), lab.ConnectOptions{Count: 192, Parallel: 64, Timeout: 1300 * time.Millisecond})
			return err
		}),
		repair: shell("iptables -t nat -D POSTROUTING -p tcp -d 10.250.0.99 -j SNAT --to-source 10.250.0.11:40000"),
		real:   insertFailed, sees: "the second connection's packets are dropped, which the kernel counts", proof: []string{"insert_failed"},
	}}

// filled fills the node's table to so many hundredths of what it may hold. What is there already stays.
func filled(percent int) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		self, err := copySelf(b.Dir())
		if err != nil {
			return err
		}
		text, err := n.Run(ctx, "cat", "/proc/sys/net/netfilter/nf_conntrack_max")
		if err != nil {
			return err
		}
		most, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		_, err = n.Run(ctx, "env", fmt.Sprintf("%s=%d", fillVariable, most*percent/100), self)
		return err
	}
}

// insertFailed requires that the kernel counted it.
func insertFailed(ctx context.Context, _ *bed, n *lab.Node) error {
	out, err := n.Run(ctx, "conntrack", "-S")
	if err != nil {
		return err
	}
	for word := range strings.FieldsSeq(out) {
		if v, ok := strings.CutPrefix(word, "insert_failed="); ok && v != "0" {
			return nil
		}
	}
	return fmt.Errorf("no insert_failed in %s", out)
}

// midway opens connections from the client pod to the pod on node2, forgets their entries on node1, and goes on.
func midway(ctx context.Context, b *bed, n *lab.Node) error {
	to := b.podOn("node2").Status.PodIP
	done := make(chan error, 1)
	var answer string
	go func() {
		var err error
		answer, err = b.clients[0].RunTool(ctx, "sh", "-c", fmt.Sprintf("for i in $(seq 80); do (sleep 2; printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 2) | timeout 5 busybox nc %s 8080 & done; wait; true", to))
		done <- err
	}()
	if err := shell("sleep 1.2; conntrack -D -p tcp --dport 8080 -d "+to+" >/dev/null")(ctx, b, n); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	if answer != "" {
		return fmt.Errorf("the connection went on: %q", answer)
	}
	return nil
}
