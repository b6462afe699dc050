//go:build linux

package oracle

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// Coverage counts how often a construct was decisive: it stood in a rule that acted on a packet whose fate the kernel
// and the engine agree on. A rule acts only when all its matches match, so each of them decided.
type Coverage map[string]int

// Add counts the rules on the way of the outcome that was observed; where conditions leave several, those on all ways.
func (v Coverage) Add(o *Observation, j Judgement) {
	if j.Problem != "" || len(j.Fits) == 0 {
		return
	}
	ways := map[string]int{}
	for _, fit := range j.Fits {
		seen := map[string]bool{}
		for _, h := range o.Trace.Outcomes[fit].Path {
			for _, c := range constructs(o.Trace.Hops[h]) {
				seen[c] = true
			}
		}
		for c := range seen {
			ways[c]++
		}
	}
	for c, n := range ways {
		if n == len(j.Fits) {
			v[c]++
		}
	}
}

// Below lists the constructs that the engine models and that were decisive less than n times.
func (v Coverage) Below(n int) []string {
	var out []string
	need := func(c string) {
		if _, ok := notHere[c]; !ok && v[c] < n {
			out = append(out, fmt.Sprintf("%s (%d)", c, v[c]))
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

// Names lists what was seen, in order.
func (v Coverage) Names() []string {
	var out []string
	for c := range v {
		out = append(out, c)
	}
	sort.Strings(out)
	return out
}

// constructs names what a rule's text is made of.
func constructs(h trace.Hop) []string {
	if h.Rule == nil {
		if strings.HasPrefix(h.Action, "policy ") {
			return []string{"policy"}
		}
		if h.Action == "conntrack entry" {
			return []string{"conntrack entry"}
		}
		return nil
	}
	text := " " + h.Rule.Text + " "
	if strings.HasPrefix(h.Rule.Text, "-A ") {
		out := xtConstructs(h.Rule.Text)
		if !strings.HasPrefix(h.Table, "legacy ") {
			// The nft backend's rules are made of these two expressions, besides native ones.
			out = append(out, "nft match", "nft target")
		}
		return out
	}
	var out []string
	for expression, phrases := range nftConstructs {
		if slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(text, p) }) {
			out = append(out, "nft "+expression)
		}
	}
	return out
}

// xtConstructs names the matches and the target of an iptables rule.
func xtConstructs(text string) []string {
	var out []string
	f := strings.Fields(text)
	for i := 0; i+1 < len(f); i++ {
		switch f[i] {
		case "-m":
			out = append(out, "match "+f[i+1])
		case "-j":
			out = append(out, "target "+f[i+1])
		case "-g":
			out = append(out, "goto")
		case "-s", "-d", "-i", "-o", "-p":
			out = append(out, f[i])
		case "!":
			out = append(out, "inversion")
		}
	}
	return out
}

// nftConstructs are phrases of nft rules, by the expression they are made of.
var nftConstructs = map[string][]string{
	"bitwise":   {" & ", " | ", " ^ ", "saddr 10.244.", "saddr fd00:"},
	"byteorder": {"mark 0x00000001-0x00000010", "mark < 0x", "mark > 0x"},
	"cmp":       {"addr ", "dport ", "l4proto "},
	"connlimit": {"ct count over"},
	"counter":   {"counter "},
	"ct":        {"ct state", "ct status", "ct mark", "ct direction", "ct original"},
	"dup":       {"dup to"},
	"dynset":    {"update @", "add @"},
	"exthdr":    {"tcp option", "exthdr "},
	"fib":       {"fib "},
	"hash":      {"jhash ", "symhash "},
	"immediate": {"drop ", "accept ", "jump ", "goto "},
	"limit":     {"limit rate"},
	"log":       {"log "},
	"lookup":    {"vmap ", " map ", "{ ", " @"},
	"masq":      {"masquerade"},
	"meta":      {"meta ", "iifname", "oifname", "iifgroup"},
	"nat":       {"dnat ", "snat "},
	"notrack":   {"notrack"},
	"numgen":    {"numgen random", "numgen inc"},
	"objref":    {"counter name", "limit name", "quota name"},
	"payload":   {"@th,", "dport ", "addr ", "dscp "},
	"quota":     {"quota "},
	"range":     {"!= 10.244.1.11-", "!= fd00:10:244:1::11-", "!= 1-1023", "!= 20001-20010"},
	"redir":     {"redirect"},
	"reject":    {"reject"},
	"rt":        {"rt ", "rtclassid"},
	"tproxy":    {"tproxy "},
}

// notHere are constructs that the oracle cannot make decisive, and why.
var notHere = map[string]string{
	"match ah": "no AH packets are sent", "match esp": "no ESP packets are sent", "match ipcomp": "no IPComp packets are sent",
	"match dccp": "no DCCP packets are sent", "match udplite": "no UDP-Lite packets are sent", "match mh": "no mobility headers are sent",
	"match dst": "no extension headers are sent", "match hbh": "no extension headers are sent", "match rt": "no extension headers are sent",
	"match frag": "no fragments are sent", "match srh": "no extension headers are sent", "match eui64": "no interface has such an address",
	"match cgroup": "no cgroup is made", "match ipvs": "the kernel lacks IPVS", "match nfacct": "accounting objects are made by another tool",
	"match osf": "needs fingerprints", "match physdev": "no bridge is made", "match rateest": "needs an estimator that has run for seconds",
	"match ipv6header": "tells extension headers, of which none are sent",
	"target CLUSTERIP": "gone from the kernel", "target ULOG": "gone from the kernel", "target LED": "the kernel lacks it",
	"target SECMARK": "needs a security module", "target CONNSECMARK": "needs a security module", "target RATEEST": "see the match",
	"target SYNPROXY": "answers the client itself", "target NFQUEUE": "hands the packet to a program", "target TPROXY": "needs a socket",
	"match socket":     "needs a socket",
	"nft flow_offload": "the kernel lacks it", "nft fwd": "netdev chains: see the general cases", "nft inner": "no tunnels are made",
	"nft last": "the tool cannot write it", "nft osf": "needs fingerprints", "nft queue": "the kernel lacks it", "nft secmark": "needs a security module",
	"nft socket": "needs a socket", "nft synproxy": "answers the client itself", "nft tproxy": "needs a socket", "nft tunnel": "no tunnels are made",
	"nft dup":  "its copy is not followed, the packet goes on as it is",
	"nft xfrm": "no IPsec state is made", "nft exthdr": "no TCP options are sent",
}
