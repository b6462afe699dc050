//go:build linux

package nft_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/nftables"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// extensions connects the extensions of iptables, as the walker does.
type extensions struct{ x *xtables.Evaluator }

func (e extensions) Match(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (ok, drop bool, err error) {
	return e.x.EvalMatch(ctx, name, rev, info, f, p, ch)
}

func (e extensions) Target(ctx context.Context, name string, rev uint8, info []byte, f skb.Family, p *skb.Packet, ch *rule.Chooser) (rule.Result, error) {
	return e.x.EvalTarget(ctx, name, rev, info, f, p, ch)
}

func (e extensions) MatchPure(name string, rev uint8, info []byte) bool {
	return xtables.MatchPure(name, rev, info)
}

func (e extensions) MatchText(name string, rev uint8, info []byte, f skb.Family) string {
	return xtables.MatchText(name, rev, info, f)
}

func (e extensions) TargetText(name string, rev uint8, info []byte, f skb.Family) string {
	return xtables.TargetText(name, rev, info, f)
}

func (e extensions) MatchUsesConntrack(name string, rev uint8, info []byte) bool {
	return xtables.MatchUsesConntrack(name, rev, info)
}

func (e extensions) TargetUsesConntrack(name string, rev uint8, info []byte) bool {
	return xtables.TargetUsesConntrack(name, rev, info)
}

// saved are rules as iptables-save prints them.
const saved = `*nat
:KUBE-SVC - [0:0]
:KUBE-MARK - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SVC
-A KUBE-SVC ! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m comment --comment "x:y cluster IP" -m tcp --dport 443 -j KUBE-MARK
-A KUBE-SVC -d 10.96.0.1/32 -p tcp -m comment --comment x -m tcp --dport 443 -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.0.0.1:80
-A KUBE-MARK -j MARK --set-xmark 0x4000/0x4000
-A POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:GG - [0:0]
-A INPUT -s 1.2.3.4/32 -f -j DROP
-A INPUT ! -f -j DROP
-A INPUT -p 99 -j DROP
-A INPUT ! -p tcp -j RETURN
-A INPUT -p icmp -m icmp --icmp-type 8 -g GG
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m mark --mark 0x10 -j DROP
-A INPUT -s 10.0.0.0/255.0.255.0 -j DROP
-A INPUT -s 10.0.0.0/8 -d 10.16.0.0/12 -j DROP
-A INPUT -m limit --limit 5/min -j LOG --log-prefix "x y"
-A INPUT -m limit --limit 10/sec --limit-burst 20 -j ACCEPT
-A INPUT -p tcp -j REJECT --reject-with tcp-reset
-A INPUT -m comment --comment hi
-A INPUT
-A INPUT -p tcp -m multiport --dports 1,2,3
-A INPUT -p udp -m udp --dport 53 -j ACCEPT
-A INPUT -p udp -m udp --sport 1:10 ! --dport 20:30 -j ACCEPT
-A INPUT -p tcp -m tcp ! --sport 5 --dport 80 -j ACCEPT
-A INPUT -p tcp -m comment --comment "behind" -m tcp --dport 80 -j ACCEPT
-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP
-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP
-A INPUT -j NFLOG --nflog-group 2
-A FORWARD -i eth0 ! -o cni+ -p udp -j ACCEPT
-A FORWARD ! -d 1.2.3.4/32 -i lo -j ACCEPT
COMMIT
`

const saved6 = `*filter
-A INPUT -s fd00::/8 -p tcp -m tcp --dport 80 -j DROP
-A INPUT -p ipv6-icmp -j ACCEPT
-A INPUT ! -d fd00::1/128 -i lo -j ACCEPT
-A INPUT -s fd00:1:2::/45 -j ACCEPT
COMMIT
`

// appended returns the -A lines by chain, in order. Quotes that a comment does not need differ between iptables versions.
func appended(text string) map[string][]string {
	out := map[string][]string{}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "*") {
			table = line[1:]
		}
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			chain, _, _ := strings.Cut(rest, " ")
			out[table+" "+chain] = append(out[table+" "+chain], line)
		}
	}
	return out
}

func TestIptablesTextIsWhatIptablesSavePrints(t *testing.T) {
	ctx := newNamespace(t)
	run(t, saved, "iptables-nft-restore")
	run(t, saved6, "ip6tables-nft-restore")
	e := newEnv(t)
	ev := &nftables.Evaluator{Env: e, Compat: extensions{&xtables.Evaluator{}}}
	got := map[string]map[string][]string{"ip": {}, "ip6": {}}
	for _, c := range chains(t, e) {
		for _, r := range rules(t, ctx, e, c.Family, c.Table, c.Name) {
			k := c.Table + " " + c.Name
			got[c.Family.String()][k] = append(got[c.Family.String()][k], ev.Text(ctx, r))
		}
	}
	if d := cmp.Diff(appended(run(t, "", "iptables-nft-save")), got["ip"]); d != "" {
		t.Errorf("(-iptables-nft-save +ours)\n%s", d)
	}
	if d := cmp.Diff(appended(run(t, "", "ip6tables-nft-save")), got["ip6"]); d != "" {
		t.Errorf("(-ip6tables-nft-save +ours)\n%s", d)
	}
}
