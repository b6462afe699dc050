package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/survey"
)

// writeHuman writes the answer for people: what the Service is, each path, the comparison, the findings.
func writeHuman(w io.Writer, a *Answer, wide, colour bool) error {
	p := &page{wide: wide, colour: colour}
	p.service(a)
	if err := p.endpoints(a.Model); err != nil {
		return err
	}
	if err := p.nodes(a.Nodes); err != nil {
		return err
	}
	p.paths(a)
	p.probes(a)
	if err := p.compare(a); err != nil {
		return err
	}
	if err := p.affinity(a); err != nil {
		return err
	}
	if err := p.flows(a); err != nil {
		return err
	}
	p.findings(a)
	return p.writeTo(w)
}

// service writes the head: one line that says whether all is well, and what the Service is.
func (p *page) service(a *Answer) {
	m := a.Model
	result, s := "OK", green
	switch a.Report.Overall() {
	case diagnose.Differs:
		result, s = "DIFFERS", red
	case diagnose.Unknown:
		result, s = "UNKNOWN", yellow
	}
	if result == "OK" && a.Report.Worst() == diagnose.Error {
		result, s = "BROKEN", red
	}
	p.heading(bold, fmt.Sprintf("Service %s/%s  %s", short(m.Namespace, 40), short(m.Name, 40), m.Type), s, result)
	if f := a.Report.Lead(); f != nil {
		more := ""
		if n := len(a.Report.Findings) - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more below)", n)
		}
		p.paragraph(s, "  ", onNodes(f)+f.Sentence+more)
	}
	ips := make([]string, 0, len(m.ClusterIPs))
	for _, ip := range m.ClusterIPs {
		ips = append(ips, ip.String())
	}
	p.paragraph(plain, "  ", strings.Join(ips, ", ")+"  "+portsText(m))
	var policies []string
	if m.ExternalLocal {
		policies = append(policies, "externalTrafficPolicy Local")
	}
	if m.InternalLocal {
		policies = append(policies, "internalTrafficPolicy Local")
	}
	if m.Affinity > 0 {
		policies = append(policies, fmt.Sprintf("session affinity ClientIP for %s", m.Affinity))
	}
	if len(m.SourceRanges) > 0 {
		policies = append(policies, fmt.Sprintf("load balancer open to %s", joined(m.SourceRanges)))
	}
	if len(policies) > 0 {
		p.paragraph(plain, "  ", strings.Join(policies, "; "))
	}
	for _, n := range m.Notes {
		p.paragraph(yellow, "  note: ", n)
	}
}

// portsText lists each service port once, whatever its families: 80/TCP (http) -> 8080, nodePort 30080.
func portsText(m *intent.Model) string {
	var out []string
	for _, p := range m.Ports {
		t := fmt.Sprintf("%d/%s", p.Port, strings.ToUpper(p.Protocol))
		if p.Name != "" {
			t += " (" + p.Name + ")"
		}
		t += " -> " + p.Target
		if p.NodePort != 0 {
			t += fmt.Sprintf(" nodePort %d", p.NodePort)
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return strings.Join(out, ", ")
}

func joined[T fmt.Stringer](list []T) string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, v.String())
	}
	return strings.Join(out, ", ")
}

// endpoints writes the table of endpoints; the ready ones of a very large Service are only counted.
func (p *page) endpoints(m *intent.Model) error {
	eps := m.Endpoints()
	p.blank()
	if len(eps) == 0 {
		p.line(red, "  no endpoints")
		return nil
	}
	const limit = 20
	var rows [][]string
	hidden := 0
	for _, e := range eps {
		if !p.wide && len(eps) > limit && len(rows) >= limit-2 {
			hidden++
			continue
		}
		pod, node := e.Pod, e.Node
		if !p.wide {
			pod, node = short(podTail(e.Pod), 22), short(e.Node, 18)
		}
		rows = append(rows, []string{e.Address.String(), pod, node, short(e.Zone, 14), e.State()})
	}
	if err := p.table([]string{"ENDPOINT", "POD", "NODE", "ZONE", "STATE"}, rows); err != nil {
		return err
	}
	if hidden > 0 {
		p.line(plain, fmt.Sprintf("  … %d more endpoints (-o wide shows all)", hidden))
	}
	return nil
}

// nodes writes the table of traced nodes.
func (p *page) nodes(nodes []*survey.Node) error {
	rows := make([][]string, 0, len(nodes))
	for _, n := range nodes {
		flows := fmt.Sprint(n.FlowTotal)
		if n.FlowsError != "" {
			flows = "?"
		}
		name, kernel := n.Name, n.Hello.Kernel
		if !p.wide {
			name, kernel = short(name, 24), short(kernel, 20)
		}
		rows = append(rows, []string{name, dataplanes(n), kernel, fmt.Sprintf("%d/%d", n.Describe.ConntrackCount, n.Describe.ConntrackMax), flows})
	}
	p.blank()
	return p.table([]string{"NODE", "DATAPLANE", "KERNEL", "CONNTRACK", "FLOWS"}, rows)
}

// dataplanes names what translates on a node; the families are named only where they differ.
func dataplanes(n *survey.Node) string {
	by := map[string][]string{}
	var order []string
	for _, d := range n.Describe.Dataplanes {
		if !d.Active {
			continue
		}
		name := strings.TrimSpace(d.Name + " " + d.Mode)
		if by[name] == nil {
			order = append(order, name)
		}
		by[name] = append(by[name], d.Family)
	}
	if len(order) == 0 {
		return "none found"
	}
	if len(order) == 1 {
		return order[0]
	}
	for i, name := range order {
		order[i] = name + " (" + strings.Join(by[name], ", ") + ")"
	}
	return strings.Join(order, ", ")
}
