package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// Node is one node of a lab.
type Node struct {
	*Place
	// Index is the node's number, 1 being the first.
	Index int
	// Name is the name of the Node object.
	Name string
	// Addresses are the node's addresses on the nodes' network, one per family.
	Addresses []netip.Addr
	// PodRanges are the ranges that its pods' addresses are from, one per family.
	PodRanges []netip.Prefix
	// Proxy is its proxy mode.
	Proxy ProxyMode
}

// Node is the node with that number, 1 being the first. Of a number that the lab does not have every method fails.
func (l *Lab) Node(i int) *Node {
	a := addresses{l.config.Options.Family}
	n := &Node{Index: i, Name: nodeName(i), Addresses: a.node(i), PodRanges: a.pods(i)}
	if i >= 1 && i <= len(l.config.Options.Proxy) {
		n.Proxy = l.config.Options.Proxy[i-1]
	}
	netns := l.netns(n.Name)
	n.Place = &Place{
		lab: l, name: n.Name, dir: "/",
		netns: func(context.Context) (string, error) { return netns, nil },
		enter: func(ctx context.Context) ([]string, error) {
			pid, err := l.nodePID(ctx, n.Name)
			if err != nil {
				return nil, err
			}
			return []string{fmt.Sprintf("--target=%d", pid), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net"}, nil
		},
	}
	return n
}

// Nodes are all nodes, in order.
func (l *Lab) Nodes() []*Node {
	nodes := make([]*Node, l.config.Options.Nodes)
	for i := range nodes {
		nodes[i] = l.Node(i + 1)
	}
	return nodes
}

// nodePID is the number, on the machine, of the node's process 1.
func (l *Lab) nodePID(ctx context.Context, node string) (int, error) {
	pid, err := controlPID(ctx, l.state.control(node))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", node, err)
	}
	return pid, nil
}

// Start starts a component of the node, if it does not run.
func (n *Node) Start(ctx context.Context, c Component) error { return n.ask(ctx, "start", c) }

// Stop stops a component of the node and returns when it has ended. What it has set up in the kernel stays.
func (n *Node) Stop(ctx context.Context, c Component) error { return n.ask(ctx, "stop", c) }

func (n *Node) ask(ctx context.Context, do string, c Component) error {
	if _, err := askControl(ctx, n.lab.state.control(n.Name), controlRequest{Do: do, Component: c}); err != nil {
		return fmt.Errorf("%s %s on %s: %w", do, c, n.Name, err)
	}
	return nil
}

// StopKubeProxy stops kube-proxy: from then on the node's rules are no longer kept.
func (n *Node) StopKubeProxy(ctx context.Context) error { return n.Stop(ctx, KubeProxy) }

// StartKubeProxy starts kube-proxy and waits until it has written its rules.
func (n *Node) StartKubeProxy(ctx context.Context) error {
	if err := n.Start(ctx, KubeProxy); err != nil {
		return err
	}
	return until(ctx, pollEvery, func() (bool, error) {
		return proxySynced(ctx, n.Addresses[0], n.lab.Dial) == nil, nil
	})
}

// Unplug pulls the node's cable: it goes on, but nothing comes to it or from it, until plug puts the cable back. It can
// still be entered.
func (n *Node) Unplug(ctx context.Context) (plug func(context.Context) error, err error) {
	return func(ctx context.Context) error { return n.setCable(ctx, "up") }, n.setCable(ctx, "down")
}

// setCable sets something of the switch's end of the node's cable, as in `ip link set`.
func (n *Node) setCable(ctx context.Context, what ...string) error {
	argv := append([]string{"ip", "link", "set", cable(n.Name)}, what...)
	_, err := n.output(n.lab.nsenter(ctx, []string{fmt.Sprintf("--target=%d", n.lab.record.Init.PID), "--net"}, false, argv), "", argv)
	return err
}

// Kill ends the node as a power cut would: it is unplugged, and every process on it, its pods' too, dies. It does not
// come back.
func (n *Node) Kill(ctx context.Context) error {
	if _, err := n.Unplug(ctx); err != nil {
		return err
	}
	pid, err := n.lab.nodePID(ctx, n.Name)
	if err != nil {
		return err
	}
	p, err := processOf(pid)
	if err != nil {
		return err
	}
	return p.signal(syscall.SIGKILL)
}

// Load loads an image archive (OCI or Docker tar) into the node.
func (n *Node) Load(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	argv := []string{"ctr", "--namespace", "k8s.io", "images", "import", "-"}
	cmd, err := n.Command(ctx, argv[0], argv[1:]...)
	if err != nil {
		return err
	}
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, &out, &out
	if err := cmd.Run(); err != nil {
		return &RunError{Place: n.Name, Command: argv, Stderr: out.String(), Err: err}
	}
	return nil
}

// Load loads an image archive (OCI or Docker tar) into every node.
func (l *Lab) Load(ctx context.Context, archive string) error {
	for _, n := range l.Nodes() {
		if err := n.Load(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}
