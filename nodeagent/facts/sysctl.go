package facts

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// parameters decide about packets of Services whatever interface they come by.
var parameters = []string{
	"net/ipv4/ip_forward",
	"net/ipv6/conf/all/forwarding",
	"net/ipv4/conf/all/rp_filter",
	"net/ipv4/conf/all/route_localnet",
	"net/bridge/bridge-nf-call-iptables",
	"net/bridge/bridge-nf-call-ip6tables",
	"net/netfilter/nf_conntrack_max",
	"net/netfilter/nf_conntrack_count",
	"net/netfilter/nf_conntrack_tcp_be_liberal",
	"net/ipv4/ip_local_port_range",
	"net/ipv4/ip_local_reserved_ports",
}

// ofLink are parameters of one interface.
var ofLink = []string{"net/ipv4/conf/%s/forwarding", "net/ipv4/conf/%s/rp_filter", "net/ipv4/conf/%s/route_localnet", "net/ipv6/conf/%s/forwarding"}

// maxLinks bounds the interfaces whose own parameters are read: those that belong to no pod come first.
const maxLinks = 32

// sysctls reads the parameters of the namespace, and of each interface that is no bridge port and no pod's end of a pair.
func (c *collector) sysctls() error {
	names := slices.Clone(parameters)
	links, err := c.m.Links(c.ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, l := range links {
		if l.Loopback() || l.Master != 0 || l.Kind == "veth" && l.PeerNamespace >= 0 || n == maxLinks {
			continue
		}
		n++
		for _, f := range ofLink {
			names = append(names, fmt.Sprintf(f, l.Name))
		}
	}
	for _, name := range names {
		v, err := c.m.Sysctl(c.ctx, name)
		if errors.Is(err, node.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		c.out.Sysctls = append(c.out.Sysctls, wire.Sysctl{Name: name, Value: v})
	}
	return nil
}
