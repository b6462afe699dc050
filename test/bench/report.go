//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is to be reached.
const (
	flatRatio  = 1.3  // nftables: the greatest number of Services against the least
	dumpShare  = 100  // nftables: the dump takes so many times as long
	dumpFrom   = 2000 // from so many Services on
	floorRatio = 1.3  // iptables: the agent against the bare reads
	memoryMB   = 40   // beside a legacy table's own size
)

const head = `# Speed

What one trace costs on a node, beside what dumping the state costs and beside the bare reads that it needs.

    make bench

makes this page (%s, %s). Measured on %s.

Each state is written by kube-proxy's own code (Kubernetes 1.37) into a network namespace of its own: so many Services of
%d endpoints each, every tenth of type NodePort. Then these run in turn, as processes of their own:

- **agent**: ` + "`svctrace-agent packet`" + `, from a pod to the cluster IP of the Service that costs most to find. Its answer is
  checked: all endpoints, each with its probability.
- **floor**: the same reads without decoding: one GET_ENTRIES of the nat table, or one GETRULE dump of each chain on the
  packet's way.
- **dump**: ` + "`iptables-save`" + ` of the variant, or ` + "`nft list ruleset`" + `.
- **without BPF**: the agent with --no-bpf, which is what it does where BPF is not allowed or the kernel is older than 5.17.
- **floor + list**: the floor with the headers of all chains, which is what the agent then has to read.

The agent has to know everything that is registered at the hooks, whoever made it. Where BPF is allowed it reads the
kernel's own lists of hooks (nodeagent/live/hooklist): loading the program that reads them takes about 0.3 ms, the lists
0.1 ms, however many chains there are. Else it has to have the headers of all chains, since netlink does not give base
chains alone. That takes 0.3 µs a chain, and more from some ten thousand chains on: the kernel gives them in pieces of
32 KB, and walks to each of them from the start.

And of a long chain it need not have all rules there: in kernel memory it sees which ones the packet misses by their first
comparisons (nodeagent/live/chainmem), for half a millisecond and some 0.1 µs a rule, and it asks the kernel for the others by
their handles. A dump takes 4 µs a rule. So with many Services in iptables-nft mode the agent takes less than the floor.

The ratio to the floor has a part that does not shrink with the state. Starting alone takes %s of processor time for a Go
program that does nothing (the floor without reads) and %s for the agent (--version). Behind that come the program
that reads the hooks, some seventy requests for routes, conntrack entries, set elements and what else the path needs, the
evaluation, and the answer.

Time is from start to end, and in brackets the processor time; both are medians. Ratios are of processor time: with cores
that others use too, the time from start to end depends on them. Memory is the greatest resident size.

`

func report(s starts, rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, head, time.Now().UTC().Format("January 2006"), runtime.Version(), machine(), endpoints,
		milliseconds(s.floor.cpu), milliseconds(s.agent.cpu))
	for _, k := range []backend{nftables, iptablesNFT, iptablesLegacy} {
		var list []row
		for _, r := range rows {
			if r.backend == k {
				list = append(list, r)
			}
		}
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, func(a, b row) int { return a.services - b.services })
		section(&b, k, list)
	}
	return b.String()
}

func section(b *strings.Builder, k backend, list []row) {
	fmt.Fprintf(b, "## %s\n\n", k)
	columns := []string{"Services", "agent", "memory", "floor", "memory", "dump", "memory", "agent / floor", "dump / agent", "messages", "read"}
	if k != iptablesLegacy {
		columns = append(columns, "without BPF", "floor + list", "ratio")
	}
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" ---: |", len(columns)))
	for _, r := range list {
		cells := []string{
			fmt.Sprint(r.services), times(r.agent), megabytes(r.agent.memory), times(r.floor), megabytes(r.floor.memory),
			times(r.dump), megabytes(r.dump.memory), fmt.Sprintf("%.2f", ratio(r.agent, r.floor)), fmt.Sprintf("%.0f", ratio(r.dump, r.agent)),
			fmt.Sprint(r.reads.Messages), megabytes(r.reads.Bytes),
		}
		if k != iptablesLegacy {
			cells = append(cells, times(r.plain), times(r.all), fmt.Sprintf("%.2f", ratio(r.plain, r.all)))
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
	b.WriteString("\n")
	for _, g := range goals(k, list) {
		fmt.Fprintf(b, "- %s\n", g)
	}
	b.WriteString("\n")
}

// goals says of each aim whether it is reached.
func goals(k backend, list []row) []string {
	var out []string
	say := func(ok bool, format string, args ...any) {
		verdict := "reached"
		if !ok {
			verdict = "**not reached**"
		}
		out = append(out, fmt.Sprintf(format, args...)+": "+verdict)
	}
	first, last := list[0], list[len(list)-1]
	memory := int64(0)
	for _, r := range list {
		memory = max(memory, r.agent.memory-r.size)
	}
	switch k {
	case nftables:
		flat := ratio(last.agent, first.agent)
		say(flat <= flatRatio, "flat, at most %.1f times as long with %d Services as with %d: %.2f", flatRatio, last.services, first.services, flat)
		for _, r := range list {
			if r.services >= dumpFrom {
				say(ratio(r.dump, r.agent) >= dumpShare, "at most 1/%d of the dump with %d: 1/%.0f", dumpShare, r.services, ratio(r.dump, r.agent))
			}
		}
	default:
		for _, r := range list {
			say(ratio(r.agent, r.floor) <= floorRatio, "at most %.1f times the floor with %d: %.2f", floorRatio, r.services, ratio(r.agent, r.floor))
		}
	}
	beside := ""
	if k == iptablesLegacy {
		beside = " beside the table"
	}
	say(memory <= memoryMB<<20, "at most %d MB%s: %s", memoryMB, beside, megabytes(memory))
	return out
}

func ratio(a, b usage) float64 {
	if b.cpu == 0 {
		return 0
	}
	return float64(a.cpu) / float64(b.cpu)
}

func times(u usage) string {
	return fmt.Sprintf("%s (%s)", milliseconds(u.wall), milliseconds(u.cpu))
}

func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms >= 10000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func megabytes(n int64) string {
	mb := float64(n) / (1 << 20)
	if mb < 1 {
		return fmt.Sprintf("%.2f MB", mb)
	}
	return fmt.Sprintf("%.1f MB", mb)
}

// machine describes the machine in general terms.
func machine() string {
	var u unix.Utsname
	kernel := "Linux"
	if unix.Uname(&u) == nil {
		release := strings.SplitN(unix.ByteSliceToString(u.Release[:]), ".", 3)
		kernel += " " + strings.Join(release[:min(2, len(release))], ".")
	}
	load := ""
	if f, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = ", with a load of " + strings.Fields(string(f))[0] + " at the end"
	}
	return fmt.Sprintf("%d shared cores, %s%s", runtime.NumCPU(), kernel, load)
}
