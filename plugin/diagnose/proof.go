package diagnose

import (
	"fmt"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// Evidence is one thing that proves a finding: a line for people, and the same as data where it is more than words. At
// most one of the pointers is set.
type Evidence struct {
	// Text says it in one line, in the notation of the user's own tools.
	Text string
	// Nodes are where it was read; none when it is the API's.
	Nodes []string
	// Rule is a rule, or a chain's policy, that the packet met.
	Rule *RuleEvidence
	// Sysctl is a kernel parameter.
	Sysctl *wire.Sysctl
	// Object is a field of an object in the API.
	Object *ObjectEvidence
	// Flow is an entry of connection tracking.
	Flow *wire.Flow
	// Route is a way that the node's own packets take.
	Route *wire.Route
	// Value is any other thing that was read: a counter, a setting of kube-proxy, a property of an interface.
	Value *ValueEvidence
}

// RuleEvidence is a rule with its handle and counters.
type RuleEvidence struct {
	// Node and Hook are where the packet met it; Hook is empty for a rule that no packet was walked through.
	Node string
	Hook string
	// Table is as in trace.Hop: with the family for nftables, the backend for legacy iptables.
	Table string
	Chain string
	// Rule is nil for the chain's policy, which Action then names.
	Rule   *trace.Rule
	Action string
}

// ObjectEvidence is a field of an object.
type ObjectEvidence struct {
	// Kind, Namespace and Name tell the object; Namespace is empty for those that have none.
	Kind      string
	Namespace string
	Name      string
	// Field is its path, as in kubectl explain; Value is what stands there, empty for nothing.
	Field string
	Value string
}

// ValueEvidence is a named value.
type ValueEvidence struct {
	// Name says what it is and whose: "conntrack insert_failed", "kube-proxy clusterCIDR", "flannel.1 mtu".
	Name  string
	Value string
}

// Texts are the lines of a list of evidence.
func Texts(list []Evidence) []string {
	out := make([]string, 0, len(list))
	for _, e := range list {
		out = append(out, e.Text)
	}
	return out
}

// said is evidence that is no more than words.
func said(format string, args ...any) Evidence {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	return Evidence{Text: format}
}

// saidAll is several of them.
func saidAll(texts []string) []Evidence {
	var out []Evidence
	for _, t := range texts {
		out = append(out, Evidence{Text: t})
	}
	return out
}

// field is a field of an object, with a text of its own.
func field(kind, namespace, name, path, value, format string, args ...any) Evidence {
	e := said(format, args...)
	e.Object = &ObjectEvidence{Kind: kind, Namespace: namespace, Name: name, Field: path, Value: value}
	return e
}

// value is a named value, with a text of its own.
func value(name string, v any, format string, args ...any) Evidence {
	e := said(format, args...)
	e.Value = &ValueEvidence{Name: name, Value: fmt.Sprint(v)}
	return e
}

// sysctlOf is a kernel parameter, in sysctl's notation.
func sysctlOf(a *wire.FactsAnswer, name string) Evidence {
	e := Evidence{Text: sysctlText(a, name)}
	if v, ok := a.Sysctl(name); ok {
		e.Sysctl = &wire.Sysctl{Name: strings.ReplaceAll(name, "/", "."), Value: v}
	}
	return e
}

// flowOf is an entry of connection tracking.
func flowOf(f wire.Flow) Evidence { return Evidence{Text: flowText(f), Flow: &f} }

// routeOf is a way that the node's own packets take.
func routeOf(r wire.Route, text string) Evidence { return Evidence{Text: text, Route: &r} }

// hopOf is a hop: where it stands, and the rule as the user's own tools print it.
func hopOf(h *trace.Hop) Evidence {
	e := Evidence{Text: hopText(h)}
	if h.Table != "" {
		e.Rule = &RuleEvidence{Node: h.Node, Hook: h.Hook, Table: h.Table, Chain: h.Chain, Rule: h.Rule, Action: h.Action}
	}
	return e
}

// counted is a hop, with the rule's counter in its text.
func counted(h *trace.Hop) Evidence {
	e := hopOf(h)
	if h.Rule != nil && h.Rule.Packets != nil {
		e.Text += fmt.Sprintf(" (handle %d, %d packets so far)", h.Rule.Handle, *h.Rule.Packets)
	}
	return e
}

// endpointField is a field of an endpoint in its EndpointSlice.
func endpointField(namespace, slice, address, path, v, format string, args ...any) Evidence {
	return field("EndpointSlice", namespace, slice, fmt.Sprintf("endpoints[%s].%s", address, path), v, format, args...)
}

// endpointField is a field of an endpoint of the model.
func (s *scene) endpointField(e intent.Endpoint, path, v, format string, args ...any) Evidence {
	return endpointField(s.model.Namespace, e.Slice, e.Address.String(), path, v, format, args...)
}

// serviceField is a field of the Service itself.
func (s *scene) serviceField(path, v, format string, args ...any) Evidence {
	return field("Service", s.model.Namespace, s.model.Name, path, v, format, args...)
}
