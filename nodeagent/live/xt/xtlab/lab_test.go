//go:build linux

package xtlab

import (
	"os"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// namespace is the network namespace that the calling thread is in.
func namespace(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestLabIsANamespaceOfTheTestAlone(t *testing.T) {
	machine, err := os.Readlink("/proc/self/ns/net") // the main thread's
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for range 2 {
		t.Run("", func(t *testing.T) {
			l := New(t)
			own := namespace(t)
			if own == machine || len(seen) > 0 && own == seen[0] {
				t.Errorf("namespace %s is not the test's own", own)
			}
			seen = append(seen, own)
			if inside := strings.TrimSpace(l.Run("readlink", "/proc/self/ns/net")); inside != own {
				t.Errorf("commands run in %s, the test in %s", inside, own)
			}
			if links := l.Run("ip", "-brief", "link"); strings.Count(links, "\n") != 1 || !strings.Contains(links, "LOOPBACK,UP") {
				t.Errorf("want loopback, up, and nothing else:\n%s", links)
			}
		})
	}
}

func TestRulesComeBackAsLoaded(t *testing.T) {
	for f, host := range map[skb.Family]string{skb.IPv4: "192.0.2.1/32", skb.IPv6: "2001:db8::1/128"} {
		t.Run(f.String(), func(t *testing.T) {
			l := New(t)
			l.Restore(f, "filter", ":ONE - [0:0]", "-A ONE -s "+host+" -j DROP", "-A INPUT -j ONE")
			l.Restore(f, "filter", "-A ONE -j RETURN") // does not flush
			saved := l.Saved(f, "filter")
			want := []string{"-A INPUT -j ONE", "-A ONE -s " + host + " -j DROP", "-A ONE -j RETURN"}
			if strings.Join(saved, "\n") != strings.Join(want, "\n") {
				t.Errorf("saved\n%s", strings.Join(saved, "\n"))
			}
			if rules := Rules(t, l.Table(f, "filter")); len(rules) != len(want) {
				t.Errorf("%d rules, want %d: policies and chain ends are left out", len(rules), len(want))
			}
		})
	}
}

func TestTryTellsWhatTheCommandSaid(t *testing.T) {
	l := New(t)
	if out, err := l.Try("a line", "sh", "-c", "cat; echo complaint >&2; exit 3"); err == nil || out != "a linecomplaint\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := l.Try("", "sh", "-c", "echo answer; echo complaint >&2"); err != nil || out != "answer\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestToolNames(t *testing.T) {
	for want, got := range map[string]string{
		"iptables-legacy":       Tool(skb.IPv4, "legacy", ""),
		"ip6tables-nft":         Tool(skb.IPv6, "nft", ""),
		"ip6tables-legacy-save": Tool(skb.IPv6, "legacy", "save"),
		"iptables-nft-restore":  Tool(skb.IPv4, "nft", "restore"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAccountIsThereForRules(t *testing.T) {
	l := New(t)
	rule := []string{"-A", "INPUT", "-m", "nfacct", "--nfacct-name", "one"}
	if out, err := l.Try("", Tool(skb.IPv4, "legacy", ""), rule...); err == nil {
		t.Fatalf("a rule may name an object that is not there: %s", out)
	}
	AddAccount(t, "one", 0)
	l.Run(Tool(skb.IPv4, "legacy", ""), rule...)
}
