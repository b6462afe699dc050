package diagnose

import (
	"slices"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

func TestFolding(t *testing.T) {
	path := func(c intent.ClientKind) Place {
		return Place{Path: intent.AccessPath{Kind: intent.ClusterIP, Port: 80}, Client: c}
	}
	pod, node, flow := path(intent.FromPod), path(intent.FromNode), path("")
	rule := func(chain string) draft { return draft{kind: ForeignDrop, subject: chain} }
	dropped := draft{kind: DroppedThoughEndpoints}
	tests := map[string]struct {
		add  func(l *ledger)
		want []string // what stays at the top
	}{
		"one cause": {func(l *ledger) {
			l.add("n1", rule("PREROUTING"), pod)
			l.add("n1", dropped, pod)
		}, []string{"foreign-drop"}},
		"a cause on another node that the client passes": {func(l *ledger) {
			l.addSeen("n2", "n1", rule("FORWARD"), pod)
			l.add("n1", dropped, pod)
		}, []string{"foreign-drop"}},
		"a cause that clients of another node meet": {func(l *ledger) {
			l.add("n2", rule("FORWARD"), pod)
			l.add("n1", dropped, pod)
		}, []string{"foreign-drop", "dropped-though-endpoints"}},
		"two causes that explain a finding together": {func(l *ledger) {
			l.add("n1", rule("PREROUTING"), pod)
			l.add("n1", rule("OUTPUT"), node)
			l.add("n1", dropped, pod)
			l.add("n1", dropped, node)
		}, []string{"foreign-drop", "foreign-drop"}},
		"a part that is not explained": {func(l *ledger) {
			l.add("n1", rule("PREROUTING"), pod)
			l.add("n1", dropped, pod)
			l.add("n1", dropped, node)
		}, []string{"foreign-drop", "dropped-though-endpoints"}},
		"a cause about something else": {func(l *ledger) {
			l.add("n1", draft{kind: EndpointNotInAPI, subject: "10.0.0.1:80", about: []string{"10.0.0.1:80"}}, pod)
			l.add("n1", draft{kind: TargetPortNotListening, subject: "10.0.0.2:80"}, pod)
		}, []string{"endpoint-not-in-api", "target-port-not-listening"}},
		"a cause in the API holds everywhere": {func(l *ledger) {
			l.add("", draft{kind: OverlappingRanges})
			l.add("n1", draft{kind: StoppedAfterTranslation, subject: "10.0.0.2:80"}, pod)
		}, []string{"overlapping-ranges"}},
		"a flow, whose client is not known": {func(l *ledger) {
			l.add("n1", draft{kind: NoTranslation}, pod)
			l.add("n1", draft{kind: FlowUntranslated, subject: "10.96.0.1:80"}, flow)
		}, []string{"no-translation"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var l ledger
			tt.add(&l)
			var got []string
			for _, f := range fold(l.sorted()) {
				got = append(got, f.ID)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestWhatIsWorseElsewhereLeads(t *testing.T) {
	var l ledger
	l.add("n1", draft{kind: KubeProxyDown, severity: Warning, sentence: "right as yet"})
	l.add("n2", draft{kind: KubeProxyDown, sentence: "wrong"})
	l.add("n3", draft{kind: KubeProxyDown, severity: Warning, sentence: "right as yet"})
	f := l.sorted()[0]
	if f.Severity != Error || f.Sentence != "wrong" || len(f.Nodes) != 3 {
		t.Errorf("%+v", f)
	}
}
