package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/visible"
)

// writeText prints a trace for people: each outcome with its way, and the rules on it.
func writeText(w io.Writer, t *trace.Trace) error {
	var b strings.Builder
	p := t.Packet
	from := "from a process of this namespace"
	if p.In != "" {
		from = "arriving on " + p.In
	}
	fmt.Fprintf(&b, "%s %s -> %s, %s\n", p.Protocol, p.Source, p.Destination, from)
	shown := make([]bool, len(t.Hops))
	for i, o := range t.Outcomes {
		fmt.Fprintf(&b, "\n%d. %s\n", i+1, summary(o))
		for _, c := range o.Conditions {
			fmt.Fprintf(&b, "   when %s\n", clean(c))
		}
		for _, u := range o.Unknown {
			fmt.Fprintf(&b, "   not known: %s (%s)\n", clean(u.What), clean(u.Where))
		}
		for _, h := range o.Path {
			hop := t.Hops[h]
			fmt.Fprintf(&b, "   %-12s %s\n", hop.Hook, place(hop))
			if hop.Rule != nil && !shown[h] {
				fmt.Fprintf(&b, "   %-12s   %s\n", "", clean(hop.Rule.Text))
			}
			if hop.Says != "" {
				fmt.Fprintf(&b, "   %-12s   %s\n", "", clean(hop.Says))
			}
			shown[h] = true
		}
	}
	fmt.Fprintf(&b, "\nread %d messages, %d bytes", t.Reads.Messages, t.Reads.Bytes)
	switch t.Reads.Hooks {
	case trace.HooksListed:
		b.WriteString("; hooks as the kernel lists them")
	case trace.HooksDerived:
		b.WriteString("; hooks derived from tables and chains")
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func place(h trace.Hop) string {
	s := clean(h.Action)
	if h.Chain == "" {
		return s
	}
	number := ""
	if h.Rule != nil {
		number = fmt.Sprintf(" #%d", h.Rule.Handle)
	}
	return fmt.Sprintf("%s %s%s: %s", clean(h.Table), clean(h.Chain), number, s)
}

func summary(o trace.Outcome) string {
	var s strings.Builder
	if o.Probability != nil && o.Probability.String() != "1" {
		s.WriteString(o.Probability.String() + "  ")
	}
	s.WriteString(strings.ToUpper(string(o.Verdict)))
	if o.Possible != "" {
		fmt.Fprintf(&s, " (possibly %s)", o.Possible)
	}
	if o.RejectWith != "" {
		s.WriteString(" with " + o.RejectWith)
	}
	fmt.Fprintf(&s, "  %s -> %s", o.Source, o.Destination)
	if o.Masqueraded {
		s.WriteString("  source translated")
	}
	if o.Out != "" {
		s.WriteString("  out " + o.Out)
	}
	if o.NextHop.IsValid() {
		s.WriteString(" via " + o.NextHop.String())
	}
	if o.Reason != "" {
		s.WriteString("\n   " + clean(o.Reason))
	}
	return s.String()
}

// clean takes what cannot be seen out of text that comes from the node.
func clean(s string) string { return visible.Text(s) }

// writeJSON writes a value for people and programs.
func writeJSON(w io.Writer, v any) error {
	b, err := indented(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(visible.JSON(b), '\n'))
	return err
}

func indented(v any) ([]byte, error) {
	if t, ok := v.(*trace.Trace); ok {
		return t.Indented()
	}
	return json.MarshalIndent(v, "", "  ")
}
