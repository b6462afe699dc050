package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsAreCompleted(t *testing.T) {
	for name, tc := range map[string]struct {
		give Options
		want Options
	}{
		"nothing": {Options{Name: "a"}, Options{Name: "a", Nodes: 2, Proxy: []ProxyMode{NFTables, NFTables}, Family: IPv4}},
		"one mode for all": {
			Options{Name: "a", Nodes: 3, Proxy: []ProxyMode{IPTables}, Family: Dual},
			Options{Name: "a", Nodes: 3, Proxy: []ProxyMode{IPTables, IPTables, IPTables}, Family: Dual},
		},
		"a mode each": {
			Options{Name: "a", Proxy: []ProxyMode{IPTablesLegacy, NFTables}, Family: IPv6},
			Options{Name: "a", Nodes: 2, Proxy: []ProxyMode{IPTablesLegacy, NFTables}, Family: IPv6},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.give.complete()
			if err != nil {
				t.Fatal(err)
			}
			got.Progress = nil
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"no name":          {},
		"name with slash":  {Name: "a/b"},
		"name with dots":   {Name: ".."},
		"long name":        {Name: strings.Repeat("a", 33)},
		"too many nodes":   {Name: "a", Nodes: MaxNodes + 1},
		"negative nodes":   {Name: "a", Nodes: -1},
		"unknown family":   {Name: "a", Family: "ipx"},
		"unknown mode":     {Name: "a", Proxy: []ProxyMode{"ipvs"}},
		"modes not nodes":  {Name: "a", Nodes: 3, Proxy: []ProxyMode{NFTables, NFTables}},
		"two modes in one": {Name: "a", Proxy: []ProxyMode{"nftables,iptables"}},
	} {
		if _, err := o.complete(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	t.Setenv("TMPDIR", "/"+strings.Repeat("long/", 20))
	if _, err := (Options{Name: "a"}).complete(); err == nil {
		t.Error("a directory too long for sockets: accepted")
	}
}

func TestParseProxyModes(t *testing.T) {
	got, err := ParseProxyModes("nftables,iptables-legacy,iptables")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]ProxyMode{NFTables, IPTablesLegacy, IPTables}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"", "ipvs", "nftables,", "NFTABLES"} {
		if _, err := ParseProxyModes(bad); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func TestNodeConfigurationHoldsEveryFamily(t *testing.T) {
	for _, tc := range []struct {
		family Family
		want   []string
	}{
		{IPv4, []string{`"ranges": [[{"subnet": "10.244.2.0/24"}]]`, `"routes": [{"dst": "0.0.0.0/0"}]`}},
		{IPv6, []string{`"ranges": [[{"subnet": "fd00:244:2::/64"}]]`, `"routes": [{"dst": "::/0"}]`}},
		{Dual, []string{`[[{"subnet": "10.244.2.0/24"}], [{"subnet": "fd00:244:2::/64"}]]`, `[{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]`}},
	} {
		o, err := (Options{Name: "a", Family: tc.family}).complete()
		if err != nil {
			t.Fatal(err)
		}
		got, err := newNodeFiles(stateOf("a"), o, 2).render("cni.conflist")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(string(got), want) {
				t.Errorf("%s: no %s in:\n%s", tc.family, want, got)
			}
		}
	}
}
