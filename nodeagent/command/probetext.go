package command

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// writeProbe prints what happened to real connections for people. t is the walk of the same packet, for the rules' texts
// and for what it foretells; nil when there is none.
func writeProbe(w io.Writer, a *wire.ProbeAnswer, t *trace.Trace) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s from %s\n", plural(len(a.Attempts), "real "+a.Protocol+" connection"), a.Destination, clean(a.Namespace))
	text := map[wire.ProbeRule]string{}
	if t != nil {
		for _, h := range t.Hops {
			if h.Rule != nil {
				text[wire.ProbeRule{Namespace: h.Namespace, Table: h.Table, Chain: h.Chain, Handle: h.Rule.Handle}] = clean(h.Rule.Text)
			}
		}
		b.WriteString("\nwalked:\n")
		for _, o := range t.Outcomes {
			fmt.Fprintf(&b, "   %s\n", summary(o))
		}
	}
	for i, x := range a.Attempts {
		fmt.Fprintf(&b, "\n%d. %s\n", i+1, probeResult(x))
		for _, c := range x.Tracked {
			fmt.Fprintf(&b, "   conntrack  %s: %s -> %s, reply %s -> %s\n", clean(c.Namespace), c.Source, c.Destination, c.ReplySource, c.ReplyDestination)
		}
		for _, e := range x.Events {
			r := wire.ProbeRule{Namespace: e.Namespace, Table: e.Table, Chain: e.Chain, Handle: e.Handle}
			fmt.Fprintf(&b, "   nftrace    %s: %s %s", clean(e.Namespace), clean(e.Table), clean(e.Chain))
			if e.Type == "rule" {
				fmt.Fprintf(&b, " #%d", e.Handle)
			} else {
				b.WriteString(" " + e.Type)
			}
			b.WriteString(": " + clean(e.Verdict))
			if text[r] != "" {
				b.WriteString("  " + text[r])
			}
			b.WriteByte('\n')
		}
		for _, d := range x.Drops {
			where := clean(d.Namespace)
			if where == "" {
				where = "before an interface"
			}
			fmt.Fprintf(&b, "   dropped    %s: %s, %s -> %s, %s\n", where, d.Reason, d.Source, d.Destination, plural(d.Count, "time"))
		}
	}
	if len(a.Counters) > 0 {
		b.WriteString("\ncounters that moved:\n")
	}
	for _, c := range a.Counters {
		fmt.Fprintf(&b, "   +%d packets, +%d bytes  %s: %s %s #%d  %s\n", c.Packets, c.Bytes, clean(c.Namespace), clean(c.Table), clean(c.Chain), c.Handle, text[c.ProbeRule])
	}
	for _, n := range a.Notes {
		fmt.Fprintf(&b, "\nnote: %s\n", clean(n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// probeResult is one connection in a line.
func probeResult(x wire.ProbeAttempt) string {
	var s strings.Builder
	s.WriteString(strings.ToUpper(string(x.Result)))
	if x.Errno != "" {
		s.WriteString(" " + x.Errno)
	}
	if x.By != "" {
		s.WriteString(" by " + x.By)
	}
	fmt.Fprintf(&s, " after %s  from %s", (time.Duration(x.Micros) * time.Microsecond).Round(10*time.Microsecond), x.Source)
	if x.Peer.IsValid() {
		fmt.Fprintf(&s, "  sent to %s by a program at the socket", x.Peer)
	}
	if x.FinalDestination.IsValid() {
		fmt.Fprintf(&s, "  reached %s from %s (by %s)", x.FinalDestination, x.FinalSource, x.SeenBy)
	}
	return s.String()
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
