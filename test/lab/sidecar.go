package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// What a sidecar pod has, with Istio's numbers.
const (
	// SidecarInbound and SidecarOutbound are the ports to which the pod's rules REDIRECT what comes in and what goes out.
	SidecarInbound  = 15006
	SidecarOutbound = 15001
	// sidecarUser is the user that the sidecar runs as, by which rules tell its packets.
	sidecarUser = 1337
)

// The sources of a sidecar's connections to its pod's own program.
var (
	sidecarSource4 = netip.MustParseAddr("127.0.0.6")
	sidecarSource6 = netip.MustParseAddr("::6")
)

// SidecarPod makes a pod in the namespace default as a service mesh has it: the web server on WebPort, labelled
// app=NAME, and a proxy to which nat rules in the pod's own network namespace redirect every TCP connection to and from
// the pod (chains ISTIO_INBOUND and ISTIO_OUTPUT). It returns when the pod is ready and a connection from its node
// passes the proxy: the web server sees 127.0.0.6 or ::6 as the client. UDP is not redirected. Rules are written with
// the node's own iptables; they last as long as the pod.
func (l *Lab) SidecarPod(ctx context.Context, name string, node *Node) (*Pod, error) {
	user := int64(sidecarUser)
	spec := WebPodSpec()
	spec.Containers = append(spec.Containers, corev1.Container{
		Name: "sidecar", Image: SidecarImage, ImagePullPolicy: corev1.PullNever,
		Args: []string{
			"--inbound", fmt.Sprint(SidecarInbound), "--outbound", fmt.Sprint(SidecarOutbound),
		},
		SecurityContext: &corev1.SecurityContext{RunAsUser: &user, RunAsGroup: &user},
	})
	pod, err := l.RunPod(ctx, name, node, spec)
	if err != nil {
		return nil, err
	}
	if err := pod.redirect(ctx, l.config.Options.Family); err != nil {
		return nil, fmt.Errorf("redirect connections of %s: %w", pod, err)
	}
	addrs, err := pod.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		want, to := sidecarSource(addr), netip.AddrPortFrom(addr, WebPort)
		var got Attempts
		err := until(ctx, pollEvery, func() (bool, error) {
			var err error
			got, err = node.Connect(ctx, to, ConnectOptions{})
			return got.BySource()[want] == 1, err
		})
		if err != nil {
			return nil, fmt.Errorf("wait for the sidecar of %s (last: %+v): %w", pod, got, err)
		}
	}
	return pod, nil
}

// redirect writes the rules of a sidecar into the pod's network namespace.
func (p *Pod) redirect(ctx context.Context, f Family) error {
	restores := map[string]string{}
	if f.has4() {
		restores["iptables-restore"] = sidecarRules(netip.PrefixFrom(sidecarSource4, 32), "127.0.0.1/32")
	}
	if f.has6() {
		// unlike 127.0.0.6, ::6 is an address only if someone makes it one
		if _, err := p.RunTool(ctx, "ip", "-6", "address", "replace", sidecarSource6.String()+"/128", "dev", "lo"); err != nil {
			return err
		}
		restores["ip6tables-restore"] = sidecarRules(netip.PrefixFrom(sidecarSource6, 128), "::1/128")
	}
	for program, rules := range restores {
		if _, err := p.RunToolInput(ctx, rules, program); err != nil {
			return err
		}
	}
	return nil
}

func sidecarSource(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return sidecarSource4
	}
	return sidecarSource6
}

// sidecarRules are the rules that istio-iptables writes in mode REDIRECT (tools/istio-iptables/pkg/capture of
// github.com/istio/istio), less those for the ports that this sidecar does not have.
func sidecarRules(source netip.Prefix, loopback string) string {
	return strings.NewReplacer(
		"SOURCE", source.String(), "LOOPBACK", loopback, "USER", fmt.Sprint(sidecarUser),
		"INPORT", fmt.Sprint(SidecarInbound), "OUTPORT", fmt.Sprint(SidecarOutbound),
	).Replace(`*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports INPORT
-A ISTIO_OUTPUT -s SOURCE -o lo -j RETURN
-A ISTIO_OUTPUT ! -d LOOPBACK -o lo -p tcp -m owner --uid-owner USER -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner USER -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner USER -j RETURN
-A ISTIO_OUTPUT ! -d LOOPBACK -o lo -p tcp -m owner --gid-owner USER -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner USER -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner USER -j RETURN
-A ISTIO_OUTPUT -d LOOPBACK -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports OUTPORT
COMMIT
`)
}
