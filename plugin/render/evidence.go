package render

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
)

// Evidence is one thing that proves a finding. Text says it for people; at most one of the other parts says it as data.
type Evidence struct {
	Text string `json:"text"`
	// Nodes are where it was read; absent when it is the API's.
	Nodes  []string        `json:"nodes,omitempty"`
	Rule   *EvidenceRule   `json:"rule,omitempty"`
	Sysctl *wire.Sysctl    `json:"sysctl,omitempty"`
	Object *EvidenceObject `json:"object,omitempty"`
	Flow   *wire.Flow      `json:"flow,omitempty"`
	Route  *wire.Route     `json:"route,omitempty"`
	Value  *EvidenceValue  `json:"value,omitempty"`
}

// EvidenceRule is a rule, or with policy a base chain's policy.
type EvidenceRule struct {
	Node  string `json:"node,omitempty"`
	Hook  string `json:"hook,omitempty"`
	Table string `json:"table"`
	Chain string `json:"chain"`
	// Handle is the rule's handle in nftables, its number in the chain in legacy iptables; absent for a policy.
	Handle  uint64 `json:"handle,omitempty"`
	Text    string `json:"text,omitempty"`
	Comment string `json:"comment,omitempty"`
	// Packets and Bytes are its counters; absent when it has none.
	Packets *uint64 `json:"packets,omitempty"`
	Bytes   *uint64 `json:"bytes,omitempty"`
	// Action is what it did with the packet; absent for a rule that no packet was walked through.
	Action string `json:"action,omitempty"`
}

// EvidenceObject is a field of an object in the API.
type EvidenceObject struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Field     string `json:"field"`
	// Value is what stands there; empty for nothing.
	Value string `json:"value"`
}

// EvidenceValue is anything else that was read: a counter, a setting of kube-proxy, a property of an interface.
type EvidenceValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func evidenceOf(list []diagnose.Evidence) []Evidence {
	out := make([]Evidence, 0, len(list))
	for _, e := range list {
		x := Evidence{Text: e.Text, Nodes: e.Nodes, Sysctl: e.Sysctl, Flow: e.Flow, Route: e.Route}
		if r := e.Rule; r != nil {
			x.Rule = &EvidenceRule{Node: r.Node, Hook: r.Hook, Table: r.Table, Chain: r.Chain, Action: r.Action}
			if r.Rule != nil {
				x.Rule.Handle, x.Rule.Text, x.Rule.Comment, x.Rule.Packets, x.Rule.Bytes = r.Rule.Handle, r.Rule.Text, r.Rule.Comment, r.Rule.Packets, r.Rule.Bytes
			}
		}
		if o := e.Object; o != nil {
			x.Object = &EvidenceObject{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Field: o.Field, Value: o.Value}
		}
		if v := e.Value; v != nil {
			x.Value = &EvidenceValue{Name: v.Name, Value: v.Value}
		}
		out = append(out, x)
	}
	return out
}
