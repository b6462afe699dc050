package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// Faults are caused with the machine's own tools: Place.Run("nft", …), Run("iptables", …), Run("ip", …), and the
// component hooks of Node. The functions here are those that also know the way back.

// Sysctl sets a kernel parameter of the place's network namespace (dots between the parts, or slashes) and returns the
// value it had. Only the control plane's, the outside's and nodes' can be set; for a pod use RunTool.
func (p *Place) Sysctl(ctx context.Context, name, value string) (old string, err error) {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	file := "/proc/sys/" + name
	old, err = p.Run(ctx, "cat", file)
	if err != nil {
		return "", err
	}
	_, err = p.RunInput(ctx, value, "tee", file)
	return strings.TrimSpace(old), err
}

// DropRoute deletes the routes to exactly this destination and returns a function that puts them back.
func (p *Place) DropRoute(ctx context.Context, to netip.Prefix) (restore func(context.Context) error, err error) {
	family := "-4"
	if to.Addr().Is6() {
		family = "-6"
	}
	show, err := p.Run(ctx, "ip", family, "route", "show", "exact", to.String())
	if err != nil {
		return nil, err
	}
	var routes [][]string
	for line := range strings.Lines(show) {
		if fields := strings.Fields(line); len(fields) > 0 {
			routes = append(routes, fields)
		}
	}
	if len(routes) == 0 {
		return nil, fmt.Errorf("%s has no route to %v", p, to)
	}
	change := func(ctx context.Context, do string) error {
		for _, r := range routes {
			if _, err := p.Run(ctx, "ip", append([]string{family, "route", do}, r...)...); err != nil {
				return err
			}
		}
		return nil
	}
	return func(ctx context.Context) error { return change(ctx, "add") }, change(ctx, "del")
}

// CableMTU lets nothing larger than mtu bytes pass between the node and the switch, either way, until restore: as where
// the nodes' network carries less than nodes believe, whose own eth0 keeps its MTU. Larger packets are gone without a
// word, and so are tunnelled ones that are larger with the tunnel's overhead.
func (n *Node) CableMTU(ctx context.Context, mtu int) (restore func(context.Context) error, err error) {
	places := []*Place{n.lab.Outside()}
	if n.lab.config.Options.Beyond {
		places = append(places, n.lab.Router())
	}
	for _, node := range n.lab.Nodes() {
		places = append(places, node.Place)
	}
	// What a device would cut into packets passes a virtual cable uncut, whatever its MTU (is_skb_forwardable in
	// net/core/dev.c, Linux 6.18), unless the sender's device takes one packet at a time.
	segments := func(ctx context.Context, most string) error {
		for _, p := range places {
			if _, err := p.Run(ctx, "ip", "link", "set", "dev", "eth0", "gso_max_segs", most); err != nil {
				return err
			}
		}
		return nil
	}
	set := func(ctx context.Context, mtu int, most string) error {
		if err := segments(ctx, most); err != nil {
			return err
		}
		return n.setCable(ctx, "mtu", fmt.Sprint(mtu))
	}
	return func(ctx context.Context) error { return set(ctx, switchMTU, "65535") }, set(ctx, mtu, "1")
}

// DropFragments makes the nodes' network lose every fragment of a packet, as the networks of some providers do, until
// restore. What is tunnelled and does not fit is then gone.
func (l *Lab) DropFragments(ctx context.Context) (restore func(context.Context) error, err error) {
	const rules = `table bridge lossy {
	chain forward {
		type filter hook forward priority 0
		ip frag-off & 0x3fff != 0 drop
		exthdr frag exists drop
	}
}`
	onSwitch := func(ctx context.Context, input string, argv ...string) error {
		_, err := l.Outside().output(l.nsenter(ctx, []string{fmt.Sprintf("--target=%d", l.record.Init.PID), "--net"}, false, argv), input, argv)
		return err
	}
	return func(ctx context.Context) error { return onSwitch(ctx, "", "nft", "delete", "table", "bridge", "lossy") },
		onSwitch(ctx, rules, "nft", "-f", "-")
}
