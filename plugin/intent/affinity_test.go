package intent

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestNamesOfAffinityListsAreKubeProxys(t *testing.T) {
	for name, tt := range map[string]struct {
		port        Port
		ns, service string
		endpoint    string
		recent, set string
	}{
		"iptables":           {Port{Name: "p80", Protocol: "tcp"}, "ns1", "svc1", "10.180.0.1:80", "KUBE-SEP-SXIVWICOYRO3J4NJ", ""},
		"nftables":           {Port{Name: "p80", Protocol: "tcp"}, "ns5", "svc5", "10.180.0.3:80", "", "affinity-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80"},
		"a long name is cut": {Port{Name: strings.Repeat("p", 250), Protocol: "tcp"}, "ns5", "svc5", "10.180.0.3:80", "", "..."},
	} {
		tt.port.Endpoints = []Endpoint{{Address: netip.MustParseAddrPort(tt.endpoint)}}
		m := &Model{Namespace: tt.ns, Name: tt.service, Ports: []Port{tt.port}, Affinity: time.Hour}
		got := m.AffinityLists()
		if len(got) != 1 || tt.recent != "" && got[0].Recent != tt.recent || !strings.HasSuffix(got[0].Set, tt.set) || len(got[0].Set) > longestName {
			t.Errorf("%s: %+v", name, got)
		}
		m.Affinity = 0
		if got := m.AffinityLists(); got != nil {
			t.Errorf("without affinity: %+v", got)
		}
	}
}
