package nftables

import (
	"bytes"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// CompatMatch is a match of iptables in a rule (net/netfilter/nft_compat.c).
type CompatMatch struct {
	Match    string
	Revision uint8
	// Info is the match's structure as the kernel stores it.
	Info []byte
}

// CompatTarget is a target of iptables in a rule.
type CompatTarget struct {
	Target   string
	Revision uint8
	Info     []byte
}

// maxCompatInfo bounds an extension's structure (the kernel's largest is a bpf match of some 512 instructions).
const maxCompatInfo = 64 << 10

func decodeCompat(b []byte) (name string, rev uint8, info []byte, err error) {
	t, err := attributes(b).find(3)
	if err != nil {
		return "", 0, nil, err
	}
	if !t.has(1) || len(t[3]) > maxCompatInfo {
		return "", 0, nil, ErrMalformed
	}
	return t.str(1), uint8(t.u32(2)), bytes.Clone(t[3]), nil
}

func decodeCompatMatch(b []byte, _ int) (Expr, error) {
	name, rev, info, err := decodeCompat(b)
	if err != nil {
		return nil, err
	}
	return &CompatMatch{name, rev, info}, nil
}

func decodeCompatTarget(b []byte, _ int) (Expr, error) {
	name, rev, info, err := decodeCompat(b)
	if err != nil {
		return nil, err
	}
	return &CompatTarget{name, rev, info}, nil
}

// Name returns match.
func (x *CompatMatch) Name() string { return "match" }

// Name returns target.
func (x *CompatTarget) Name() string { return "target" }

func (x *CompatMatch) effect() bool { return false }

func (x *CompatTarget) effect() bool {
	switch x.Target {
	case "LOG", "NFLOG", "TRACE":
		return false
	}
	return true
}

func (x *CompatMatch) eval(st *state) (bool, error) {
	if x.Match == "comment" {
		return true, nil
	}
	if st.e.Compat == nil {
		return st.unknown("iptables match " + x.Match), nil
	}
	drop := false
	match := func(ch *rule.Chooser) (ok bool, err error) {
		ok, drop, err = st.e.Compat.Match(st.ctx, x.Match, x.Revision, x.Info, st.p.Family, st.p, ch)
		return ok, err
	}
	if st.at <= st.last {
		ok, err := match(st.ch)
		return !st.hotdrop(drop) && ok, err
	}
	// Nothing depends on the answer: take it only when it needs no fork.
	branches, err := rule.Enumerate(1, match)
	if err != nil || branches[0].P.Num().Cmp(branches[0].P.Denom()) != 0 || len(branches[0].Assumptions) > 0 {
		if err == nil || err == rule.ErrTooManyBranches {
			st.stopped, err = true, nil
		}
		return false, err
	}
	return !st.hotdrop(drop) && branches[0].Value, nil
}

// hotdrop ends the rule where a match has the packet dropped at once (nft_match_eval).
func (st *state) hotdrop(drop bool) bool {
	if drop {
		st.res.Code = rule.Drop
		st.act("drop, which a match of the rule asks for")
	}
	return drop
}

func (x *CompatTarget) eval(st *state) (bool, error) {
	switch x.Target {
	case "LOG", "NFLOG":
		return true, nil
	}
	if st.e.Compat == nil {
		return st.unknown("iptables target " + x.Target), nil
	}
	r, err := st.e.Compat.Target(st.ctx, x.Target, x.Revision, x.Info, st.p.Family, st.p, st.ch)
	if err != nil {
		return false, err
	}
	return st.result(r), nil
}
