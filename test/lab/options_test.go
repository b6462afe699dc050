package lab

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsAreCompleted(t *testing.T) {
	for name, tc := range map[string]struct {
		give Options
		want Options
	}{
		"nothing": {Options{Name: "a"}, Options{
			Name: "a", Nodes: 2, Proxy: []ProxyMode{NFTables, NFTables}, Family: IPv4, Network: Bridge, Between: HostGateway,
		}},
		"one mode for all": {
			Options{Name: "a", Nodes: 3, Proxy: []ProxyMode{IPTables}, Family: Dual},
			Options{Name: "a", Nodes: 3, Proxy: []ProxyMode{IPTables, IPTables, IPTables}, Family: Dual, Network: Bridge, Between: HostGateway},
		},
		"a mode each": {
			Options{Name: "a", Proxy: []ProxyMode{IPTablesLegacy, NFTables}, Family: IPv6, Network: Routed, Between: VXLAN, PodMTU: 1500},
			Options{
				Name: "a", Nodes: 2, Proxy: []ProxyMode{IPTablesLegacy, NFTables}, Family: IPv6, Network: Routed, Between: VXLAN, PodMTU: 1500,
			},
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
		"unknown network":  {Name: "a", Network: "host"},
		"unknown between":  {Name: "a", Between: "ipip"},
		"MTU under IPv6's": {Name: "a", PodMTU: 1279},
		"MTU over switch":  {Name: "a", PodMTU: 1501},
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

func TestPodsMTUFitsTheWayBetweenNodes(t *testing.T) {
	for name, tc := range map[string]struct {
		give Options
		want string
	}{
		"host gateway":             {Options{Family: Dual}, ""},
		"VXLAN over IPv4":          {Options{Between: VXLAN}, `"mtu": 1450`},
		"VXLAN over IPv6":          {Options{Between: VXLAN, Family: IPv6}, `"mtu": 1430`},
		"VXLAN over both":          {Options{Between: VXLAN, Family: Dual}, `"mtu": 1430`},
		"routed pods, VXLAN":       {Options{Network: Routed, Between: VXLAN}, `"mtu": 1450`},
		"too large for the tunnel": {Options{Between: VXLAN, PodMTU: 1500}, ""},
		"smaller than need be":     {Options{PodMTU: 1400}, `"mtu": 1400`},
	} {
		tc.give.Name = "a"
		o, err := tc.give.complete()
		if err != nil {
			t.Fatal(err)
		}
		got, err := newNodeFiles(stateOf("a"), o, 1).render("cni.conflist")
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(got) {
			t.Errorf("%s: not JSON:\n%s", name, got)
		}
		if has := strings.Contains(string(got), `"mtu"`); has != (tc.want != "") || !strings.Contains(string(got), tc.want) {
			t.Errorf("%s: want %q in:\n%s", name, tc.want, got)
		}
		if plugin := `"type": "` + string(o.Network) + `"`; !strings.Contains(string(got), plugin) {
			t.Errorf("%s: no %s in:\n%s", name, plugin, got)
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
