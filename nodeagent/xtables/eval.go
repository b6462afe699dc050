package xtables

import (
	"context"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Env is what extensions ask of the node's network namespace. An Env that is also an Accounts is asked about nfacct
// objects.
type Env interface {
	node.Links
	node.Router
	node.AddrTyper
	node.Recents
	node.IPSets
	node.Sockets
	node.Sysctls
}

// Accounts tells the state of nfacct objects (NFNL_SUBSYS_ACCT).
type Accounts interface {
	// Account returns an object, or node.ErrNotFound.
	Account(ctx context.Context, name string) (Account, error)
}

// Account is an nfacct object.
type Account struct {
	// HasQuota is true when the object has a quota; OverQuota when it has reached it.
	HasQuota, OverQuota bool
}

// Evaluator evaluates extensions and rules against packets. It keeps nothing between evaluations.
type Evaluator struct {
	Env Env
}

// call is one evaluation of an extension.
type call struct {
	ctx    context.Context
	env    Env
	name   string
	rev    uint8
	info   []byte
	family skb.Family
	p      *skb.Packet
	ch     *rule.Chooser
	// says explains the answer where the rule's text alone does not.
	says string
	// hotdrop: the packet is malformed for this match; the kernel drops it at once.
	hotdrop bool
}

func (c *call) decide(t tri, condition string) bool { return decide(c.ch, t, condition) }

func (c *call) depends(format string, args ...any) bool {
	return c.ch.Depends(fmt.Sprintf(format, args...))
}

// transport returns bytes of the transport header.
func (c *call) transport(off, n int) (value, known []byte) {
	value, known, _ = c.p.Transport(off, n)
	return value, known
}

// network returns bytes from the network header on.
func (c *call) network(off, n int) (value, known []byte) {
	value, known, _ = c.p.Network(off, n)
	return value, known
}

// where names the place of something that is not modelled.
func (c *call) where() string { return fmt.Sprintf("%s %s", c.family, c.p.Hook) }

// hotdropAction says what a match did that has a packet dropped at once.
const hotdropAction = "drop, which a match of the rule asks for"

// EvalMatch tells whether the match holds for the packet. What decides beyond the state becomes a choice; an extension
// that is not modelled becomes a choice that says so. It may change the packet where the kernel's match does. drop is true
// where the kernel's match has the packet dropped at once (hotdrop), whatever the rule's target is.
func (e *Evaluator) EvalMatch(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (ok, drop bool, err error) {
	ok, c, err := e.evalMatch(ctx, name, rev, info, f, p, ch)
	return ok, c.hotdrop, err
}

// ExplainMatch is EvalMatch that also says why, where the match's text alone does not tell.
func (e *Evaluator) ExplainMatch(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (ok bool, says string, err error) {
	ok, c, err := e.evalMatch(ctx, name, rev, info, f, p, ch)
	return ok, c.says, err
}

func (e *Evaluator) evalMatch(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (bool, *call, error) {
	c := &call{ctx: ctx, env: e.Env, name: name, rev: rev, info: info, family: f, p: p, ch: ch}
	x, ok := findMatch(name, rev, f, info)
	if !ok || x.revision.match == nil {
		return ch.Unknown(fmt.Sprintf("%s match revision %d", name, rev), c.where()), c, nil
	}
	ok, err := x.revision.match(c)
	if err != nil {
		return false, c, fmt.Errorf("evaluating match %s: %w", name, err)
	}
	return ok, c, nil
}

// EvalTarget applies the target to the packet. Targets that let the packet go on to the next rule return Continue with
// Matched set.
func (e *Evaluator) EvalTarget(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (rule.Result, error) {
	c := &call{ctx: ctx, env: e.Env, name: name, rev: rev, info: info, family: f, p: p, ch: ch}
	x, ok := findTarget(name, rev, f, info)
	if !ok || x.revision.target == nil {
		return unknownTarget(c, fmt.Sprintf("%s target revision %d", name, rev)), nil
	}
	r, err := x.revision.target(c)
	if err != nil {
		return rule.Result{}, fmt.Errorf("evaluating target %s: %w", name, err)
	}
	r.Matched = true
	return r, nil
}

// unknownTarget forks: the target lets the packet go on unchanged, or does something with it that nobody can tell.
func unknownTarget(c *call, what string) rule.Result {
	if c.ch.Unknown(what, c.where()) {
		return rule.Result{Code: rule.Stolen, Matched: true, Action: "not modelled: " + c.name}
	}
	return rule.Result{Code: rule.Continue, Matched: true}
}

// LegacyResult is the result of a rule of a legacy table.
type LegacyResult struct {
	rule.Result
	// Target is the offset of the first rule of the chain that a Jump or Goto goes to.
	Target uint32
}

// EvalRule evaluates one rule. A rule that can change nothing, neither the packet's path nor what later rules see, is
// not evaluated further than it forks: it then counts as not matched.
func (e *Evaluator) EvalRule(ctx context.Context, t *Table, r Rule, p *skb.Packet, ch *rule.Chooser) (LegacyResult, error) {
	if r.raw == nil {
		return LegacyResult{}, fmt.Errorf("table %s: a rule that was not decoded", t.Name)
	}
	if p.Family != t.Family {
		return LegacyResult{}, fmt.Errorf("table %s: a packet of %s in a table of %s", t.Name, p.Family, t.Family)
	}
	if !r.mayMatch(t.l, p) {
		return LegacyResult{}, nil
	}
	if r.hasEffect(t.l) {
		return e.evalRule(ctx, t, r, p, ch)
	}
	// Nothing depends on this rule: look whether it matches for certain, on a throw-away chooser.
	branches, err := rule.Enumerate(inertForks, func(ch *rule.Chooser) (LegacyResult, error) { return e.evalRule(ctx, t, r, p, ch) })
	if err != nil || len(branches) != 1 {
		return LegacyResult{}, ctx.Err()
	}
	return branches[0].Value, nil
}

// inertForks bounds the branches of a rule whose outcome does not matter.
const inertForks = 64

// hasEffect reports whether the rule can change the packet, its path, or what later rules see.
func (r Rule) hasEffect(l *layout) bool {
	name, rev, info := r.targetHeader()
	if v, ok := r.verdict(); ok {
		if v < 0 || uint32(v) != r.Next {
			return true
		}
	} else if TargetHasEffect(name, rev, info) {
		return true
	}
	pure := true
	r.matches(l, func(name string, rev uint8, info []byte) bool {
		pure = MatchPure(name, rev, info)
		return pure
	})
	return !pure
}

func (e *Evaluator) evalRule(ctx context.Context, t *Table, r Rule, p *skb.Packet, ch *rule.Chooser) (LegacyResult, error) {
	if !r.headerMatches(t.l, p, ch) {
		return LegacyResult{}, nil
	}
	matched, hotdrop, says := true, false, ""
	var err error
	whole := r.matches(t.l, func(name string, rev uint8, info []byte) bool {
		var c *call
		matched, c, err = e.evalMatch(ctx, name, rev, info, t.Family, p, ch)
		if err == nil && c.says != "" && matched {
			if says != "" {
				says += "; "
			}
			says += c.says
		}
		hotdrop = hotdrop || c.hotdrop
		return matched && err == nil
	})
	switch {
	case err != nil:
		return LegacyResult{}, err
	case !whole:
		return LegacyResult{}, fmt.Errorf("table %s: the matches of the rule at offset %d are damaged", t.Name, r.Offset)
	case hotdrop:
		return LegacyResult{Result: rule.Result{Code: rule.Drop, Matched: true, Action: hotdropAction}}, nil
	case !matched:
		return LegacyResult{}, nil
	}
	res, err := e.applyTarget(ctx, t, r, p, ch)
	res.Matched, res.Says = true, says
	return res, err
}

func (e *Evaluator) applyTarget(ctx context.Context, t *Table, r Rule, p *skb.Packet, ch *rule.Chooser) (LegacyResult, error) {
	v, ok := r.verdict()
	if !ok {
		name, rev, info := r.targetHeader()
		if name == "ERROR" {
			return LegacyResult{}, fmt.Errorf("table %s: the walk ran into the head of a chain at offset %d", t.Name, r.Offset)
		}
		res, err := e.EvalTarget(ctx, name, rev, info, t.Family, p, ch)
		return LegacyResult{Result: res}, err
	}
	result := func(c rule.Code, action string) (LegacyResult, error) {
		return LegacyResult{Result: rule.Result{Code: c, Action: action}}, nil
	}
	switch v {
	case verdictAccept:
		return result(rule.Accept, "accept")
	case verdictDrop:
		return result(rule.Drop, "drop")
	case verdictQueue:
		return result(rule.Queue, "queue")
	case verdictReturn:
		return result(rule.Return, "return")
	}
	if v < 0 {
		return LegacyResult{}, fmt.Errorf("table %s: verdict %d in the rule at offset %d", t.Name, v, r.Offset)
	}
	if uint32(v) == r.Next {
		return result(rule.Continue, "") // a rule without target
	}
	name, found := t.ChainName(uint32(v))
	if !found {
		return LegacyResult{}, fmt.Errorf("table %s: the rule at offset %d jumps to %d, where no chain starts", t.Name, r.Offset, v)
	}
	res := LegacyResult{Result: rule.Result{Code: rule.Jump, Chain: name, Action: "jump " + name}, Target: uint32(v)}
	if r.raw[t.l.flags]&t.l.gotoFlag != 0 {
		res.Code, res.Action = rule.Goto, "goto "+name
	}
	return res, nil
}
