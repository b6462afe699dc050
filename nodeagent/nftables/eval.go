package nftables

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nat"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Env is what the evaluation of rules asks of a network namespace.
type Env interface {
	nat.Env
	node.NFTables
	node.AddrTyper
	node.Sockets
}

// Compat evaluates the iptables extensions that iptables-nft puts into rules (net/netfilter/nft_compat.c). info is the
// extension's structure as the kernel stores it.
type Compat interface {
	// Match tells whether the match holds; drop is true where it has the packet dropped at once (hotdrop).
	Match(ctx context.Context, name string, rev uint8, info []byte, family skb.Family, p *skb.Packet, ch *rule.Chooser) (ok, drop bool, err error)
	// MatchPure tells whether the match changes nothing: neither the packet, its path, nor what later rules see.
	MatchPure(name string, rev uint8, info []byte) bool
	Target(ctx context.Context, name string, rev uint8, info []byte, family skb.Family, p *skb.Packet, ch *rule.Chooser) (rule.Result, error)
	// MatchText and TargetText print the extension as iptables-save does, without "-m name" and "-j name" respectively
	// included: "-m tcp --dport 80", "-j DNAT --to-destination 10.0.0.1:80".
	MatchText(name string, rev uint8, info []byte, family skb.Family) string
	TargetText(name string, rev uint8, info []byte, family skb.Family) string
	// MatchUsesConntrack and TargetUsesConntrack tell whether the extension turns connection tracking on in the namespace.
	MatchUsesConntrack(name string, rev uint8, info []byte) bool
	TargetUsesConntrack(name string, rev uint8, info []byte) bool
}

// Evaluator evaluates the rules of one network namespace. It caches the sets and objects it reads for its lifetime. It is
// not safe for concurrent use.
type Evaluator struct {
	// Env answers questions about the namespace.
	Env Env
	// Compat evaluates iptables extensions; with nil they are unknown.
	Compat Compat
	// Now is the time that rules with a clock are evaluated at; nil: such rules fork on a condition.
	Now func() time.Time

	scratch state
	sets    map[setKey]*setState
	objects map[objectKey]*Object
	links   []node.Link
}

// state is one evaluation of one rule.
type state struct {
	ctx  context.Context
	e    *Evaluator
	r    *Rule
	p    *skb.Packet
	ch   *rule.Chooser
	regs registers

	at      int // index of the expression being evaluated
	last    int // index of the last expression with an effect on the packet, -1 for none
	stopped bool
	res     rule.Result
	actions []string
	says    []string
}

// Eval runs a rule on p, which it changes as the kernel would. It forks only through ch.
//
// The kernel's register file outlives a rule, but rules that read a register which they did not write themselves are
// refused (nft_reg_track, nft_validate_register_load), so each rule starts with a fresh one here.
func (e *Evaluator) Eval(ctx context.Context, r *Rule, p *skb.Packet, ch *rule.Chooser) (rule.Result, error) {
	st := &e.scratch
	st.ctx, st.e, st.r, st.p, st.ch = ctx, e, r, p, ch
	st.last = e.lastEffect(r)
	st.at, st.stopped, st.res, st.actions, st.says = 0, false, rule.Result{}, nil, nil
	st.regs.known = [regBytes]byte{}
	st.regs.from = [regWords]source{}
	if p.Whole() {
		restore := p.StopAtAuth()
		defer restore()
	}
	for i, x := range r.Exprs {
		st.at = i
		cont, err := x.eval(st)
		if err != nil {
			return rule.Result{}, fmt.Errorf("evaluating rule %d of chain %s: %w", r.Handle, r.Chain, err)
		}
		if st.stopped {
			return rule.Result{}, nil
		}
		if !cont {
			break
		}
		if i == len(r.Exprs)-1 {
			st.res.Matched = true
		}
	}
	if len(r.Exprs) == 0 {
		st.res.Matched = true
	}
	if st.res.Code != rule.Continue {
		st.res.Matched = true
	}
	st.res.Action = strings.Join(st.actions, ", ")
	if st.res.Matched {
		st.res.Says = strings.Join(st.says, ", ")
	}
	return st.res, nil
}

// lastEffect is the index of a rule's last expression that can change the packet, its path, or what later rules see; -1 for none.
func (e *Evaluator) lastEffect(r *Rule) int {
	for i := len(r.Exprs) - 1; i > r.last && e.Compat != nil; i-- {
		if x, ok := r.Exprs[i].(*CompatMatch); ok && !e.Compat.MatchPure(x.Match, x.Revision, x.Info) {
			return i
		}
	}
	return r.last
}

// where names the rule for an unknown.
func (st *state) where() string {
	return fmt.Sprintf("%s %s %s rule %d", st.r.Family, st.r.Table, st.r.Chain, st.r.Handle)
}

// depends forks on a condition; it returns what is assumed. When nothing depends on the answer it ends the evaluation.
func (st *state) depends(condition string) bool {
	if st.quiet() {
		return false
	}
	return st.ch.Depends(condition)
}

// unknown forks on something that is not modelled.
func (st *state) unknown(what string) bool {
	if st.quiet() {
		return false
	}
	return st.ch.Unknown(what, st.where())
}

// quiet ends the evaluation when neither this expression nor a later one can change the packet: a fork would be of no use.
func (st *state) quiet() bool {
	if st.at <= st.last {
		return false
	}
	st.stopped = true
	return true
}

// decide returns a truth, asking about the condition when it is open.
func (st *state) decide(t truth, condition string) bool {
	switch t {
	case yes:
		return true
	case no:
		return false
	}
	return st.depends(condition)
}

func (st *state) act(format string, args ...any) {
	st.actions = append(st.actions, fmt.Sprintf(format, args...))
}

func (st *state) say(format string, args ...any) {
	st.says = append(st.says, fmt.Sprintf(format, args...))
}

// verdict ends the rule with v. It returns false, for eval to return.
func (st *state) verdict(v Verdict) bool {
	code, ok := v.code()
	if !ok {
		return st.unknown(v.String())
	}
	if v.Code == verdictContinue {
		return true
	}
	if v.Code == verdictBreak {
		return false
	}
	st.res.Code, st.res.Chain = code, v.Chain
	if code == rule.Queue {
		st.act("%s", queueText(uint32(v.Code)>>nfQueueAt, 1, v.Code&nfBypass != 0, false))
	} else {
		st.act("%s", v)
	}
	return false
}

// result takes over the result of a translation or an iptables target.
func (st *state) result(r rule.Result) bool {
	if r.Action != "" {
		st.actions = append(st.actions, r.Action)
	}
	if r.Says != "" {
		st.says = append(st.says, r.Says)
	}
	st.res.Code, st.res.Chain, st.res.With = r.Code, r.Chain, r.With
	return r.Code == rule.Continue
}

// nfproto is the packet's family in NFPROTO numbers.
func (st *state) nfproto() uint8 { return uint8(st.p.Family) }

// link returns an interface by name; ok is false when there is none.
func (st *state) link(name string) (node.Link, bool, error) {
	if st.e.links == nil {
		links, err := st.e.Env.Links(st.ctx)
		if err != nil {
			return node.Link{}, false, err
		}
		st.e.links = links
	}
	for _, l := range st.e.links {
		if l.Name == name {
			return l, true, nil
		}
	}
	return node.Link{}, false, nil
}

// linkName names the interface with the index that v holds.
func (st *state) linkName(v value) (string, error) {
	if !v.all() || len(v.b) < 4 {
		return "?", nil
	}
	index := binary.NativeEndian.Uint32(v.b)
	if _, _, err := st.link(""); err != nil {
		return "", err
	}
	for _, l := range st.e.links {
		if uint32(l.Index) == index {
			return l.Name, nil
		}
	}
	return fmt.Sprint(index), nil
}
