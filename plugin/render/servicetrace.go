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
	Findings    []Finding    `json:"findings"`
	NotTraced   []NotTraced  `json:"notTraced"`
	// NotRead says what could not be read of the API and would only have explained more.
	NotRead []string `json:"notRead"`
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
	FlowTotal   int    `json:"flowTotal"`
	FlowsError  string `json:"flowsError,omitempty"`
	AgentMicros int64  `json:"agentMicros"`
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
	Findings []string     `json:"findings"`
	Trace    *trace.Trace `json:"trace,omitempty"`
	Error    *wire.Error  `json:"error,omitempty"`
}

// Client is where a walk starts.
type Client struct {
	// Kind is pod, node or outside.
	Kind    string     `json:"kind"`
	Address netip.Addr `json:"address,omitzero"`
	Pod     string     `json:"pod,omitempty"`
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
}

// Finding is a named difference or fault.
type Finding struct {
	ID       string   `json:"id"`
	Severity string   `json:"severity"`
	Nodes    []string `json:"nodes"`
	Subject  string   `json:"subject,omitempty"`
	Message  string   `json:"message"`
	Places   []Place  `json:"places"`
	Evidence []string `json:"evidence"`
	Fix      string   `json:"fix"`
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

// NotTraced is a node that ought to have been traced.
type NotTraced struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}
