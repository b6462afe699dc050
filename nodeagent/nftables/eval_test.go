package nftables

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

const reg1 = register(4)

func sport() Expr { return &Payload{Base: baseTransport, Offset: 0, Len: 2, Register: reg1} }

func dport() Expr { return &Payload{Base: baseTransport, Offset: 2, Len: 2, Register: reg1} }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func TestEvalForksOnlyWhereItMust(t *testing.T) {
	always := []way{{Result: "match drop", P: "1"}}
	never := []way{{Result: "no match", P: "1"}}
	fork := func(condition string) []way {
		return []way{{"match drop", "1", []string{condition}}, {"no match", "1", []string{"not: " + condition}}}
	}
	unless := func(condition string) []way {
		return []way{{"no match", "1", []string{condition}}, {"match drop", "1", []string{"not: " + condition}}}
	}
	tests := []struct {
		name  string
		exprs []Expr
		want  []way
	}{
		{"known bytes that are equal", []Expr{dport(), &Cmp{reg1, CmpEqual, be16(53)}, drop()}, always},
		{"known bytes that differ", []Expr{dport(), &Cmp{reg1, CmpEqual, be16(54)}, drop()}, never},
		{"unknown bytes", []Expr{sport(), &Cmp{reg1, CmpEqual, be16(1234)}, drop()}, fork("udp sport is 1234")},
		{
			"unknown bytes, inverted", []Expr{sport(), &Cmp{reg1, CmpNotEqual, be16(1234)}, drop()}, unless("udp sport is 1234"),
		},
		{"a range that holds every port", []Expr{sport(), &Cmp{reg1, CmpLessEqual, be16(65535)}, drop()}, always},
		{"a range that holds no port", []Expr{sport(), &Cmp{reg1, CmpGreater, be16(65535)}, drop()}, never},
		{"a range", []Expr{sport(), &Range{reg1, false, be16(1), be16(1023)}, drop()}, fork("udp sport is 1-1023")},
		{
			"known bits of a half known byte decide",
			[]Expr{&Payload{Base: baseNetwork, Offset: 6, Len: 2, Register: reg1}, &Bitwise{Source: reg1, Dest: reg1, Len: 2, Mask: []byte{0x1f, 0xff}, Xor: []byte{0, 0}}, &Cmp{reg1, CmpEqual, be16(0)}, drop()},
			always,
		},
		{
			"unknown bits of a half known byte",
			[]Expr{&Payload{Base: baseNetwork, Offset: 6, Len: 2, Register: reg1}, &Bitwise{Source: reg1, Dest: reg1, Len: 2, Mask: []byte{0x40, 0}, Xor: []byte{0, 0}}, &Cmp{reg1, CmpEqual, be16(0)}, drop()},
			fork("ip frag-off & 16384 is 0"),
		},
		{"no effect behind the condition: no fork", []Expr{sport(), &Cmp{reg1, CmpEqual, be16(1234)}, &Counter{}, &Log{}}, never},
		{"no effect behind a known condition", []Expr{dport(), &Cmp{reg1, CmpEqual, be16(53)}, &Counter{}}, []way{{Result: "match ", P: "1"}}},
		{"a limit without effect", []Expr{&Limit{Rate: 1, Unit: 1}, &Counter{}}, never},
		{"a limit", []Expr{&Limit{Rate: 10, Unit: 1}, drop()}, fork("rate limit 10/second not exceeded")},
		{
			"over a limit", []Expr{&Limit{Rate: 10, Unit: 60, Inverted: true}, drop()}, unless("rate limit 10/minute not exceeded"),
		},
		{"an effect before a condition is taken", []Expr{&Immediate{Register: reg1, Data: host32(0x10)}, &Meta{Key: metaMark, Register: reg1, Set: true}, sport(), &Cmp{reg1, CmpEqual, be16(1)}, &Counter{}}, []way{{Result: "no match", P: "1"}}},
		{"unused quota", []Expr{&Quota{Bytes: 1 << 30, Consumed: 1}, drop()}, always},
		{"used up quota", []Expr{&Quota{Bytes: 10, Consumed: 10}, drop()}, never},
		{"quota that is nearly used up", []Expr{&Quota{Bytes: 1000, Consumed: 990}, drop()}, unless("the packet uses up the last 10 bytes of a quota of 1000")},
		{"an expression that is not understood", []Expr{&Opaque{Type: "wonder"}, drop()}, fork("nftables expression wonder in ip t c rule 7 matches")},
		{"an iptables match without xtables", []Expr{&CompatMatch{Match: "foo"}, drop()}, fork("iptables match foo in ip t c rule 7 matches")},
		{"a comment without xtables", []Expr{&CompatMatch{Match: "comment"}, drop()}, always},
		{"a random number below half", []Expr{&Meta{Key: metaRandom, Register: reg1}, &Byteorder{Source: reg1, Dest: reg1, ToNetwork: true, Len: 4, Size: 4}, &Cmp{reg1, CmpLess, []byte{0x80, 0, 0, 0}}, drop()}, []way{{Result: "match drop", P: "1/2"}, {Result: "no match", P: "1/2"}}},
		{"numgen", []Expr{&Numgen{Dest: reg1, Modulus: 3, Random: true}, &Cmp{reg1, CmpEqual, host32(1)}, drop()}, []way{{Result: "no match", P: "1/3"}, {Result: "match drop", P: "1/3"}, {Result: "no match", P: "1/3"}}},
		{"numgen without effect", []Expr{&Numgen{Dest: reg1, Modulus: 3, Random: true}, &Counter{}}, never},
		{
			"numgen inc", []Expr{&Numgen{Dest: reg1, Modulus: 2, Offset: 5}, &Cmp{reg1, CmpEqual, host32(6)}, drop()},
			[]way{{"no match", "1", []string{"numgen inc mod 2 offset 5 gives 5"}}, {"match drop", "1", []string{"numgen inc mod 2 offset 5 gives 6"}}},
		},
		{"ct state of an untracked packet", []Expr{&Ct{Key: ctState, Direction: directionNone, Register: reg1}, &Cmp{reg1, CmpEqual, host32(stateInvalid)}, drop()}, always},
		{"ct mark without connection breaks", []Expr{&Ct{Key: ctMark, Direction: directionNone, Register: reg1}, &Cmp{reg1, CmpNotEqual, host32(5)}, drop()}, never},
		{"a queue", []Expr{&Queue{Number: 3, Total: 2, Bypass: true}}, []way{{Result: "match queue to 3-4, accepted when no program listens", P: "1"}}},
		{"a reset for UDP", []Expr{&Reject{Type: rejectReset}}, []way{{Result: "match drop (a reset answers TCP only)", P: "1"}}},
		{"continue is no verdict", []Expr{&Immediate{Verdict: &Verdict{Code: verdictContinue}}, drop()}, always},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, &Evaluator{Env: &fakeEnv{}}, newRule(tt.exprs...), udpPacket(t))
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestAForkIsRememberedInThePacket(t *testing.T) {
	p := udpPacket(t)
	e := &Evaluator{Env: &fakeEnv{}}
	first := newRule(sport(), &Cmp{reg1, CmpEqual, be16(1234)}, &Immediate{Register: reg1, Data: host32(1)}, &Meta{Key: metaMark, Register: reg1, Set: true})
	second := newRule(sport(), &Cmp{reg1, CmpEqual, be16(1234)}, drop())
	got := run2(t, e, first, second, p)
	want := []way{
		{"match drop", "1", []string{"udp sport is 1234"}},
		{"match drop", "1", []string{"not: udp sport is 1234", "udp sport is 1234"}},
		{"no match", "1", []string{"not: udp sport is 1234", "not: udp sport is 1234"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestRejectNames(t *testing.T) {
	tests := []struct {
		reject Reject
		v4, v6 string
	}{
		{Reject{rejectReset, 0}, "tcp-reset", "tcp-reset"},
		{Reject{rejectICMPX, 0}, "icmp-net-unreachable", "icmp6-no-route"},
		{Reject{rejectICMPX, 1}, "icmp-port-unreachable", "icmp6-port-unreachable"},
		{Reject{rejectICMPX, 2}, "icmp-host-unreachable", "icmp6-addr-unreachable"},
		{Reject{rejectICMPX, 3}, "icmp-admin-prohibited", "icmp6-adm-prohibited"},
		{Reject{rejectICMP, 1}, "icmp-host-unreachable", "icmp6-adm-prohibited"},
		{Reject{rejectICMP, 2}, "icmp-proto-unreachable", "icmp6-code-2"},
		{Reject{rejectICMP, 9}, "icmp-net-prohibited", "icmp6-code-9"},
	}
	for _, tt := range tests {
		if v4, v6 := tt.reject.with(skb.IPv4), tt.reject.with(skb.IPv6); v4 != tt.v4 || v6 != tt.v6 {
			t.Errorf("%+v: %s and %s, want %s and %s", tt.reject, v4, v6, tt.v4, tt.v6)
		}
	}
}
