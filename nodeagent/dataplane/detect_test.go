package dataplane_test

import (
	"context"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/dataplane"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live"
)

// detect loads rules with the real tools into a network namespace of its own and detects. The thread is not given back.
func detect(t *testing.T, commands ...string) string {
	t.Helper()
	done := make(chan string)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("making a network namespace (needs root): %v", err)
			return
		}
		for _, c := range commands {
			if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", c, err, out)
				return
			}
		}
		ns, err := live.Open()
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		found, err := dataplane.Detect(context.Background(), ns)
		if err != nil {
			t.Error(err)
			return
		}
		var words []string
		for _, d := range found {
			w := d.Family + " " + d.Mode
			if !d.Active {
				w += " (leftover)"
			}
			words = append(words, w)
		}
		done <- strings.Join(words, ", ")
	}()
	return <-done
}

func TestDetect(t *testing.T) {
	nft := "nft 'table ip kube-proxy { chain services {}\n chain nat-prerouting { type nat hook prerouting priority -100; jump services; }; }'"
	rules := func(tool string) []string {
		return []string{tool + " -t nat -N KUBE-SERVICES", tool + " -t nat -A PREROUTING -j KUBE-SERVICES"}
	}
	join := func(lists ...[]string) (out []string) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	for name, c := range map[string]struct {
		commands []string
		want     string
	}{
		"nothing":           {nil, ""},
		"other rules":       {[]string{"iptables-nft -A INPUT -j ACCEPT", "iptables-legacy -A INPUT -j ACCEPT"}, ""},
		"nftables":          {[]string{nft}, "ipv4 nftables"},
		"iptables (nft)":    {rules("iptables-nft"), "ipv4 iptables (nft)"},
		"iptables (legacy)": {rules("iptables-legacy"), "ipv4 iptables (legacy)"},
		"IPv6":              {rules("ip6tables-legacy"), "ipv6 iptables (legacy)"},
		"both backends":     {join(rules("iptables-nft"), rules("iptables-legacy")), "ipv4 iptables (nft), ipv4 iptables (legacy)"},
		"a leftover":        {[]string{"iptables-legacy -t nat -N KUBE-SERVICES", nft}, "ipv4 nftables, ipv4 iptables (legacy) (leftover)"},
		"a leftover in nft": {[]string{"iptables-nft -t nat -N KUBE-SERVICES"}, "ipv4 iptables (nft) (leftover)"},
		"only from OUTPUT":  {[]string{"iptables-nft -t nat -N KUBE-SERVICES", "iptables-nft -t nat -A OUTPUT -j KUBE-SERVICES"}, "ipv4 iptables (nft)"},
	} {
		if got := detect(t, c.commands...); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
