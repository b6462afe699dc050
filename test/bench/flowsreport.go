//go:build linux

package main

import (
	"fmt"
	"strings"
)

const flowsHead = `## flows

The flows of one Service, out of a connection tracking table with many: %d to each of its Services, in three zones. The agent
is asked as the plugin asks it; its answer is checked to be all flows of this Service and no other. Beside it runs ` + "`conntrack -L`" + `,
which lists the whole table.

Where BPF is allowed and the table is large the agent walks through it in kernel memory (nodeagent/live/cthash), which tells
it whom to ask about, and then asks the kernel about each of these flows by its tuple. It takes some 10 ms to begin with: most
of that goes into finding the kernel's functions in its BTF.

**Without BPF** (--no-bpf) the kernel chooses for IPv4 (CTA_FILTER), and compares every entry. For IPv6 it can only be asked
by protocol and port: its comparison of IPv6 addresses is upside down (ctnetlink_filter_match_tuple, seen in Linux 6.18), so
that the agent chooses among all flows to this port. Here every Service has the same port, which is the worst case.

`

// flowsReport is the page's part about flows; empty without any.
func flowsReport(rows []flowRow) string {
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, flowsHead, flowsEach)
	b.WriteString("| flows | family | agent | memory | chosen by | without BPF | memory | chosen by | conntrack -L | memory | conntrack / agent | conntrack / without BPF |\n" +
		"| ---: | --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.1f | %.1f |\n", r.flows, r.family, times(r.agent), megabytes(r.agent.memory), r.chosen,
			times(r.plain), megabytes(r.plain.memory), r.plainChosen, times(r.tool), megabytes(r.tool.memory), ratio(r.tool, r.agent), ratio(r.tool, r.plain))
	}
	b.WriteString("\n")
	for _, r := range rows {
		for _, g := range []struct {
			ok   bool
			text string
		}{
			{ratio(r.tool, r.agent) >= flowsShare, fmt.Sprintf("at most 1/%d of conntrack -L with %d flows of %s: 1/%.1f", flowsShare, r.flows, r.family, ratio(r.tool, r.agent))},
			{r.agent.memory <= flowsMemoryMB<<20, fmt.Sprintf("at most %d MB with %d flows of %s: %s", flowsMemoryMB, r.flows, r.family, megabytes(r.agent.memory))},
		} {
			verdict := "reached"
			if !g.ok {
				verdict = "**not reached**"
			}
			fmt.Fprintf(&b, "- %s: %s\n", g.text, verdict)
		}
	}
	return b.String() + "\n"
}
