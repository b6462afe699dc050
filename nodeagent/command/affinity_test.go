//go:build linux

package command

import (
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// inNamespace calls f with a thread in a network namespace of its own that the commands set up, and gives the thread up.
func inNamespace(t *testing.T, commands []string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not given back
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("making a network namespace (needs root): %v", err)
			return
		}
		for _, c := range commands {
			w := strings.Fields(c)
			if out, err := exec.Command(w[0], w[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", c, err, out)
				return
			}
		}
		f()
	}()
	<-done
}

func TestClientsThatStayWithAnEndpointAreListed(t *testing.T) {
	ep := netip.MustParseAddrPort
	q := wire.AffinityRequest{TimeoutSeconds: 100, Lists: []wire.AffinityList{
		{Endpoint: ep("10.0.0.2:80"), Recent: "KUBE-SEP-A", Set: "affinity-a"},
		{Endpoint: ep("10.0.0.3:80"), Recent: "KUBE-SEP-B", Set: "affinity-b"},
		{Endpoint: ep("[fd00::2]:80"), Recent: "KUBE-SEP-C", Set: "affinity-c"},
		{Endpoint: ep("10.0.0.4:80"), Recent: "KUBE-SEP-GONE", Set: "affinity-gone"},
	}}
	for name, commands := range map[string][]string{
		"recent list": {
			"ip link set lo up",
			"iptables-legacy -A OUTPUT -m recent --name KUBE-SEP-A --set -d 127.0.0.9", "iptables-legacy -A OUTPUT -m recent --name KUBE-SEP-B --set -d 127.0.0.8",
			"ip6tables-legacy -A OUTPUT -m recent --name KUBE-SEP-C --set -d ::1",
		},
		"set": {
			"ip link set lo up", "nft add table ip kube-proxy", "nft add table ip6 kube-proxy",
			"nft add set ip kube-proxy affinity-a { type ipv4_addr ; flags dynamic,timeout ; timeout 100s ; }",
			"nft add set ip kube-proxy affinity-b { type ipv4_addr ; flags dynamic,timeout ; timeout 100s ; }",
			"nft add set ip6 kube-proxy affinity-c { type ipv6_addr ; flags dynamic,timeout ; timeout 100s ; }",
			"nft add element ip kube-proxy affinity-a { 127.0.0.5 }", "nft add element ip6 kube-proxy affinity-c { ::1 }",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, commands, func() {
				for from, to := range map[string]string{"127.0.0.5:0": "127.0.0.9:9", "[::1]:0": "[::1]:9"} {
					c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(ep(from)), net.UDPAddrFromAddrPort(ep(to)))
					if err == nil {
						_, err = c.Write([]byte("x"))
						c.Close()
					}
					if err != nil {
						t.Error(err)
					}
				}
				a, err := affinity(t.Context(), q)
				if err != nil {
					t.Error(err)
					return
				}
				got := map[string]string{}
				for _, e := range a.Entries {
					got[e.Client.String()] = e.Endpoint.String()
					if e.LeftSeconds < 90 || e.LeftSeconds > 100 || !strings.HasPrefix(e.Where, name+" ") {
						t.Errorf("%+v", e)
					}
				}
				if len(a.Entries) != 2 || a.Total != 2 || got["127.0.0.5"] != "10.0.0.2:80" || got["::1"] != "[fd00::2]:80" {
					t.Errorf("%+v", a)
				}
				short := q
				short.Limit = 1
				if a, err := affinity(t.Context(), short); err != nil || len(a.Entries) != 1 || a.Total != 2 {
					t.Errorf("of which one: %+v, %v", a, err)
				}
			})
		})
	}
}
