package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigurationIsChecked(t *testing.T) {
	c, _, err := readConfiguration(strings.NewReader(`{"cniVersion": "1.0.0", "mtu": 1450, "ipam": {"type": "host-local"}}`))
	if err != nil || c.MTU != 1450 || c.IPAM.Type != "host-local" || c.CNIVersion != "1.0.0" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"", "{}", `{"ipam": {"type": "../sh"}}`, `{"mtu": "large", "ipam": {"type": "host-local"}}`} {
		if _, _, err := readConfiguration(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}

func TestNameOfTheNodesEnd(t *testing.T) {
	first, second := pod{container: "a", name: "eth0"}, pod{container: "b", name: "eth0"}
	if n := first.hostEnd(); len(n) != 15 || !strings.HasPrefix(n, "cali") || n == second.hostEnd() { // IFNAMSIZ is 16
		t.Errorf("names %s, %s", n, second.hostEnd())
	}
}

func TestResultIsWhatTheSpecificationHas(t *testing.T) {
	addr := netip.MustParseAddr("10.244.1.2")
	b, err := json.Marshal(result{
		CNIVersion: "1.0.0",
		Interfaces: []iface{{Name: "cali1", MAC: "ee:ee:ee:ee:ee:ee"}, {Name: "eth0", MAC: "02:00:00:00:00:01", Sandbox: "/run/netns/a"}},
		IPs:        []ipResult{{Address: alone(addr), Gateway: gateway(addr), Interface: 1}},
		Routes:     []routeInfo{{Destination: everything(addr), Gateway: gateway(addr)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cniVersion":"1.0.0","interfaces":[{"name":"cali1","mac":"ee:ee:ee:ee:ee:ee"},` +
		`{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/run/netns/a"}],` +
		`"ips":[{"address":"10.244.1.2/32","gateway":"169.254.1.1","interface":1}],` +
		`"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
	six := netip.MustParseAddr("fd00:244:1::2")
	if diff := cmp.Diff([]string{"fd00:244:1::2/128", "::/0", "fe80::ecee:eeff:feee:eeee"},
		[]string{alone(six).String(), everything(six).String(), gateway(six).String()}); diff != "" {
		t.Error(diff)
	}
}
