package render

import (
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// Kind is the kind of the object that -o json and -o yaml write.
const Kind = "ServiceTrace"

// ServiceTrace is the whole answer, as -o json and -o yaml write it. docs/json.md describes every field.
type ServiceTrace struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Result is ok, differs or unknown.
	Result string `json:"result"`
	// Headline is the worst finding in one sentence; absent when connections work.
	Headline    string       `json:"headline,omitempty"`
	Service     Service      `json:"service"`
	Endpoints   []Endpoint   `json:"endpoints"`
	Nodes       []Node       `json:"nodes"`
	AccessPaths []AccessPath `json:"accessPaths"`
	Walks       []Walk       `json:"walks"`
	FlowGroups  []FlowGroup  `json:"flowGroups"`
	// Affinity are the clients that session affinity keeps with an endpoint.
	Affinity  []Affinity  `json:"affinity"`
	Findings  []Finding   `json:"findings"`
	NotTraced []NotTraced `json:"notTraced"`
	// NotRead says what could not be read of the API and would only have explained more.
	NotRead []string `json:"notRead"`
	// Probes are real connections; absent without --probe.
	Probes []Probe `json:"probes,omitempty"`
}

// Service is what the API says about the Service.
type Service struct {
	Namespace                string        `json:"namespace"`
	Name                     string        `json:"name"`
	Type                     string        `json:"type"`
	ClusterIPs               []netip.Addr  `json:"clusterIPs"`
	Ports                    []ServicePort `json:"ports"`
	InternalTrafficPolicy    string        `json:"internalTrafficPolicy"`
	ExternalTrafficPolicy    string        `json:"externalTrafficPolicy"`
	SessionAffinitySeconds   int64         `json:"sessionAffinitySeconds,omitempty"`
	LoadBalancerSourceRanges []string      `json:"loadBalancerSourceRanges,omitempty"`
	Notes                    []string      `json:"notes,omitempty"`
}

// ServicePort is a service port in one IP family.
type ServicePort struct {
	Name       string `json:"name,omitempty"`
	Protocol   string `json:"protocol"`
	Family     string `json:"family"`
	Port       uint16 `json:"port"`
	TargetPort string `json:"targetPort"`
	NodePort   uint16 `json:"nodePort,omitempty"`
}

// Endpoint is an endpoint of a service port.
type Endpoint struct {
	Address     netip.AddrPort `json:"address"`
	PortName    string         `json:"portName,omitempty"`
	Protocol    string         `json:"protocol"`
	Pod         string         `json:"pod,omitempty"`
	Node        string         `json:"node,omitempty"`
	Zone        string         `json:"zone,omitempty"`
	Ready       bool           `json:"ready"`
	Serving     bool           `json:"serving"`
	Terminating bool           `json:"terminating"`
	Slice       string         `json:"slice"`
}

// Node is a traced node.
type Node struct {
	Name           string           `json:"name"`
	Zone           string           `json:"zone,omitempty"`
	Kubelet        string           `json:"kubelet"`
	Kernel         string           `json:"kernel"`
	Agent          string           `json:"agent"`
	Dataplanes     []wire.Dataplane `json:"dataplanes"`
	ConntrackCount int              `json:"conntrackCount"`
	ConntrackMax   int              `json:"conntrackMax"`
	Flows          []wire.Flow      `json:"flows"`
	// FlowTotal counts the flows beyond the limit of what is listed too.
	FlowTotal  int    `json:"flowTotal"`
	FlowsError string `json:"flowsError,omitempty"`
	// AffinityTotal counts the clients beyond the limit of what is listed under affinity too.
	AffinityTotal int    `json:"affinityTotal,omitempty"`
	AffinityError string `json:"affinityError,omitempty"`
	AgentMicros   int64  `json:"agentMicros"`
}

// AccessPath is one way in.
type AccessPath struct {
	Kind     string `json:"kind"`
	Family   string `json:"family"`
	Protocol string `json:"protocol"`
	// Address is absent for a NodePort, which every node has at its own addresses.
	Address  netip.Addr `json:"address,omitzero"`
	Port     uint16     `json:"port"`
	PortName string     `json:"portName,omitempty"`
	// IPMode is Proxy for a load balancer address that nodes leave alone.
	IPMode string `json:"ipMode,omitempty"`
}

// Walk is one packet that was walked: what ought to happen to it, and what does.
type Walk struct {
	// AccessPath is an index into accessPaths.
	AccessPath  int            `json:"accessPath"`
	Node        string         `json:"node"`
	Client      Client         `json:"client"`
	Destination netip.AddrPort `json:"destination"`
	Expected    Expected       `json:"expected"`
	// Kernel are the endpoints that the kernel translates to.
	Kernel []KernelShare `json:"kernel"`
	Flows  int           `json:"flows"`
	// Result is ok, differs or unknown.
	Result string `json:"result"`
	// Findings are the IDs of the findings that concern this walk.
	Findings []string `json:"findings"`
	// Sidecar is true when the client's own pod redirects the packet to a proxy in it.
	Sidecar bool `json:"sidecar,omitempty"`
	// Trace is the packet's way over all the nodes that it passes.
	Trace *trace.Trace `json:"trace,omitempty"`
	// Stops are outcomes of the trace that go on to a node that was not asked.
	Stops []Stop `json:"stops"`
	// Replies are the answers that were walked back to the client.
	Replies []Reply     `json:"replies"`
	Error   *wire.Error `json:"error,omitempty"`
}

// Stop says why the walk of a branch ends at the border of a node.
type Stop struct {
	// Outcome is an index into the outcomes of the walk's trace.
	Outcome int    `json:"outcome"`
	Node    string `json:"node"`
	Reason  string `json:"reason"`
	// Bounded is true when the branch was left out to keep the trace small; else the node could not be read.
	Bounded bool `json:"bounded,omitempty"`
}

// Reply is an answer on its way back to the client.
type Reply struct {
	// Outcome is an index into the outcomes of the walk's trace: the end that answers. Same are further ones that this reply
	// stands for.
	Outcome int   `json:"outcome"`
	Same    []int `json:"same,omitempty"`
	// Return is symmetric, asymmetric, untranslated, lost or unclear; Reason says why it is not symmetric.
	Return string `json:"return"`
	Reason string `json:"reason,omitempty"`
	// UndoneOn are the nodes whose connection tracking translates the answer back.
	UndoneOn []string     `json:"undoneOn,omitempty"`
	Trace    *trace.Trace `json:"trace,omitempty"`
}

// FlowGroup is the live flows of an access path that go to one endpoint and are alike.
type FlowGroup struct {
	// AccessPath is an index into accessPaths.
	AccessPath int            `json:"accessPath"`
	Endpoint   netip.AddrPort `json:"endpoint"`
	// Current is true when it is an endpoint of the Service today.
	Current   bool   `json:"current"`
	State     string `json:"state,omitempty"`
	Unreplied bool   `json:"unreplied"`
	// NAT is dnat, snat, dnat+snat or none.
	NAT   string `json:"nat"`
	Count int    `json:"count"`
	// ExpiresSeconds is the longest time until one of them expires.
	ExpiresSeconds int `json:"expiresSeconds"`
	// Zone is the conntrack zone, absent for the default one.
	Zone uint16 `json:"zone,omitempty"`
	// YoungestSeconds and OldestSeconds bound how long they have been there; absent where the kernel does not note it.
	YoungestSeconds *int64   `json:"youngestSeconds,omitempty"`
	OldestSeconds   *int64   `json:"oldestSeconds,omitempty"`
	Nodes           []string `json:"nodes"`
}

// Affinity is a client whose next connection goes to the same endpoint.
type Affinity struct {
	Node     string         `json:"node"`
	Client   netip.Addr     `json:"client"`
	Endpoint netip.AddrPort `json:"endpoint"`
	// Current is true when it is an endpoint of the Service today.
	Current bool `json:"current"`
	// LeftSeconds is how long the node remembers it without another connection.
	LeftSeconds int64 `json:"leftSeconds"`
	// Where names the list or set of the kernel.
	Where string `json:"where"`
}

// Client is where a walk starts.
type Client struct {
	// Kind is pod, node or outside.
	Kind    string     `json:"kind"`
	Address netip.Addr `json:"address,omitzero"`
	Pod     string     `json:"pod,omitempty"`
	// Container is the container that --from named.
	Container string `json:"container,omitempty"`
	// Invented is true when no pod runs on the node and a free address of its pod range stands for one.
	Invented bool `json:"invented,omitempty"`
}

// Expected is what ought to happen.
type Expected struct {
	// Fate is translated, rejected, dropped or untouched.
	Fate      string             `json:"fate"`
	Endpoints []ExpectedEndpoint `json:"endpoints"`
	Why       string             `json:"why,omitempty"`
}

// ExpectedEndpoint is an endpoint that ought to get an equal share.
type ExpectedEndpoint struct {
	Address netip.AddrPort `json:"address"`
	// Masquerade is yes or no; absent where the API does not decide it.
	Masquerade string `json:"masquerade,omitempty"`
}

// KernelShare is the kernel's share of one endpoint.
type KernelShare struct {
	Address netip.AddrPort `json:"address"`
	// Probability is an exact fraction; absent when a condition decides.
	Probability *trace.Probability `json:"probability,omitempty"`
	Masqueraded bool               `json:"masqueraded"`
	// Stopped is true when the packets are dropped or rejected after the translation.
	Stopped bool `json:"stopped,omitempty"`
	// Listening is true when a socket takes the packets, false when none does, absent when that was not seen.
	Listening *bool `json:"listening,omitempty"`
}

// Finding is a named difference or fault.
type Finding struct {
	ID       string     `json:"id"`
	Severity string     `json:"severity"`
	Nodes    []string   `json:"nodes"`
	Subject  string     `json:"subject,omitempty"`
	Message  string     `json:"message"`
	Places   []Place    `json:"places"`
	Evidence []Evidence `json:"evidence"`
	Fix      string     `json:"fix"`
	// Consequences are findings that follow from this one.
	Consequences []Finding `json:"consequences"`
}

// Place is an access path as used by a kind of client.
type Place struct {
	// AccessPath is an index into accessPaths.
	AccessPath int `json:"accessPath"`
	// Client is pod, node or outside; absent when every client is concerned.
	Client string `json:"client,omitempty"`
}

// NotTraced is a node that ought to have been traced, or a client that no packet can start from.
type NotTraced struct {
	Node string `json:"node"`
	// Client is the value of --from; absent when the node itself cannot be traced.
	Client string `json:"client,omitempty"`
	Reason string `json:"reason"`
}
