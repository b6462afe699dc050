package wire

import "net/netip"

// FactsRequest asks for what a node can tell beyond walks and flows: its settings, its kube-proxy, its firewalls, and how
// it is connected to the endpoints of a Service. Only what the request names is looked up one by one.
type FactsRequest struct {
	// Addresses are the Service's virtual addresses, Ports its ports at them.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ports     []Port       `json:"ports,omitempty"`
	// NodePorts are its ports at the node's own addresses.
	NodePorts []Port `json:"nodePorts,omitempty"`
	// Endpoints are the addresses of its endpoints.
	Endpoints []netip.Addr `json:"endpoints,omitempty"`
	// Chains are chains that kube-proxy's iptables mode has for it.
	Chains []string `json:"chains,omitempty"`
}

// Port is a port of a transport protocol.
type Port struct {
	// Protocol is tcp, udp or sctp.
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}

// FactsAnswer holds the facts. A part that could not be read is empty and named in Unread.
type FactsAnswer struct {
	// Sysctls are kernel parameters by their names with slashes; one that does not exist is absent.
	Sysctls []Sysctl `json:"sysctls"`
	// Conntrack sums the statistics of connection tracking over the CPUs.
	Conntrack ConntrackStatistics `json:"conntrack"`
	KubeProxy KubeProxy           `json:"kubeProxy"`
	// Chains are kube-proxy's chains that matter, each with whether it is there.
	Chains []Chain `json:"chains"`
	// Owners are programs other than kube-proxy whose rules the base chains reach.
	Owners []Owner `json:"owners,omitempty"`
	// Listeners are processes that listen on the node ports that were asked about.
	Listeners []Listener `json:"listeners,omitempty"`
	// Routes are the node's own ways to the addresses and endpoints that were asked about.
	Routes []Route `json:"routes"`
	// Attached are the endpoints that are behind a port of a bridge of the node.
	Attached []Attached `json:"attached,omitempty"`
	// Links are the interfaces.
	Links []Link `json:"links"`
	// OtherPorts are flows to the Service's addresses at ports that it does not have; OtherPortsTotal counts them all.
	OtherPorts      []Flow `json:"otherPorts,omitempty"`
	OtherPortsTotal int    `json:"otherPortsTotal,omitempty"`
	// Unread says what could not be read, and why.
	Unread []string `json:"unread,omitempty"`
}

// Sysctl is a kernel parameter of the node's network namespace.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Sysctl returns a parameter's value; ok is false when the kernel does not have it, or it was not read.
func (a *FactsAnswer) Sysctl(name string) (value string, ok bool) {
	for _, s := range a.Sysctls {
		if s.Name == name {
			return s.Value, true
		}
	}
	return "", false
}

// ConntrackStatistics are counters of connection tracking since the namespace was made (struct ip_conntrack_stat).
type ConntrackStatistics struct {
	// Invalid packets belong to no flow and cannot begin one.
	Invalid uint64 `json:"invalid"`
	// InsertFailed entries lost a race against another one with the same tuple: their packet was dropped.
	InsertFailed uint64 `json:"insertFailed"`
	// Drop counts packets dropped because no entry could be made; EarlyDrop entries that had to make room.
	Drop      uint64 `json:"drop"`
	EarlyDrop uint64 `json:"earlyDrop"`
}

// KubeProxy is what kube-proxy on the node says about itself, and whether there is one.
type KubeProxy struct {
	// Processes are processes of that name, as "pid 812 /usr/local/bin/kube-proxy".
	Processes []string `json:"processes,omitempty"`
	// Health is its health endpoint (port 10256), Metrics its metrics endpoint (port 10249).
	Health  Endpoint `json:"health"`
	Metrics Endpoint `json:"metrics"`
	// Version is its release, as v1.37.2; empty when it was not told.
	Version string `json:"version,omitempty"`
	// Mode is what /proxyMode says: iptables, nftables or ipvs; empty when it was not reached.
	Mode string `json:"mode,omitempty"`
	// Sync are the times of its rules, one for each IP family, or one without a family before release 1.33.
	Sync []Sync `json:"sync,omitempty"`
	// Failures counts failed writes of rules: restores of iptables, transactions of nftables.
	Failures int64 `json:"failures,omitempty"`
	// Config is its configuration, nil when it does not tell (/configz).
	Config *KubeProxyConfig `json:"config,omitempty"`
}

// Runs reports whether something shows that a kube-proxy runs on the node.
func (k KubeProxy) Runs() bool {
	return len(k.Processes) > 0 || k.Health.Listening || k.Metrics.Listening
}

// Endpoint is an HTTP endpoint on the node, as the node itself reaches it.
type Endpoint struct {
	// Listening is true when a socket listens on the port.
	Listening bool `json:"listening"`
	// Address is where it was asked.
	Address netip.AddrPort `json:"address,omitzero"`
	// Status is the HTTP status of its answer, 0 when there was none, and then Error says why.
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Sync are the times of kube-proxy's rules of one family, in seconds since 1970.
type Sync struct {
	// Family is IPv4 or IPv6; empty before release 1.33.
	Family string `json:"family,omitempty"`
	// Queued is when the last change came, Last when rules were last written without an error; 0 for never.
	Queued float64 `json:"queued"`
	Last   float64 `json:"last"`
	// Age is how long before the facts were read Queued was.
	QueuedAge float64 `json:"queuedAge"`
}

// KubeProxyConfig are the settings of kube-proxy that decide about Services.
type KubeProxyConfig struct {
	ClusterCIDR        []netip.Prefix `json:"clusterCIDR,omitempty"`
	DetectLocalMode    string         `json:"detectLocalMode,omitempty"`
	HostnameOverride   string         `json:"hostnameOverride,omitempty"`
	MasqueradeAll      bool           `json:"masqueradeAll,omitempty"`
	MasqueradeBit      int            `json:"masqueradeBit"`
	LocalhostNodePorts bool           `json:"localhostNodePorts,omitempty"`
	// NodePortAddresses are the ranges of the node's addresses that serve node ports, or a word such as primary; none for all.
	NodePortAddresses []string `json:"nodePortAddresses,omitempty"`
}

// Chain is a chain of kube-proxy.
type Chain struct {
	// Backend is nft, legacy or nftables: iptables' two backends, and kube-proxy's nftables mode.
	Backend string `json:"backend"`
	// Family is ipv4 or ipv6.
	Family  string `json:"family"`
	Table   string `json:"table"`
	Name    string `json:"name"`
	Present bool   `json:"present"`
	// Expected is true for a chain that must be there whenever its backend is in use.
	Expected bool `json:"expected,omitempty"`
	// From are the base chains that must jump to it, NotFrom those that do not. Both are empty for chains that other chains
	// jump to.
	From    []string `json:"from,omitempty"`
	NotFrom []string `json:"notFrom,omitempty"`
	// Rules are the rules of a short chain, as iptables prints them.
	Rules []ChainRule `json:"rules,omitempty"`
}

// ChainRule is a rule of a chain.
type ChainRule struct {
	Handle  uint64 `json:"handle"`
	Text    string `json:"text"`
	Packets uint64 `json:"packets"`
}

// Owner is a program whose rules are on the node.
type Owner struct {
	// Name is the program's, Shown the table or chain by whose name it was recognised.
	Name  string `json:"name"`
	Shown string `json:"shown"`
}

// Listener is a process that listens on a port.
type Listener struct {
	Port
	Address netip.AddrPort `json:"address"`
	// Process is "pid 812 /server"; empty when it was not found.
	Process string `json:"process,omitempty"`
}

// Route is the way that the node's own packets take.
type Route struct {
	To netip.Addr `json:"to"`
	// Out is the interface, Source the address that the kernel chooses. Refused is the kernel's error when there is no way.
	Out     string     `json:"out,omitempty"`
	Gateway netip.Addr `json:"gateway,omitzero"`
	Source  netip.Addr `json:"source,omitzero"`
	MTU     int        `json:"mtu,omitempty"`
	Refused string     `json:"refused,omitempty"`
}

// Attached is an endpoint behind a port of a bridge.
type Attached struct {
	Endpoint netip.Addr `json:"endpoint"`
	Bridge   string     `json:"bridge"`
	Port     string     `json:"port"`
	// Hairpin is true when the bridge may send a frame back out of the port it came in by.
	Hairpin bool `json:"hairpin"`
	// CallsIP is true when frames between ports of the bridge pass the rules of the endpoint's IP family.
	CallsIP bool `json:"callsIP"`
}

// Link is an interface, with what matters for the size and the checksums of packets.
type Link struct {
	Name string `json:"name"`
	// Kind is the driver: veth, bridge, vxlan …; empty for hardware.
	Kind   string `json:"kind,omitempty"`
	Up     bool   `json:"up"`
	MTU    int    `json:"mtu"`
	Master string `json:"master,omitempty"`
	// Outer is the interface that a tunnel's packets leave by, OuterMTU its MTU, Overhead what the tunnel adds to a packet.
	Outer    string `json:"outer,omitempty"`
	OuterMTU int    `json:"outerMTU,omitempty"`
	Overhead int    `json:"overhead,omitempty"`
	// ChecksumOffload is true for a tunnel that leaves transmit checksums to a device (ethtool's tx-checksum).
	ChecksumOffload bool `json:"checksumOffload,omitempty"`
}
