package render

import (
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// NewServiceTrace turns an answer into the versioned model. Lists are never null.
func NewServiceTrace(a *Answer) *ServiceTrace {
	out := &ServiceTrace{
		APIVersion: trace.APIVersion, Kind: Kind,
		Result:      string(a.Report.Overall()),
		Service:     serviceOf(a.Model),
		Endpoints:   []Endpoint{},
		Nodes:       []Node{},
		AccessPaths: []AccessPath{},
		Walks:       []Walk{},
		FlowGroups:  []FlowGroup{},
		Findings:    []Finding{},
		NotTraced:   []NotTraced{},
		NotRead:     append([]string{}, a.Unread...),
	}
	for _, p := range a.Model.Ports {
		for _, e := range p.Endpoints {
			out.Endpoints = append(out.Endpoints, Endpoint{
				Address: e.Address, PortName: p.Name, Protocol: p.Protocol, Pod: e.Pod, Node: e.Node, Zone: e.Zone,
				Ready: e.Ready, Serving: e.Serving, Terminating: e.Terminating, Slice: e.Slice,
			})
		}
	}
	for _, n := range a.Nodes {
		out.Nodes = append(out.Nodes, Node{
			Name: n.Name, Zone: n.Zone, Kubelet: n.Kubelet, Kernel: n.Hello.Kernel, Agent: n.Hello.Build,
			Dataplanes:     append([]wire.Dataplane{}, n.Describe.Dataplanes...),
			ConntrackCount: n.Describe.ConntrackCount, ConntrackMax: n.Describe.ConntrackMax,
			Flows: append([]wire.Flow{}, n.Flows...), FlowTotal: n.FlowTotal, FlowsError: n.FlowsError, AgentMicros: n.Micros,
			AffinityTotal: n.AffinityTotal, AffinityError: n.AffinityError,
		})
	}
	for _, p := range a.Model.Paths {
		ap := AccessPath{Kind: string(p.Kind), Family: string(p.Family), Protocol: p.Protocol, Address: p.Address, Port: p.Port, PortName: a.Model.Ports[p.PortIndex].Name}
		if p.Proxied {
			ap.IPMode = "Proxy"
		}
		out.AccessPaths = append(out.AccessPaths, ap)
	}
	for i := range a.Report.Comparisons {
		out.Walks = append(out.Walks, walkOf(a.Model, &a.Report.Comparisons[i]))
	}
	for _, g := range diagnose.FlowGroups(a.Model, a.Nodes) {
		out.FlowGroups = append(out.FlowGroups, FlowGroup{
			AccessPath: pathIndex(a.Model, g.Path), Endpoint: g.Endpoint, Current: g.Current, State: g.State, Unreplied: g.Unreplied,
			NAT: g.NAT(), Count: g.Count, ExpiresSeconds: g.ExpiresSeconds, Zone: g.Zone, YoungestSeconds: g.YoungestSeconds,
			OldestSeconds: g.OldestSeconds, Nodes: g.Nodes,
		})
	}
	for i := range a.Report.Findings {
		out.Findings = append(out.Findings, findingOf(a.Model, &a.Report.Findings[i]))
	}
	out.Affinity = affinityOf(a)
	if f := a.Report.Lead(); f != nil {
		out.Headline = onNodes(f) + f.Sentence
	}
	out.Probes = probesOf(a.Model, a.Probes)
	for _, s := range a.Skipped {
		out.NotTraced = append(out.NotTraced, NotTraced{Node: s.Node, Client: s.Client, Reason: s.Why})
	}
	return out
}

func serviceOf(m *intent.Model) Service {
	out := Service{
		Namespace: m.Namespace, Name: m.Name, Type: string(m.Type), ClusterIPs: m.ClusterIPs, Ports: []ServicePort{},
		InternalTrafficPolicy: policy(m.InternalLocal), ExternalTrafficPolicy: policy(m.ExternalLocal),
		SessionAffinitySeconds: int64(m.Affinity.Seconds()), Notes: m.Notes,
	}
	for _, r := range m.SourceRanges {
		out.LoadBalancerSourceRanges = append(out.LoadBalancerSourceRanges, r.String())
	}
	for _, p := range m.Ports {
		out.Ports = append(out.Ports, ServicePort{Name: p.Name, Protocol: p.Protocol, Family: string(p.Family), Port: p.Port, TargetPort: p.Target, NodePort: p.NodePort})
	}
	return out
}

func walkOf(m *intent.Model, c *diagnose.Comparison) Walk {
	w := c.Walk
	out := Walk{
		AccessPath: pathIndex(m, w.Path), Node: c.Node,
		Client:      Client{Kind: string(w.Client.Kind), Address: w.Client.Source, Invented: w.Client.Invented, Container: w.Client.Container},
		Destination: w.Destination,
		Expected:    Expected{Fate: string(c.Expect.Fate), Endpoints: []ExpectedEndpoint{}, Why: c.Expect.Why},
		Kernel:      []KernelShare{}, Flows: c.Flows, Result: string(c.Result), Findings: []string{},
		Sidecar: c.Sidecar, Trace: w.Trace, Stops: []Stop{}, Replies: []Reply{}, Error: w.Error,
	}
	for _, s := range w.Stops {
		out.Stops = append(out.Stops, Stop{Outcome: s.Outcome, Node: s.Node, Reason: s.Why, Bounded: s.Bounded})
	}
	for _, r := range w.Replies {
		out.Replies = append(out.Replies, Reply{Outcome: r.Outcome, Same: r.Same, Return: string(r.Return), Reason: r.Why, UndoneOn: r.Undone, Trace: r.Trace})
	}
	if w.Client.Pod != "" {
		out.Client.Pod = w.Client.PodNamespace + "/" + w.Client.Pod
	}
	for _, s := range c.Expect.Shares {
		out.Expected.Endpoints = append(out.Expected.Endpoints, ExpectedEndpoint{Address: s.Endpoint.Address, Masquerade: string(s.Masquerade)})
	}
	for _, s := range c.Kernel {
		k := KernelShare{Address: s.Endpoint, Masqueraded: s.Masqueraded, Stopped: s.Stopped}
		if s.Probability != nil {
			k.Probability = trace.ProbabilityOf(s.Probability)
		}
		if s.Listening != s.Deaf {
			k.Listening = &s.Listening
		}
		out.Kernel = append(out.Kernel, k)
	}
	for _, k := range c.Kinds {
		out.Findings = append(out.Findings, k.ID)
	}
	return out
}

func findingOf(m *intent.Model, f *diagnose.Finding) Finding {
	out := Finding{
		ID: f.ID, Severity: string(f.Severity), Nodes: append([]string{}, f.Nodes...), Subject: f.Subject, Message: f.Sentence,
		Places: []Place{}, Consequences: []Finding{}, Evidence: evidenceOf(f.Evidence), Fix: f.Fix,
	}
	for _, p := range f.Places {
		out.Places = append(out.Places, Place{AccessPath: pathIndex(m, p.Path), Client: string(p.Client)})
	}
	for i := range f.Consequences {
		out.Consequences = append(out.Consequences, findingOf(m, &f.Consequences[i]))
	}
	return out
}

func pathIndex(m *intent.Model, p intent.AccessPath) int { return slices.Index(m.Paths, p) }

func policy(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}
