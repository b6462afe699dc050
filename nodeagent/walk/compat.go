package walk

import (
	"context"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// compat lets nftables rules use the extensions of iptables.
type compat struct{ xt *xtables.Evaluator }

func (c compat) Match(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (ok, drop bool, err error) {
	return c.xt.EvalMatch(ctx, name, rev, info, f, p, ch)
}

func (c compat) Target(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (rule.Result, error) {
	return c.xt.EvalTarget(ctx, name, rev, info, f, p, ch)
}

func (c compat) MatchPure(name string, rev uint8, info []byte) bool {
	return xtables.MatchPure(name, rev, info)
}

func (c compat) MatchText(name string, rev uint8, info []byte, f skb.Family) string {
	return c.xt.MatchText(context.Background(), name, rev, info, f)
}

func (c compat) TargetText(name string, rev uint8, info []byte, f skb.Family) string {
	return c.xt.TargetText(context.Background(), name, rev, info, f)
}

func (c compat) MatchUsesConntrack(name string, rev uint8, info []byte) bool {
	return xtables.MatchUsesConntrack(name, rev, info)
}

func (c compat) TargetUsesConntrack(name string, rev uint8, info []byte) bool {
	return xtables.TargetUsesConntrack(name, rev, info)
}

// Extensions lets nftables rules use iptables' extensions, as iptables-nft's rules do.
func Extensions(xt *xtables.Evaluator) nftables.Compat { return compat{xt} }
