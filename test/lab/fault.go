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
