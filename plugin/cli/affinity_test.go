package cli

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/render"
)

// TestWhatTheNodesRememberIsShown shows flows with their age and zone, and the clients that session affinity keeps.
func TestWhatTheNodesRememberIsShown(t *testing.T) {
	s := newShop()
	web := webService()
	web.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	web.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](600)}}
	if err := s.Client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("services"), web, "shop"); err != nil {
		t.Fatal(err)
	}
	ap := netip.MustParseAddrPort
	s.Agents["node1"].Affinity = []wire.AffinityEntry{
		{Client: netip.MustParseAddr("10.244.1.20"), Endpoint: ap("10.244.2.15:8080"), LeftSeconds: 533, Where: "set affinity-x"},
		{Client: netip.MustParseAddr("10.244.1.21"), Endpoint: ap("10.244.9.9:8080"), LeftSeconds: 1, Where: "set affinity-y"},
	}
	flow := wire.Flow{Protocol: "tcp", Source: ap("10.244.1.20:4000"), Destination: ap("10.96.0.25:80"), ReplySource: ap("10.244.2.15:8080"), ReplyDestination: ap("10.244.1.20:4000"),
		State: "ESTABLISHED", TimeoutSeconds: 100, AgeSeconds: ptr.To[int64](7), Zone: 3}
	older, alone := flow, flow
	older.AgeSeconds, older.Source = ptr.To[int64](7300), ap("10.244.1.20:4001")
	older.ReplyDestination = older.Source
	alone.AgeSeconds, alone.Zone, alone.Unreplied, alone.State = nil, 0, true, "SYN_SENT"
	s.Agents["node1"].Flows = []wire.Flow{flow, older, alone}
	for _, format := range []render.Format{render.Human, render.JSON} {
		o, out, _ := s.options(t)
		o.nodes, o.to = []string{"node1"}, []string{"clusterip"}
		_ = o.run(t.Context(), func(a *render.Answer) error { return render.Write(out, a, format, false) })
		if format == render.Human {
			flat := strings.Join(strings.Fields(out.String()), " ")
			for _, want := range []string{"AFFINITY CLIENT STAYS WITH LEFT NODE 10.244.1.20 10.244.2.15:8080 8m53s node1 10.244.1.21 10.244.9.9:8080 1s node1",
				"PATH TO STATE FLOWS NAT AGE EXPIRES", "ESTABLISHED zone 3 2 dnat 7s-2h 1m", "SYN_SENT [UNREPLIED] 1 dnat ? 1m"} {
				if !strings.Contains(flat, want) {
					t.Errorf("without %q:\n%s", want, out)
				}
			}
			continue
		}
		var a render.ServiceTrace
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		if len(a.Affinity) != 2 || !a.Affinity[0].Current || a.Affinity[1].Current || a.Affinity[0].LeftSeconds != 533 || a.Affinity[0].Node != "node1" {
			t.Errorf("%+v", a.Affinity)
		}
		i := slices.IndexFunc(a.FlowGroups, func(g render.FlowGroup) bool { return g.Zone == 3 })
		if i < 0 || a.FlowGroups[i].Count != 2 || *a.FlowGroups[i].YoungestSeconds != 7 || *a.FlowGroups[i].OldestSeconds != 7300 || slices.ContainsFunc(a.FlowGroups, func(g render.FlowGroup) bool { return g.Zone == 0 && g.OldestSeconds != nil }) {
			t.Errorf("%+v", a.FlowGroups)
		}
	}
}
