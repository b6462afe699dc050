package nftables

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// interval are the start and end of an interval.
func interval(from, to []byte) [][]byte {
	return [][]byte{dataAttr(attrElementKey, from...), join(dataAttr(attrElementKey, to...), attrU32(attrElementFlags, elementIntervalEnd))}
}

func TestLookup(t *testing.T) {
	portMap := setMessage("ports", SetMap, idPort, 2, verdictType, 8)
	tests := []struct {
		name     string
		set      []byte
		elements [][]byte
		exprs    []Expr
		want     []way
		gets     int
		dumps    int
	}{
		{
			name: "a known key costs one lookup", set: portMap,
			elements: [][]byte{verdictElement(be16(53), nfDrop, ""), verdictElement(be16(54), nfAccept, "")},
			exprs:    []Expr{dport(), &Lookup{Set: "ports", Source: reg1, HasDest: true}},
			want:     []way{{Result: "match drop", P: "1"}}, gets: 1,
		},
		{
			name: "a miss asks for the catch-all element too", set: portMap,
			elements: [][]byte{verdictElement(be16(54), nfDrop, "")},
			exprs:    []Expr{dport(), &Lookup{Set: "ports", Source: reg1, HasDest: true}},
			want:     []way{{Result: "no match", P: "1"}}, gets: 2,
		},
		{
			name: "the catch-all element", set: portMap,
			elements: [][]byte{join(attrU32(attrElementFlags, elementCatchAll), nest(attrElementData, nest(attrDataVerdict, attrU32(attrVerdictCode, 1))))},
			exprs:    []Expr{dport(), &Lookup{Set: "ports", Source: reg1, HasDest: true}},
			want:     []way{{Result: "match accept", P: "1"}}, gets: 2,
		},
		{
			name: "a set that is known to be empty is read once for all keys", set: join(portMap, attrU32(attrSetCount, 0)),
			exprs: []Expr{dport(), &Lookup{Set: "ports", Source: reg1, HasDest: true}},
			want:  []way{{Result: "no match", P: "1"}}, dumps: 1,
		},
		{
			name: "catch-all elements are not counted", set: join(portMap, attrU32(attrSetCount, 0)),
			elements: [][]byte{join(attrU32(attrElementFlags, elementCatchAll), nest(attrElementData, nest(attrDataVerdict, attrU32(attrVerdictCode, 1))))},
			exprs:    []Expr{dport(), &Lookup{Set: "ports", Source: reg1, HasDest: true}},
			want:     []way{{Result: "match accept", P: "1"}}, dumps: 1,
		},
		{
			name: "an unknown key forks over what it may find", set: portMap,
			elements: [][]byte{verdictElement(be16(1), verdictGoto, "a"), verdictElement(be16(2), verdictGoto, "b"), verdictElement(be16(3), verdictGoto, "a")},
			exprs:    []Expr{sport(), &Lookup{Set: "ports", Source: reg1, HasDest: true}},
			want: []way{
				{"match goto a", "1", []string{"udp sport is one of 1, 3"}},
				{"match goto b", "1", []string{"not: udp sport is one of 1, 3", "udp sport is 2"}},
				{"no match", "1", []string{"not: udp sport is one of 1, 3", "not: udp sport is 2"}},
			}, dumps: 1,
		},
		{
			name: "an expired element is not found", set: setMessage("s", SetTimeout, idPort, 2, 0, 0),
			elements: [][]byte{join(dataAttr(attrElementKey, be16(53)...), attrU64(attrElementTimeout, 1000), attrU64(attrElementExpiration, 0))},
			exprs:    []Expr{dport(), &Lookup{Set: "s", Source: reg1}, drop()},
			want:     []way{{Result: "no match", P: "1"}}, gets: 2,
		},
		{
			name: "inside an interval", set: setMessage("s", SetInterval, idPort, 2, 0, 0),
			elements: append(interval(be16(50), be16(60)), interval(be16(80), be16(90))...),
			exprs:    []Expr{dport(), &Lookup{Set: "s", Source: reg1}, drop()},
			want:     []way{{Result: "match drop", P: "1"}}, dumps: 1,
		},
		{
			name: "the end of an interval is outside", set: setMessage("s", SetInterval, idPort, 2, 0, 0),
			elements: interval(be16(50), be16(53)),
			exprs:    []Expr{dport(), &Lookup{Set: "s", Source: reg1}, drop()},
			want:     []way{{Result: "no match", P: "1"}}, dumps: 1,
		},
		{
			name: "an interval without end", set: setMessage("s", SetInterval, idPort, 2, 0, 0),
			elements: [][]byte{dataAttr(attrElementKey, be16(50)...)},
			exprs:    []Expr{sport(), &Lookup{Set: "s", Source: reg1, Inverted: true}, drop()},
			want:     []way{{"no match", "1", []string{"udp sport is 50-65535"}}, {"match drop", "1", []string{"not: udp sport is 50-65535"}}}, dumps: 1,
		},
		{
			name: "an interval of every key needs no fork", set: setMessage("s", SetInterval, idPort, 2, 0, 0),
			elements: [][]byte{dataAttr(attrElementKey, 0, 0)},
			exprs:    []Expr{sport(), &Lookup{Set: "s", Source: reg1}, drop()},
			want:     []way{{Result: "match drop", P: "1"}}, dumps: 1,
		},
		{
			name: "a limit in the element that is exceeded breaks the rule", set: setMessage("s", SetDynamic, idPort, 2, 0, 0),
			elements: [][]byte{join(dataAttr(attrElementKey, be16(53)...), nest(attrElementExpr, attrString(attrExprName, "limit"), nest(attrExprData, attrU64(1, 5), attrU64(2, 1))))},
			exprs:    []Expr{dport(), &Lookup{Set: "s", Source: reg1}, drop()},
			want:     []way{{"match drop", "1", []string{"rate limit 5/second not exceeded"}}, {"no match", "1", []string{"not: rate limit 5/second not exceeded"}}}, gets: 1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := DecodeSet(tt.set)
			if err != nil {
				t.Fatal(err)
			}
			env := &fakeEnv{sets: map[string][]byte{set.Name: tt.set}, elements: map[string][][]byte{set.Name: tt.elements}}
			e := &Evaluator{Env: env}
			if d := cmp.Diff(tt.want, run(t, e, newRule(tt.exprs...), udpPacket(t))); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if env.gets != tt.gets || env.dumps != tt.dumps {
				t.Errorf("%d lookups and %d dumps, want %d and %d", env.gets, env.dumps, tt.gets, tt.dumps)
			}
		})
	}
}

func TestManyCandidatesAreOneUnknown(t *testing.T) {
	env := &fakeEnv{sets: map[string][]byte{"m": setMessage("m", SetMap, idPort, 2, verdictType, 8)}, elements: map[string][][]byte{}}
	for i := range uint16(200) {
		env.elements["m"] = append(env.elements["m"], verdictElement(be16(i), verdictGoto, fmt.Sprint("chain", i)))
	}
	got := run(t, &Evaluator{Env: env}, newRule(sport(), &Lookup{Set: "m", Source: reg1, HasDest: true}), udpPacket(t))
	if len(got) != 2 || !strings.Contains(got[0].Assumption[0], "which of 200 elements") {
		t.Errorf("got %v", got)
	}
}

func TestDynsetNeedsRoom(t *testing.T) {
	withSize := func(n, count uint32) []byte {
		return join(setMessage("s", SetDynamic, idPort, 2, 0, 0), nest(attrSetDesc, attrU32(attrDescSize, n)), attrU32(attrSetCount, count))
	}
	rule := newRule(dport(), &Dynset{Set: "s", Key: reg1}, drop())
	for _, tt := range []struct {
		name     string
		set      []byte
		elements [][]byte
		want     string
	}{
		{"room", withSize(2, 1), nil, "match drop"},
		{"full", withSize(2, 2), nil, "no match"},
		{"full, but it is in", withSize(1, 1), [][]byte{dataAttr(attrElementKey, be16(53)...)}, "match drop"},
	} {
		env := &fakeEnv{sets: map[string][]byte{"s": tt.set}, elements: map[string][][]byte{"s": tt.elements}}
		if got := run(t, &Evaluator{Env: env}, rule, udpPacket(t)); len(got) != 1 || got[0].Result != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}
