//go:build linux

package xt_test

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/xt/xtlab"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/xtables"
)

// corpusRule is a line of testdata/*.rules: "ipv4 nat PREROUTING -p tcp …".
type corpusRule struct {
	family       skb.Family
	table, chain string
	spec, where  string
}

func corpus(t *testing.T) []corpusRule {
	t.Helper()
	files, err := filepath.Glob("testdata/*.rules")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	var out []corpusRule
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			parts := strings.SplitN(line, " ", 4)
			if len(parts) != 4 {
				t.Fatalf("%s: %q", name, line)
			}
			for _, fam := range []skb.Family{skb.IPv4, skb.IPv6} {
				if parts[0] == "both" || parts[0] == fam.String() {
					out = append(out, corpusRule{fam, parts[1], parts[2], parts[3], name})
				}
			}
		}
		f.Close()
	}
	return out
}

// loadCorpus loads the corpus into the namespace's legacy tables and returns the tables' names by family.
func loadCorpus(t *testing.T, l *xtlab.Lab, rules []corpusRule) map[skb.Family][]string {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(readFile(t, "testdata/ipsets")), "\n") {
		l.Input(line+"\n", "ipset", "restore")
	}
	for _, line := range strings.Split(strings.TrimSpace(readFile(t, "testdata/nfacct")), "\n") {
		xtlab.AddAccount(t, line, 0)
	}
	out := map[skb.Family][]string{}
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		for _, table := range []string{"raw", "mangle", "nat", "filter", "security"} {
			lines := []string{":KUBE-SVC-1 - [0:0]", ":KUBE-SEP-1 - [0:0]"}
			for _, r := range rules {
				if r.family == f && r.table == table {
					lines = append(lines, "-A "+r.chain+" "+r.spec)
				}
			}
			in := "*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
			if msg, err := l.Try(in, xtlab.Tool(f, "legacy", "restore")); err != nil {
				t.Errorf("loading the corpus as a whole: %s", msg)
				for _, line := range lines[2:] {
					in := "*" + table + "\n" + lines[0] + "\n" + lines[1] + "\n" + line + "\nCOMMIT\n"
					if msg, err := l.Try(in, xtlab.Tool(f, "legacy", "restore")); err != nil {
						t.Errorf("%s %s %s: %v\n%s", f, table, line, err, msg)
					}
				}
				t.FailNow()
			}
			out[f] = append(out[f], table)
		}
	}
	return out
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// env answers from the kernel what package xt reads; nothing else may be asked.
type env struct {
	*xt.Reader
	unread
}

type unread interface {
	node.Links
	node.Router
	node.AddrTyper
	node.Sockets
	node.Sysctls
}

func TestRulesPrintAsIptablesSaveDoes(t *testing.T) {
	l := xtlab.New(t)
	tables := loadCorpus(t, l, corpus(t))
	reader := xt.New(nil)
	defer reader.Close()
	e := &xtables.Evaluator{Env: env{Reader: reader}}
	for f, names := range tables {
		for _, name := range names {
			table := l.Table(f, name)
			want := l.Saved(f, name)
			rules := xtlab.Rules(t, table)
			if len(rules) != len(want) {
				t.Errorf("%s %s: %d rules read, %d saved", f, name, len(rules), len(want))
				continue
			}
			for i, r := range rules {
				// iptables 1.8.9 puts two spaces behind this one option.
				want := strings.ReplaceAll(want[i], "--nfacct-name  ", "--nfacct-name ")
				if got := e.RuleText(context.Background(), table, r); got != want {
					t.Errorf("%s %s\n got %s\nwant %s", f, name, got, want)
				}
			}
		}
	}
}
