//go:build linux

package oracle

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// Coverage counts how often a construct was decisive, for packets on whose fate the kernel and the engine agree: without
// the rule it stands in, the engine says that what was seen cannot be. A target that nothing but the packet's going on can
// show (LOG, TEE …) was decisive when a packet arrived somewhere behind it.
type Coverage map[string]int

// Add counts the rules on the way of the outcome that was observed; where conditions leave several, those on all ways.
func (v Coverage) Add(c *Case, o *Observation, j Judgement) {
	if j.Problem != "" || len(j.Fits) == 0 {
		return
	}
	ways := map[ruleKey]int{}
	for _, fit := range j.Fits {
		seen := map[ruleKey]bool{}
		for _, h := range o.Trace.Outcomes[fit].Path {
			if hop := o.Trace.Hops[h]; hop.Rule != nil {
				seen[keyOf(hop)] = true
			} else if hop.Action == "conntrack entry" || hop.Action == "defragmentation" || strings.HasPrefix(hop.Action, "policy ") {
				v[hop.Action]++
			}
		}
		for k := range seen {
			ways[k]++
		}
	}
	counted := map[string]bool{}
	for k, n := range ways {
		if n != len(j.Fits) {
			continue
		}
		decided := o.decided(c, k)
		for _, name := range o.constructs[k] {
			if !counted[name] && (decided || goesOn[name] && o.Fate.Kind != Silent) {
				v[name]++
				counted[name] = true
			}
		}
	}
}

// goesOn are targets that change nothing that a fate could show: that the packet goes on is all that can be wrong.
var goesOn = map[string]bool{
	"target AUDIT": true, "target CHECKSUM": true, "target IDLETIMER": true, "target LOG": true, "target NFLOG": true,
	"target RATEEST": true, "target TCPOPTSTRIP": true, "target TEE": true, "target TRACE": true, "target CONNSECMARK": true,
	"nft dup": true,
}

// Modelled lists the constructs that must be decisive: those that the engine models, but for those that cannot be.
func Modelled() []string {
	var out []string
	need := func(c string) {
		if _, ok := notLoadable[c]; ok {
			return
		}
		if _, ok := notDecisive[c]; !ok {
			out = append(out, c)
		}
	}
	for _, e := range xtables.Extensions() {
		if e.Modelled != xtables.Unknown {
			need(fmt.Sprintf("%s %s", e.Kind, e.Name))
		}
	}
	for _, e := range nftables.Expressions() {
		if e.Modelled != nftables.NotModelled {
			need("nft " + e.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Below lists the constructs that were decisive less than n times.
func (v Coverage) Below(n int) []string {
	return slices.DeleteFunc(Modelled(), func(c string) bool { return v[c] >= n })
}

// Names lists what was seen, in order.
func (v Coverage) Names() []string {
	var out []string
	for c := range v {
		out = append(out, c)
	}
	sort.Strings(out)
	return out
}
