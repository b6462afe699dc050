package fib

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func by(dev, gateway string) []Hop {
	h := Hop{Dev: dev, Weight: 1}
	if gateway != "" {
		h.Gateway = addr(gateway)
	}
	return []Hop{h}
}

// host has two links, a default route, a blackhole and a prohibit, and a rule for one source.
func host() *State {
	ten := 10
	return &State{
		Interfaces: []Interface{
			{Name: "lo", Index: 1, Flags: 9, Addresses: []Address{{Prefix: prefix("127.0.0.1/8"), Scope: scopeHost}, {Prefix: prefix("::1/128")}}},
			{Name: "eth0", Index: 2, Flags: 1, Addresses: []Address{{Prefix: prefix("10.0.0.1/24")}, {Prefix: prefix("fd00::1/64")}}, IPv4: Conf4{Forwarding: true, RPFilter: 1}},
			{Name: "eth1", Index: 3, Flags: 1, Group: 7, Addresses: []Address{{Prefix: prefix("10.1.0.1/24")}, {Prefix: prefix("fd01::1/64")}}},
		},
		CustomRules4: true,
		Rules4: []Rule{
			{Action: ActionTable, Table: tableLocal},
			{Priority: 10, Action: ActionProhibit, Mark: 6, Mask: 0xff},
			{Priority: 20, Action: ActionTable, Table: 100, From: prefix("10.9.0.0/16")},
			{Priority: 0x7ffe, Action: ActionTable, Table: tableMain},
		},
		Rules6: []Rule{
			{Action: ActionTable, Table: tableLocal},
			{Priority: 20, Action: ActionTable, Table: 100, From: prefix("fd09::/16")},
			{Priority: 30, Action: ActionTable, Table: tableMain, SuppressPrefix: &ten},
			{Priority: 40, Action: ActionBlackhole, Mark: 5, Mask: 5},
		},
		Routes: []Route{
			{Table: tableLocal, Dst: prefix("10.0.0.1/32"), Type: node.RouteLocal, Scope: scopeHost, Protocol: protocolKernel, Hops: by("eth0", "")},
			{Table: tableLocal, Dst: prefix("10.0.0.255/32"), Type: node.RouteBroadcast, Scope: scopeLink, Protocol: protocolKernel, Hops: by("eth0", "")},
			{Table: tableLocal, Dst: prefix("127.0.0.0/8"), Type: node.RouteLocal, Scope: scopeHost, Protocol: protocolKernel, Hops: by("lo", "")},
			{Table: tableMain, Dst: prefix("10.0.0.0/24"), Type: node.RouteUnicast, Scope: scopeLink, PrefSrc: addr("10.0.0.1"), Hops: by("eth0", "")},
			{Table: tableMain, Dst: prefix("10.1.0.0/24"), Type: node.RouteUnicast, Scope: scopeLink, Hops: by("eth1", "")},
			{Table: tableMain, Dst: prefix("10.66.0.0/16"), Type: node.RouteBlackhole},
			{Table: tableMain, Dst: prefix("10.5.0.0/16"), Type: node.RouteUnicast, Hops: append(by("eth0", "10.0.0.9"), by("eth1", "10.1.0.9")...)},
			{Table: 100, Dst: prefix("0.0.0.0/0"), Type: node.RouteUnicast, Hops: by("eth1", "10.1.0.8")},
			{Table: tableMain, Dst: prefix("fd00::/64"), Type: node.RouteUnicast, Hops: by("eth0", "")},
			{Table: tableMain, Dst: prefix("::/0"), Type: node.RouteUnicast, Hops: by("eth0", "fd00::9")},
			{Table: tableMain, Dst: prefix("fd02::/64"), Type: node.RouteUnicast, Metric: 1, Hops: append(by("eth0", "fd00::8"), by("eth1", "fd01::8")...)},
			{Table: 100, Dst: prefix("::/0"), Type: node.RouteUnicast, Hops: by("eth1", "fd01::9")},
			{Table: 100, Dst: prefix("fd03::/64"), Type: node.RouteUnicast, Hops: by("lo", "")},
		},
	}
}

func TestRefusalsNameWhatDecides(t *testing.T) {
	for name, c := range map[string]struct {
		q    node.RouteQuery
		want string
	}{
		"rule":           {node.RouteQuery{Dst: addr("1.2.3.4"), Mark: 6}, "EACCES: policy rule 10: from all fwmark 0x6/0xff prohibit"},
		"route":          {node.RouteQuery{Dst: addr("10.66.1.1")}, "EINVAL: the route blackhole 10.66.0.0/16 of table main"},
		"no route":       {node.RouteQuery{Dst: addr("1.2.3.4")}, "ENETUNREACH: no table that the policy rules lead to has a route to 1.2.3.4"},
		"foreign source": {node.RouteQuery{Dst: addr("10.0.0.7"), Src: addr("10.9.0.1")}, "ENETUNREACH: the source 10.9.0.1 is not an address of this host"},
		"loopback out":   {node.RouteQuery{Dst: addr("10.0.0.7"), Src: addr("127.0.0.1")}, "EINVAL: the loopback address 127.0.0.1 may not leave by eth0: net.ipv4.conf.eth0.route_localnet is 0"},
		"rp_filter":      {node.RouteQuery{Dst: addr("10.1.0.5"), Src: addr("10.1.0.7"), In: "eth0"}, "EINVAL: net.ipv4.conf.eth0.rp_filter is 1: the way back to 10.1.0.7 is by eth1, not by eth0"},
		"no way back":    {node.RouteQuery{Dst: addr("10.1.0.5"), Src: addr("10.77.0.7"), In: "eth0"}, "EINVAL: net.ipv4.conf.eth0.rp_filter is 1: there is no way back to 10.77.0.7"},
		"own source":     {node.RouteQuery{Dst: addr("10.0.0.1"), Src: addr("10.0.0.1"), In: "eth0"}, "EINVAL: the source 10.0.0.1 is an address of this host, and net.ipv4.conf.eth0.accept_local is 0"},
		"broadcast from": {node.RouteQuery{Dst: addr("10.0.0.1"), Src: addr("10.0.0.255"), In: "eth0"}, "EINVAL: 10.0.0.255 cannot be a source: the route broadcast 10.0.0.255 of table local takes it"},
		"not forwarded":  {node.RouteQuery{Dst: addr("10.0.0.7"), Src: addr("10.1.0.7"), In: "eth1"}, "EHOSTUNREACH: net.ipv4.conf.eth1.forwarding is 0, and 10.0.0.7 is not an address of this host"},
		"loopback in":    {node.RouteQuery{Dst: addr("127.0.0.1"), Src: addr("10.0.0.7"), In: "eth0"}, "EINVAL: net.ipv4.conf.eth0.route_localnet is 0: the loopback address 127.0.0.1 may not arrive on eth0"},
		"no interface":   {node.RouteQuery{Dst: addr("10.0.0.7"), Src: addr("10.1.0.7"), In: "eth9"}, "ENODEV: there is no interface eth9"},
		"IPv6 rule":      {node.RouteQuery{Dst: addr("2001:db8::1"), Mark: 5}, "EINVAL: policy rule 40: from all fwmark 0x5/0x5 blackhole"},
	} {
		_, err := host().Route(context.Background(), c.q)
		var refused *node.RouteError
		if !errors.As(err, &refused) || err.Error() != "route lookup: "+c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestPortsOfArrivingPacketsAreReadForSomeRulesOnly is fib_rule_requires_fldissect: a rule for lo does not make the kernel
// look at ports, so it does not see them in the check of a source.
func TestPortsOfArrivingPacketsAreReadForSomeRulesOnly(t *testing.T) {
	q := node.RouteQuery{Dst: addr("10.0.0.1"), Src: addr("10.0.0.7"), In: "eth0", Proto: 17, SrcPort: 1000, DstPort: 53}
	s := host()
	s.Rules4 = append([]Rule{s.Rules4[0], {Priority: 1, Action: ActionProhibit, IIF: "lo", SrcPorts: Ports{First: 53, Last: 53}}}, s.Rules4[1:]...)
	if got, err := s.Route(context.Background(), q); err != nil || got.Type != node.RouteLocal {
		t.Errorf("a rule for lo: %+v, %v", got, err)
	}
	rules := s.Rules4
	s = host()
	s.Rules4 = append(rules, Rule{Priority: 0x7fff, Action: ActionTable, Table: 9, DstPorts: Ports{First: 9, Last: 9}})
	if got, err := s.Route(context.Background(), q); err == nil {
		t.Errorf("with a rule that makes the kernel look: %+v", got)
	}
}

func TestRouteLeavesTheHashOpen(t *testing.T) {
	s := host()
	got, err := s.Route(context.Background(), node.RouteQuery{Dst: addr("10.5.1.1"), All: true})
	if err != nil || got.Out != "" || len(got.OneOf) != 2 || len(got.Hops) != 2 || !got.Uses("eth0") || !got.Uses("eth1") || got.Uses("lo") {
		t.Errorf("without a source: %+v, %v", got, err)
	}
	// With a source, the next hop that has it wins.
	got, err = s.Route(context.Background(), node.RouteQuery{Dst: addr("10.5.1.1"), Src: addr("10.0.0.1")})
	if err != nil || got.Out != "eth0" || got.Gateway != addr("10.0.0.9") || got.OneOf != nil {
		t.Errorf("from 10.0.0.1: %+v, %v", got, err)
	}
}

func TestFIBLookupTakesForeignSources(t *testing.T) {
	for name, c := range map[string]struct {
		q    node.FIBQuery
		out  string
		want string // the error
	}{
		"by source":           {node.FIBQuery{Dst: addr("10.0.0.7"), Src: addr("10.9.1.1")}, "eth1", ""},
		"other source":        {node.FIBQuery{Dst: addr("10.0.0.7"), Src: addr("10.8.1.1")}, "eth0", ""},
		"local":               {node.FIBQuery{Dst: addr("10.0.0.1"), Src: addr("10.9.1.1")}, "eth0", ""},
		"by mark":             {node.FIBQuery{Dst: addr("10.0.0.7"), Src: addr("10.9.1.1"), Mark: 6}, "", "EACCES"},
		"IPv6 by source":      {node.FIBQuery{Dst: addr("fd00::7"), Src: addr("fd09::1")}, "eth1", ""},
		"IPv6 other source":   {node.FIBQuery{Dst: addr("fd00::7"), Src: addr("fd08::1")}, "eth0", ""},
		"IPv6 suppressed":     {node.FIBQuery{Dst: addr("2001:db8::1"), Src: addr("fd08::1")}, "", "ENETUNREACH"},
		"IPv6 to lo":          {node.FIBQuery{Dst: addr("fd03::1"), Src: addr("fd09::1")}, "", "EINVAL"},
		"IPv6 one of":         {node.FIBQuery{Dst: addr("fd02::1")}, "", ""},
		"IPv6 by interface":   {node.FIBQuery{Dst: addr("fd02::1"), Out: "eth1"}, "eth1", ""},
		"IPv6 not that way":   {node.FIBQuery{Dst: addr("fd02::1"), Out: "lo"}, "eth0", ""},
		"IPv6 strict refused": {node.FIBQuery{Dst: addr("fd02::1"), Out: "lo", Strict: true}, "", "ENETUNREACH"},
	} {
		got, err := host().FIBLookup(context.Background(), c.q)
		var refused *node.RouteError
		if c.want != "" {
			if !errors.As(err, &refused) || refused.Errno != c.want {
				t.Errorf("%s: %+v, %v, want %s", name, got, err, c.want)
			}
			continue
		}
		if err != nil || got.Out != c.out || c.out == "" && len(got.OneOf) != 2 {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, c.out)
		}
	}
}

func TestSourceRules(t *testing.T) {
	s := host()
	for _, six := range []bool{false, true} {
		if found, err := s.SourceRules(context.Background(), six); err != nil || !found {
			t.Errorf("IPv6 %v: %v, %v", six, found, err)
		}
	}
	s = &State{Rules4: []Rule{{Action: ActionTable, Table: tableMain, Mark: 1, Mask: 1}}, Rules6: []Rule{{Action: ActionTable, IIF: "lo"}}}
	four, _ := s.SourceRules(context.Background(), false)
	six, _ := s.SourceRules(context.Background(), true)
	if four || !six {
		t.Errorf("by mark: %v, by input interface: %v", four, six)
	}
}

func TestForwardsIPv6(t *testing.T) {
	for name, c := range map[string]struct {
		all  Conf6
		eth0 Conf6
		want string
	}{
		"on":       {Conf6{Forwarding: true}, Conf6{}, ""},
		"forced":   {Conf6{}, Conf6{ForceForwarding: true}, ""},
		"off":      {Conf6{}, Conf6{Forwarding: true}, "net.ipv6.conf.all.forwarding is 0"},
		"disabled": {Conf6{Forwarding: true}, Conf6{Disabled: true}, "net.ipv6.conf.eth0.disable_ipv6 is 1"},
	} {
		s := &State{All6: c.all, Interfaces: []Interface{{Name: "eth0", IPv6: c.eth0}}}
		if on, reason := s.ForwardsIPv6("eth0"); on != (c.want == "") || reason != c.want {
			t.Errorf("%s: %v, %q", name, on, reason)
		}
	}
}

func TestStateSurvivesJSON(t *testing.T) {
	want := host()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &State{}
	if err := json.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestDecodingRefusesWhatDoesNotHoldTogether(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"no JSON":          {`{`, "unexpected end"},
		"null":             {`[]`, "cannot unmarshal"},
		"two of a name":    {`{"interfaces":[{"name":"a"},{"name":"a"}]}`, `name "a"`},
		"unknown next hop": {`{"routes":[{"table":1,"dst":"10.0.0.0/8","type":1,"hops":[{"dev":"x"}]}]}`, "next hop"},
		"no next hop":      {`{"routes":[{"table":1,"dst":"10.0.0.0/8","type":1}]}`, "no next hop"},
		"wrong family":     {`{"interfaces":[{"name":"a"}],"routes":[{"table":1,"dst":"fd00::/8","type":1,"prefSrc":"10.0.0.1","hops":[{"dev":"a"}]}]}`, "has the source"},
		"backwards":        {`{"rules4":[{"priority":9,"action":2,"goto":9}]}`, "goes to 9"},
		"out of order":     {`{"rules4":[{"priority":9,"action":1},{"priority":8,"action":1}]}`, "behind"},
		"rule's family":    {`{"rules6":[{"priority":9,"action":1,"from":"10.0.0.0/8"}]}`, "is for"},
	} {
		if err := json.Unmarshal([]byte(c.in), &State{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// FuzzDecode holds that garbage is refused, and that whatever is not can be asked.
func FuzzDecode(f *testing.F) {
	b, err := json.Marshal(host())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"interfaces":[{"name":"lo"}],"routes":[{"table":254,"dst":"10.0.0.0/8","type":7}],"rules4":[{"priority":1,"action":2,"goto":3}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			s := &State{}
			if json.Unmarshal(b, s) != nil {
				return
			}
			ctx := context.Background()
			for _, a := range []string{"10.0.0.7", "224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "fd02::1", "ff02::1", "::"} {
				dst := addr(a)
				for _, dev := range []string{"", "eth0", "lo"} {
					_, _ = s.Route(ctx, node.RouteQuery{Dst: dst, In: dev, All: true})
					_, _ = s.Route(ctx, node.RouteQuery{Dst: dst, Out: dev, Src: unspecified(dst)})
					_, _ = s.FIBLookup(ctx, node.FIBQuery{Dst: dst, Out: dev})
					_, _ = s.AddrType(ctx, dst, dev)
				}
			}
			for i := range s.Rules4 {
				_ = s.Rules4[i].String()
			}
		})
	})
}
