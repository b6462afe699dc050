//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// backend is what kube-proxy writes its rules with, by the name that kubeproxy-state gives it.
type backend string

const (
	nftables       backend = "nftables"
	iptablesNFT    backend = "iptables-nft"
	iptablesLegacy backend = "iptables-legacy"
)

// endpoints is how many endpoints each Service has.
const endpoints = 10

// state is what stands in the kernel during a measurement.
type state struct {
	backend  backend
	services int
}

// dump is the program that prints everything.
func (s state) dump() []string {
	switch s.backend {
	case iptablesNFT:
		return []string{"iptables-nft-save"}
	case iptablesLegacy:
		return []string{"iptables-legacy-save"}
	}
	return []string{"nft", "list", "ruleset"}
}

// make writes the state into the thread's namespace.
func (s state) make(ctx context.Context, p *programs) error {
	cmd := exec.CommandContext(ctx, p.maker, "--here", "--backend", string(s.backend), "--services", strconv.Itoa(s.services),
		"--endpoints", strconv.Itoa(endpoints))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making the state: %w\n%s", err, out)
	}
	return nil
}

// clusterIP is the address of generated Service n.
func clusterIP(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)}) }

// target returns the address of the Service that costs most to reach: in iptables mode the last in KUBE-SERVICES, which
// has them in no particular order, as dumped to a file; in nftables mode the one made last, because the kernel looks
// anonymous maps up by name in a list.
func (s state) target(dumped string) (netip.AddrPort, error) {
	last := clusterIP(s.services)
	if s.backend == nftables {
		return netip.AddrPortFrom(last, 80), nil
	}
	f, err := os.Open(dumped)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer f.Close()
	found := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || words[0] != "-A" || words[1] != "KUBE-SERVICES" || words[2] != "-d" || !strings.HasSuffix(words[3], "/32") {
			continue
		}
		if last, err = netip.ParseAddr(strings.TrimSuffix(words[3], "/32")); err != nil {
			return netip.AddrPort{}, err
		}
		found = true
	}
	if !found {
		return netip.AddrPort{}, fmt.Errorf("%s has no Service in KUBE-SERVICES", dumped)
	}
	return netip.AddrPortFrom(last, 80), nil
}

// path lists the chains that a trace has passed, as arguments of the floor.
func path(t *trace.Trace) []string {
	type key struct{ table, chain string }
	var seen []key
	add := func(table, chain string) {
		if k := (key{table, chain}); chain != "" && !slices.Contains(seen, k) {
			seen = append(seen, k)
		}
	}
	for _, h := range t.Hops {
		if h.Chain == "" {
			continue
		}
		add(h.Table, h.Chain)
		for action := range strings.SplitSeq(h.Action, ", ") {
			verb, target, _ := strings.Cut(action, " ")
			if verb == "jump" || verb == "goto" {
				add(h.Table, target)
			}
		}
	}
	var out []string
	for _, k := range seen {
		if table, ok := strings.CutPrefix(k.table, "ip "); ok {
			out = append(out, "2", table, k.chain) // NFPROTO_IPV4
		}
	}
	return out
}
