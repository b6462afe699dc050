package xtables

import (
	"context"
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// MatchText returns a match as iptables-save prints it: "-m tcp --dport 80". An ipset is named by its kernel index,
// because the rule holds no more: see Evaluator.MatchText.
func MatchText(name string, rev uint8, info []byte, f skb.Family) string {
	w := &writer{}
	w.matchText(name, rev, info, f)
	return w.String()
}

// TargetText returns a target as iptables-save prints it: "-j DNAT --to-destination 10.0.0.1:80".
func TargetText(name string, rev uint8, info []byte, f skb.Family) string {
	w := &writer{}
	w.targetText(name, rev, info, f)
	return w.String()
}

// MatchText is the function MatchText with names of ipsets.
func (e *Evaluator) MatchText(ctx context.Context, name string, rev uint8, info []byte, f skb.Family) string {
	w := &writer{setName: e.setNames(ctx)}
	w.matchText(name, rev, info, f)
	return w.String()
}

// TargetText is the function TargetText with names of ipsets.
func (e *Evaluator) TargetText(ctx context.Context, name string, rev uint8, info []byte, f skb.Family) string {
	w := &writer{setName: e.setNames(ctx)}
	w.targetText(name, rev, info, f)
	return w.String()
}

// RuleText is Table.RuleText with names of ipsets.
func (e *Evaluator) RuleText(ctx context.Context, t *Table, r Rule) string {
	return t.ruleText(r, &writer{setName: e.setNames(ctx)})
}

func (e *Evaluator) setNames(ctx context.Context) func(uint16) string {
	return func(index uint16) string {
		if e.Env != nil {
			if name, err := e.Env.IPSetName(ctx, index); err == nil {
				return name
			}
		}
		return ""
	}
}

// RuleText returns the rule as iptables-save prints it, without counters: "-A KUBE-SERVICES -d 10.96.0.25/32 …". A
// built-in chain's policy is ":FORWARD ACCEPT". The rule's chain is looked for when it does not say it.
func (t *Table) RuleText(r Rule) string { return t.ruleText(r, &writer{}) }

func (t *Table) ruleText(r Rule, w *writer) string {
	if r.raw == nil {
		return ""
	}
	if r.Chain == "" {
		if located, err := t.Locate(r.Offset); err == nil {
			r.Chain = located.Chain
		}
	}
	if v, ok := r.verdict(); ok && r.Policy {
		return fmt.Sprintf(":%s %s", r.Chain, verdictText(v))
	}
	w.word("-A", r.Chain)
	r.headerText(w, t.l)
	r.matches(t.l, func(name string, rev uint8, info []byte) bool {
		w.matchText(name, rev, info, t.Family)
		return true
	})
	v, ok := r.verdict()
	if !ok {
		name, rev, info := r.targetHeader()
		w.targetText(name, rev, info, t.Family)
		return w.String()
	}
	if v < 0 {
		w.word("-j", verdictText(v))
	} else if uint32(v) != r.Next {
		name, _ := t.ChainName(uint32(v))
		if r.raw[t.l.flags]&t.l.gotoFlag != 0 {
			w.word("-g", name)
		} else {
			w.word("-j", name)
		}
	}
	return w.String()
}

func verdictText(v int32) string {
	switch v {
	case verdictAccept:
		return "ACCEPT"
	case verdictDrop:
		return "DROP"
	case verdictQueue:
		return "QUEUE"
	case verdictReturn:
		return "RETURN"
	}
	return fmt.Sprintf("verdict %d", v)
}

func (w *writer) matchText(name string, rev uint8, info []byte, f skb.Family) {
	w.family, w.rev = f, rev
	x, ok := findMatch(name, rev, f, info)
	if ok && aliasState(name, rev, info) {
		name = "state"
	}
	w.word("-m", name)
	if !ok {
		w.wordf("[revision %d not known]", rev)
	} else if x.revision.text != nil {
		x.revision.text(w, info)
	}
}

func (w *writer) targetText(name string, rev uint8, info []byte, f skb.Family) {
	w.family, w.rev = f, rev
	x, ok := findTarget(name, rev, f, info)
	if ok && aliasNotrack(name, rev, info) {
		name = "NOTRACK"
	}
	w.word("-j", name)
	if !ok {
		w.wordf("[revision %d not known]", rev)
	} else if x.revision.text != nil {
		x.revision.text(w, info)
	}
}
