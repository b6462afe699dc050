//go:build linux

package walk_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/walk"
)

// ids are a sender with a user and a group.
func ids(user, group uint32, groups ...uint32) *trace.Owner {
	return &trace.Owner{User: user, Group: &group, Groups: append([]uint32{}, groups...), From: "a test"}
}

func TestUserOfTheSenderDecides(t *testing.T) {
	mesh := []string{
		"ip link set lo up",
		"iptables-legacy -t nat -A OUTPUT -p tcp -m owner --uid-owner 1337 -j RETURN",
		"iptables-legacy -t nat -A OUTPUT -p tcp -m owner --gid-owner 1338 --suppl-groups -j RETURN",
		"iptables-legacy -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 15001",
	}
	nft := []string{
		"ip link set lo up", "nft add table ip t", "nft add chain ip t o { type nat hook output priority -100 ; }",
		"nft add rule ip t o meta skuid 1337 return", "nft add rule ip t o meta skgid 1338 return", "nft add rule ip t o tcp dport 1-65535 redirect to :15001",
	}
	justUser := ids(7, 0)
	justUser.Group = nil
	for name, tt := range map[string]struct {
		rules []string
		owner *trace.Owner
		// ports are the destinations of all outcomes, in order.
		ports      string
		conditions bool
	}{
		"not known":                    {mesh, nil, "80 80 15001", true},
		"the sidecar":                  {mesh, ids(1337, 1337), "80", false},
		"the program":                  {mesh, ids(0, 0), "15001", false},
		"by its group":                 {mesh, ids(0, 1338), "80", false},
		"by a supplementary group":     {mesh, ids(0, 0, 5, 1338), "80", false},
		"a user without a known group": {mesh, justUser, "80 15001", true},
		"nftables, not known":          {nft, nil, "80 80 15001", true},
		"nftables, the sidecar":        {nft, ids(1337, 0), "80", false},
		"nftables, the program":        {nft, ids(0, 0), "15001", false},
		"nftables, by its group":       {nft, ids(0, 1338), "80", false},
		"nftables, no known group":     {nft, justUser, "80 15001", true},
	} {
		t.Run(name, func(t *testing.T) {
			namespace(t, tt.rules...)
			s := start("127.0.0.1:40000", "127.0.0.1:80")
			s.Owner = tt.owner
			x := walkHere(t, s)
			var ports []string
			conditions := false
			for _, o := range x.Outcomes {
				_, port, _ := strings.Cut(o.Destination.String(), ":")
				ports = append(ports, port)
				conditions = conditions || len(o.Conditions) > 0
			}
			slices.SortFunc(ports, func(a, b string) int { return len(a) - len(b) })
			if got := strings.Join(ports, " "); got != tt.ports || conditions != tt.conditions {
				t.Errorf("to %s, conditions %t, want %s, %t: %+v", got, conditions, tt.ports, tt.conditions, x.Outcomes)
			}
			if first := x.Hops[x.Outcomes[0].Path[0]]; (first.Hook == "process") != (tt.owner != nil) || (x.Packet.Owner == nil) != (tt.owner == nil) {
				t.Errorf("begins with %+v; %+v", first, x.Packet)
			}
		})
	}
}

func TestRouteOfAUserIsTaken(t *testing.T) {
	namespace(t, append(underlay, "ip route add 10.9.0.0/16 via 10.250.0.1", "ip rule add uidrange 7-7 lookup 100", "ip route add blackhole 10.9.0.0/16 table 100")...)
	for user, want := range map[uint32]trace.Verdict{6: trace.Forwarded, 7: trace.Rejected} {
		s := start("10.250.0.11:40000", "10.9.0.1:80")
		s.Owner, s.Follow = ids(user, 0), false
		if x := walkHere(t, s); x.Outcomes[0].Verdict != want {
			t.Errorf("user %d: %+v", user, x.Outcomes)
		}
	}
}

func TestSenderIsFoundByItsProcessWhereNoInterfaceLeadsToIt(t *testing.T) {
	namespace(t, append(underlay, "ip route add 10.9.0.0/16 via 10.250.0.1")...)
	cmd := exec.Command("unshare", "-n", "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	there := own
	for i := 0; there == own && i < 200; i++ {
		time.Sleep(10 * time.Millisecond)
		if there, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	in := fmt.Sprintf("nsenter -t %d -n ip ", cmd.Process.Pid)
	for _, c := range []string{"link set lo up", "addr add 10.77.0.5/32 dev lo", "link add eth0 type veth peer name far0", "link set eth0 up", "link set far0 up", "route add default dev eth0"} {
		shell(t, in+c)
	}
	s := start("10.77.0.5:40000", "10.9.0.1:80")
	s.FromAddress, s.Follow = true, false
	try := func() (*trace.Trace, error) {
		w := walk.Walker{Open: func(context.Context) (node.Node, func() error, error) {
			n, err := live.OpenNode()
			if err != nil {
				return nil, nil, err
			}
			return n, n.Close, nil
		}}
		return w.Walk(t.Context(), s)
	}
	if x, err := try(); !errors.Is(err, walk.ErrStart) {
		t.Errorf("without its process: %+v, %v", x, err)
	}
	s.Namespace = strings.TrimSuffix(strings.TrimPrefix(there, "net:["), "]")
	x, err := try()
	if err != nil || x.Outcomes[0].Out != "eth0" || x.Hops[0].Namespace == "host" {
		t.Errorf("%+v, %v", x, err)
	}
	s.Source = netip.MustParseAddrPort("10.77.0.6:40000")
	if x, err := try(); !errors.Is(err, walk.ErrStart) || !strings.Contains(err.Error(), "nor has the namespace of its process") {
		t.Errorf("an address that its process has not: %+v, %v", x, err)
	}
}
