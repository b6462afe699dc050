package walk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// A frame that arrives on a bridge port passes the bridge's hooks first, and with br_netfilter the IP hooks inside them:
//
//	port ─ bridge prerouting ─ (IP prerouting) ─┬─ bridge input ─ (IP prerouting) ─ routing, as from the bridge device
//	                                            └─ (IP forward) ─ bridge forward ─ bridge postrouting ─ (IP postrouting) ─ port
//
// (net/bridge/br_input.c, br_netfilter_hooks.c). A packet that is routed out by a bridge device passes bridge output and
// postrouting behind the IP hooks.

// bridgeOf returns the bridge that an interface is a port of.
func (w *walk) bridgeOf(name string) (bridge node.Link, ok bool, err error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return node.Link{}, false, err
	}
	i := slices.IndexFunc(links, func(l node.Link) bool { return l.Name == name })
	if i < 0 || links[i].Master == 0 {
		return node.Link{}, false, nil
	}
	for _, l := range links {
		if l.Index == links[i].Master && l.Kind == "bridge" {
			return l, true, nil
		}
	}
	return node.Link{}, false, nil
}

// bridgeCallsIP tells whether br_netfilter passes the bridge's frames of a family through the IP hooks.
func (w *walk) bridgeCallsIP(bridge node.Link, f skb.Family) (bool, error) {
	name, own := "net/bridge/bridge-nf-call-iptables", bridge.CallIPTables
	if f == skb.IPv6 {
		name, own = "net/bridge/bridge-nf-call-ip6tables", bridge.CallIP6Tables
	}
	v, err := w.ns.Sysctl(w.ctx, name)
	if errors.Is(err, node.ErrNotFound) {
		return false, nil // br_netfilter is not loaded
	}
	return err == nil && (v != "0" || own), err
}

// fromPort walks a packet that arrives on a bridge's port.
func (w *walk) fromPort(b *branch, bridge node.Link) {
	p := b.p
	port := p.In
	calls, err := w.bridgeCallsIP(bridge, p.Family)
	if err != nil {
		w.fail(err)
		return
	}
	decide := func(b *branch) { w.switchFrame(b, bridge, port, calls) }
	b.address(w.start.FrameTo, bridge)
	p.PktType = b.frameType()
	w.ingress(b, func(b *branch) {
		if !calls {
			w.passBridge(b, bridge, skb.Prerouting, port, "", wholeHook, decide)
			return
		}
		w.passBridge(b, bridge, skb.Prerouting, port, "", beforeIP, func(b *branch) {
			b.p.In, b.p.PhysIn, b.p.PktType = bridge.Name, port, skb.PacketHost
			w.hop(b, trace.Hop{Hook: "bridge", Action: "bridge " + bridge.Name + " calls the IP hooks", Says: "bridge-nf-call is on: frames on the bridge pass IP prerouting, forward and postrouting"})
			was := b.p.Dst()
			w.pass(b, skb.Prerouting, func(b *branch) {
				b.readdressed = b.p.Dst() != was // br_nf_ipv4_daddr_was_changed
				onLink, err := w.onLink(b.p, bridge)
				if err != nil {
					w.fail(err)
					return
				}
				if b.readdressed && !onLink {
					b.sent = toGateway // br_nf_pre_routing_finish addresses the frame to the bridge
				}
				b.p.PktType = b.frameType()
				w.passBridge(b, bridge, skb.Prerouting, port, "", behindIP, decide)
			})
		})
	})
}

// address notes to whom a frame was sent, when the start of the walk tells.
func (b *branch) address(to []byte, bridge node.Link) {
	if to == nil || b.sent != 0 || b.crossings != 0 {
		return
	}
	b.sent = toDestination
	if bytes.Equal(to, bridge.HardwareAddr) {
		b.sent = toGateway
	}
}

// frameType is the packet's type in the bridge's hooks: a frame for another port is another host's (br_handle_frame). In the
// IP hooks br_netfilter makes it this host's.
func (b *branch) frameType() uint8 {
	switch b.sent {
	case toGateway:
		return skb.PacketHost
	case toDestination:
		return skb.PacketOtherHost
	}
	return skb.PacketUnknown
}

// switchFrame decides whether the bridge hands a frame up to the node or on to another port.
func (w *walk) switchFrame(b *branch, bridge node.Link, port string, calls bool) {
	p := b.p
	onLink, err := w.onLink(p, bridge)
	if err != nil {
		w.fail(err)
		return
	}
	up := func(b *branch) {
		b.p.PktType = skb.PacketHost
		w.passBridge(b, bridge, skb.Input, port, "", wholeHook, func(b *branch) {
			b.p.In, b.p.PhysIn, b.p.PktType = bridge.Name, "", skb.PacketHost
			w.hop(b, trace.Hop{Hook: "bridge", Action: "up from " + bridge.Name, Says: "the frame is for the bridge's own address: the node routes it"})
			if calls {
				b.p.PhysIn = port
				w.ingress(b, w.inputRoute) // IP prerouting is not run a second time (ip_sabotage_in)
				return
			}
			w.ingress(b, func(b *branch) { w.pass(b, skb.Prerouting, w.inputRoute) })
		})
	}
	across := func(b *branch) { w.acrossBridge(b, bridge, port, calls) }
	translated := b.readdressed
	if w.start.FrameTo != nil && b.crossings == 0 && !translated {
		onLink = true // the frame's address decides, not the packet's
	}
	switch {
	case !onLink:
		up(b)
	case !translated && b.sent == toGateway:
		up(b)
	case !translated && b.sent == toDestination:
		across(b)
	case translated:
		// br_nf_pre_routing_finish sends a translated frame to the endpoint's port when that is on the same bridge.
		across(b)
	default:
		ways := w.fork(b, fmt.Sprintf("the sender treats %s as on its own link, and does not send it to its gateway", p.Dst()))
		across(ways[0])
		up(ways[1])
	}
}

// onLink tells whether the destination is reached over the bridge itself.
func (w *walk) onLink(p *skb.Packet, bridge node.Link) (bool, error) {
	r, err := w.ns.Route(w.ctx, node.RouteQuery{Dst: p.Dst(), Mark: p.Mark})
	var refused *node.RouteError
	if errors.As(err, &refused) {
		return false, nil
	}
	return err == nil && r.Type == node.RouteUnicast && r.Out == bridge.Name && !r.Gateway.IsValid(), err
}

// acrossBridge passes a frame from port to port.
func (w *walk) acrossBridge(b *branch, bridge node.Link, port string, calls bool) {
	out, err := w.portOf(b.p, bridge)
	if err != nil {
		w.fail(err)
		return
	}
	if out == port {
		hairpin, err := w.hairpin(port)
		if err != nil {
			w.fail(err)
			return
		}
		if !hairpin {
			reason := fmt.Sprintf("the frame would go back out of port %s, whose hairpin mode is off", port)
			w.hop(b, trace.Hop{Hook: "bridge", Action: "drop", Says: reason})
			w.end(b, end{verdict: trace.Dropped, reason: reason})
			return
		}
	}
	says := "the frame stays on the bridge"
	if out == "" {
		says += "; its port is not known"
	}
	b.route = node.Route{Type: node.RouteUnicast, Out: bridge.Name}
	w.hop(b, trace.Hop{Hook: "bridge", Action: "across " + bridge.Name, Says: says})
	behind := func(b *branch) {
		w.passBridge(b, bridge, skb.Postrouting, port, out, wholeHook, func(b *branch) {
			finish := func(b *branch) {
				b.p.Out = cmpOr(out, bridge.Name)
				w.egress(b, w.leave)
			}
			if !calls {
				finish(b)
				return
			}
			// br_netfilter runs IP postrouting behind everything else.
			b.p.In, b.p.Out, b.p.PhysIn, b.p.PhysOut, b.p.PktType = bridge.Name, bridge.Name, port, out, skb.PacketHost
			w.pass(b, skb.Postrouting, finish)
		})
	}
	if !calls {
		w.passBridge(b, bridge, skb.Forward, port, out, wholeHook, behind)
		return
	}
	w.passBridge(b, bridge, skb.Forward, port, out, beforeIP, func(b *branch) {
		b.p.In, b.p.Out, b.p.PhysIn, b.p.PhysOut, b.p.PktType = bridge.Name, bridge.Name, port, out, skb.PacketHost
		w.pass(b, skb.Forward, func(b *branch) {
			b.p.PktType = b.frameType()
			w.passBridge(b, bridge, skb.Forward, port, out, behindIP, behind)
		})
	})
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (w *walk) hairpin(port string) (bool, error) {
	links, err := w.ns.Links(w.ctx)
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if l.Name == port {
			return l.Hairpin, nil
		}
	}
	return false, nil
}

// leaveByBridge passes the bridge's own hooks for a packet that the node sends out by a bridge device.
func (w *walk) leaveByBridge(b *branch, bridge node.Link, next func(*branch)) {
	out, err := w.portOf(b.p, bridge)
	if err != nil {
		w.fail(err)
		return
	}
	w.passBridge(b, bridge, skb.Output, "", out, wholeHook, func(b *branch) {
		w.passBridge(b, bridge, skb.Postrouting, "", out, wholeHook, next)
	})
}

// portOf returns the port behind which the destination is, from the neighbour table and the bridge's forwarding
// database; "" when the kernel has not learned it.
func (w *walk) portOf(p *skb.Packet, bridge node.Link) (string, error) {
	n, err := w.ns.Neighbours(w.ctx)
	if err != nil {
		return "", err
	}
	for _, x := range n {
		if x.Link != bridge.Index || x.Addr != p.Dst() || len(x.HardwareAddr) == 0 {
			continue
		}
		return w.ns.BridgePort(w.ctx, bridge.Index, x.HardwareAddr)
	}
	return "", nil
}

// passBridge runs a part of what is registered at a hook of the bridge family. The interfaces that rules see are the ports.
func (w *walk) passBridge(b *branch, bridge node.Link, h skb.Hook, in, out string, part bridgePart, next func(*branch)) {
	groups, open, err := w.bridgeFunctions(h, part)
	if err != nil {
		w.fail(err)
		return
	}
	pass := func(b *branch, groups []group) {
		was := *b.p
		b.p.Hook, b.p.In, b.p.Out, b.p.Bridge = h, in, out, bridge.Name
		w.passGroups(b, groups, func(b *branch) {
			b.p.Hook, b.p.In, b.p.Out, b.p.Bridge = was.Hook, was.In, was.Out, was.Bridge
			next(b)
		})
	}
	if len(open) == 0 {
		pass(b, groups)
		return
	}
	w.sideOfBridgeNetfilter(b, bridge, h, open, func(b *branch, isBefore bool) {
		switch {
		case isBefore && part == beforeIP:
			pass(b, append(slices.Clone(groups), open...))
		case !isBefore && part == behindIP && runsBehind(h, brNetfilter):
			pass(b, append(slices.Clone(open), groups...))
		default:
			pass(b, groups)
		}
	})
}
