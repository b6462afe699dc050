package lab

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Family says which IP families a lab's nodes, pods and Services have.
type Family string

// The families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
	// Dual has both, IPv4 first.
	Dual Family = "dual"
)

// ParseFamily reads a family's name.
func ParseFamily(s string) (Family, error) {
	switch f := Family(s); f {
	case IPv4, IPv6, Dual:
		return f, nil
	}
	return "", fmt.Errorf("unknown IP family %q: want ipv4, ipv6 or dual", s)
}

func (f Family) has4() bool { return f != IPv6 }
func (f Family) has6() bool { return f != IPv4 }

// ProxyMode is what kube-proxy programs on a node.
type ProxyMode string

// The proxy modes.
const (
	// IPTables is mode iptables with the nft variant of iptables, Debian's default.
	IPTables ProxyMode = "iptables"
	// IPTablesLegacy is mode iptables with the legacy variant.
	IPTablesLegacy ProxyMode = "iptables-legacy"
	// NFTables is mode nftables.
	NFTables ProxyMode = "nftables"
)

// ParseProxyModes reads one mode, or one for each node, separated by commas.
func ParseProxyModes(s string) ([]ProxyMode, error) {
	var modes []ProxyMode
	for part := range strings.SplitSeq(s, ",") {
		m := ProxyMode(part)
		if !m.valid() {
			return nil, fmt.Errorf("unknown proxy mode %q: want iptables, iptables-legacy or nftables", part)
		}
		modes = append(modes, m)
	}
	return modes, nil
}

func (m ProxyMode) valid() bool { return m == IPTables || m == IPTablesLegacy || m == NFTables }

// mode is the value of kube-proxy's own setting.
func (m ProxyMode) mode() string {
	if m == IPTablesLegacy {
		return string(IPTables)
	}
	return string(m)
}

// MaxNodes is the largest number of nodes; their addresses end in 11 to 19.
const MaxNodes = 9

// DefaultName is the name of a lab for which none is given on the command line.
const DefaultName = "lab"

// Options says what a lab shall be like. The zero value is a good lab: two nodes, nftables, IPv4.
type Options struct {
	// Name tells labs on one machine apart: letters, digits and dashes, at most 32. New and Start choose one if empty.
	Name string
	// Nodes is how many nodes there are, 1 to MaxNodes; 0 means 2.
	Nodes int
	// Proxy is the proxy mode of all nodes (one value) or of each (as many as nodes); empty means NFTables.
	Proxy []ProxyMode
	// Family is the IP family or families; empty means IPv4.
	Family Family
	// Network is how pods are connected to their node; empty means Bridge.
	Network Network
	// Between is how pods' packets come from node to node; empty means HostGateway.
	Between Between
	// PodMTU is the MTU of pods; 0 means as much as fits: 1500, with VXLAN 1450 (IPv4 alone) or 1430. 1500 with VXLAN is
	// the fault of an MTU that forgets the tunnel's overhead.
	PodMTU int
	// Beyond adds a client behind a router: Lab.Beyond and Lab.Router.
	Beyond bool
	// Images are image archives (OCI or Docker tar) to load into every node before it is ready.
	Images []string
	// Detach lets the lab outlive the process that starts it; Open and Down find it by its name.
	Detach bool
	// Progress receives a line for each step; nil means silence (in New: the test's log).
	Progress io.Writer `json:"-"`
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// complete checks the options and fills in what is not given.
func (o Options) complete() (Options, error) {
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return o, fmt.Errorf("%d nodes: a lab has 1 to %d", o.Nodes, MaxNodes)
	}
	if o.Family == "" {
		o.Family = IPv4
	}
	if _, err := ParseFamily(string(o.Family)); err != nil {
		return o, err
	}
	if o.Network == "" {
		o.Network = Bridge
	}
	if _, err := ParseNetwork(string(o.Network)); err != nil {
		return o, err
	}
	if o.Between == "" {
		o.Between = HostGateway
	}
	if _, err := ParseBetween(string(o.Between)); err != nil {
		return o, err
	}
	if o.PodMTU != 0 && (o.PodMTU < minimumMTU || o.PodMTU > switchMTU) {
		return o, fmt.Errorf("pod MTU %d: want %d to %d", o.PodMTU, minimumMTU, switchMTU)
	}
	switch len(o.Proxy) {
	case 0:
		o.Proxy = []ProxyMode{NFTables}
		fallthrough
	case 1:
		one := o.Proxy[0]
		o.Proxy = make([]ProxyMode, o.Nodes)
		for i := range o.Proxy {
			o.Proxy[i] = one
		}
	case o.Nodes:
	default:
		return o, fmt.Errorf("%d proxy modes for %d nodes: give one, or one for each", len(o.Proxy), o.Nodes)
	}
	for _, m := range o.Proxy {
		if !m.valid() {
			return o, fmt.Errorf("unknown proxy mode %q", m)
		}
	}
	if !validName.MatchString(o.Name) {
		return o, fmt.Errorf("name %q: want 1 to 32 lower-case letters, digits and dashes", o.Name)
	}
	// the longest socket name of the lab must fit into sockaddr_un, unix(7)
	if longest := stateOf(o.Name).control(nodeName(MaxNodes)); len(longest) > 107 {
		return o, fmt.Errorf("name %q: %s is too long for a socket; a shorter TMPDIR helps", o.Name, longest)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o, nil
}
