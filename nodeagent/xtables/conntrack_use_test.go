//go:build linux

package xtables_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Each rule alone in a namespace: does the kernel track connections there?
var trackingRules = []string{
	"filter -A INPUT -j ACCEPT",
	"filter -A INPUT -m conntrack --ctstate NEW",
	"filter -A INPUT -m state --state NEW",
	"filter -A INPUT -m connmark --mark 1",
	"filter -A INPUT -m connlabel --label 1",
	"filter -A INPUT -m connbytes --connbytes 1 --connbytes-dir both --connbytes-mode bytes",
	"filter -A INPUT -p tcp -m connlimit --connlimit-above 1",
	"filter -A INPUT -m helper --helper ftp",
	"filter -A INPUT -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 1",
	"filter -A INPUT -m statistic --mode random --probability 0.5",
	"filter -A INPUT -m recent --set --name x",
	"filter -A INPUT -m hashlimit --hashlimit-upto 1/sec --hashlimit-name x",
	"filter -A INPUT -m limit --limit 1/sec",
	"filter -A INPUT -m addrtype --dst-type LOCAL",
	"filter -A INPUT -m quota --quota 1",
	"filter -A OUTPUT -m owner --uid-owner 0",
	"filter -A INPUT -p tcp -m osf --genre Linux",
	"filter -A INPUT -m policy --dir in --pol none",
	"filter -A INPUT -j REJECT",
	"filter -A INPUT -j LOG",
	"filter -A INPUT -j NFLOG",
	"filter -A INPUT -j NFQUEUE",
	"filter -A INPUT -p tcp -j SYNPROXY",
	"mangle -A PREROUTING -p tcp -m socket",
	"mangle -A PREROUTING -p tcp -j TPROXY --on-port 1 --on-ip 127.0.0.1",
	"mangle -A PREROUTING -j MARK --set-mark 1",
	"mangle -A PREROUTING -j CONNMARK --set-mark 1",
	"mangle -A PREROUTING -j CONNSECMARK --save",
	"mangle -A PREROUTING -j HMARK --hmark-tuple ct --hmark-mod 2 --hmark-rnd 1",
	"mangle -A PREROUTING -j TEE --gateway 10.0.0.1",
	"raw -A PREROUTING -j TRACE",
	"mangle -A POSTROUTING -j CLASSIFY --set-class 1:1",
	"raw -A PREROUTING -j CT --notrack",
	"raw -A PREROUTING -j CT --zone 5",
	"raw -A PREROUTING -m rpfilter",
	"nat -A PREROUTING -j ACCEPT",
	"nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:80",
	"nat -A POSTROUTING -j SNAT --to-source 10.0.0.1",
	"nat -A POSTROUTING -o eth0 -j MASQUERADE",
	"nat -A PREROUTING -p tcp -j REDIRECT --to-ports 80",
	"nat -A PREROUTING -j NETMAP --to 10.0.0.0/24",
}

func TestUsesConntrackIsWhatTheKernelDoes(t *testing.T) {
	tracked := 0
	for _, line := range trackingRules {
		t.Run(line, func(t *testing.T) {
			l := xtlab.New(t)
			table, spec, _ := strings.Cut(line, " ")
			l.Restore(skb.IPv4, table, spec)
			packets[skb.IPv4][4].send(t)
			b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
			if err != nil {
				t.Fatal(err)
			}
			kernel := len(b) > 0
			if kernel {
				tracked++
			}
			if got := l.Table(skb.IPv4, table).UsesConntrack(); got != kernel {
				t.Errorf("engine %v, kernel %v", got, kernel)
			}
		})
	}
	if tracked < 10 || tracked == len(trackingRules) {
		t.Errorf("the kernel tracked for %d of %d rules: the test sees nothing", tracked, len(trackingRules))
	}
}
