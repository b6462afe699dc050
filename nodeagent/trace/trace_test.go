package trace

import (
	"encoding/json"
	"net/netip"
	"testing"
)

func TestJSONIsAsDocumented(t *testing.T) {
	tr := New(Packet{Protocol: "tcp", Source: netip.MustParseAddrPort("10.244.1.10:40000"), Destination: netip.MustParseAddrPort("[fd00::1]:80"), In: "veth1", Mark: 0x4000})
	n := uint64(3)
	tr.Hops = append(tr.Hops, Hop{Node: "node1", Namespace: "host", Hook: "prerouting", Table: "ip kube-proxy", Chain: "services",
		Rule: &Rule{Handle: 12, Text: "x", Packets: &n, Bytes: &n}, Action: "goto y"})
	tr.Outcomes = append(tr.Outcomes, Outcome{Verdict: Forwarded, Probability: NewProbability(2, 4),
		Destination: netip.MustParseAddrPort("10.244.2.15:8080"), Source: netip.MustParseAddrPort("10.244.1.10:0"), Conditions: []string{}, Path: []int{0}})
	got, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"svctrace.dev/v1alpha1","kind":"Trace",` +
		`"packet":{"protocol":"tcp","source":"10.244.1.10:40000","destination":"[fd00::1]:80","in":"veth1","mark":"0x4000"},` +
		`"hops":[{"node":"node1","namespace":"host","hook":"prerouting","table":"ip kube-proxy","chain":"services","rule":{"handle":12,"text":"x","packets":3,"bytes":3},"action":"goto y"}],` +
		`"outcomes":[{"verdict":"forwarded","probability":"1/2","destination":"10.244.2.15:8080","source":"10.244.1.10:0","masqueraded":false,"conditions":[],"path":[0]}],` +
		`"reads":{"messages":0,"bytes":0}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var back Trace
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(&back); string(again) != want {
		t.Errorf("after reading it back:\n%s", again)
	}
}

func TestProbabilityRefusesWhatIsNone(t *testing.T) {
	for _, bad := range []string{`"3/2"`, `"-1/2"`, `"x"`, `0.5`} {
		if err := json.Unmarshal([]byte(bad), new(Probability)); err == nil {
			t.Errorf("%s was taken for a probability", bad)
		}
	}
}

func TestParseMark(t *testing.T) {
	for in, want := range map[string]Mark{"0x4000": 0x4000, "16384": 0x4000, "0": 0, "0xffffffff": 0xffffffff} {
		if got, err := ParseMark(in); err != nil || got != want {
			t.Errorf("ParseMark(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	if _, err := ParseMark("0x100000000"); err == nil {
		t.Error("a mark of 33 bits was taken")
	}
}
