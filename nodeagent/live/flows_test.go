//go:build linux

package live

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/cthash"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl/ctnltest"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// flowAddress is the n-th of a kind.
func flowAddress(is6 bool, kind byte, n int) netip.Addr {
	a := netip.AddrFrom4([4]byte{10, kind, byte(n >> 8), byte(n)})
	if !is6 {
		return a
	}
	b := netip.MustParseAddr("fd00::").As16()
	copy(b[12:], a.AsSlice())
	return netip.AddrFrom16(b)
}

// manyFlows makes connections to port 80 of a hundred Services of both families, by three protocols, in a namespace of the
// calling thread's own.
func manyFlows(t *testing.T, n int) {
	t.Helper()
	ctnltest.Still(t)
	runtime.LockOSThread() // for good: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	s, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range n {
		is6, proto := i%2 == 0, []uint8{skb.TCP, skb.UDP, skb.SCTP}[i%3]
		e := ctnltest.Entry{
			Tuple:    skb.Tuple{Proto: proto, Src: netip.AddrPortFrom(flowAddress(is6, 200, i), uint16(1024+i)), Dst: netip.AddrPortFrom(flowAddress(is6, 96, i/6%100), 80)},
			Endpoint: netip.AddrPortFrom(flowAddress(is6, 128, i), 8080),
			Zone:     uint16(i / 600 % 3),
		}
		if err := e.Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// flow is what does not change of a flow from one moment to the next.
type flow struct {
	orig, reply     skb.Tuple
	zone, replyZone uint16
	status          uint32
	state           uint8
}

func flowOf(c *skb.Conn) flow {
	return flow{c.Orig, c.Reply, c.Zone, c.ReplyZone, c.Status, c.TCPState}
}

func sortFlows(f []flow) []flow {
	slices.SortFunc(f, func(a, b flow) int { return strings.Compare(a.orig.String(), b.orig.String()) })
	return f
}

func flowsTo(t *testing.T, n *Namespace, proto uint8, dst ...netip.Addr) ([]flow, wire.FlowChoice) {
	t.Helper()
	var out []flow
	how, err := n.FlowsTo(t.Context(), proto, dst, 80, func() { out = nil }, func(c *skb.Conn) error {
		out = append(out, flowOf(c))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sortFlows(out), how
}

func TestFlowsAreTheSameHoweverTheyAreChosen(t *testing.T) {
	manyFlows(t, manyForPort+2000)
	n, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	plain, err := Open(WithoutBPF())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for _, proto := range []uint8{skb.TCP, skb.UDP, skb.SCTP} {
		for _, is6 := range []bool{false, true} {
			some := []netip.Addr{flowAddress(is6, 96, 7), flowAddress(is6, 96, 44), flowAddress(is6, 97, 1)}
			for _, dst := range [][]netip.Addr{some, some[:1], some[2:]} {
				want, how := flowsTo(t, plain, proto, dst...)
				if wanted := map[bool]wire.FlowChoice{true: wire.ChosenByFilter, false: wire.ChosenByPort}[!is6 && len(dst) == 1]; how != wanted {
					t.Errorf("without BPF: chosen by %s, want %s", how, wanted)
				}
				if (len(want) == 0) != (dst[0] == some[2]) {
					t.Errorf("%d flows to %v", len(want), dst)
				}
				got, how := flowsTo(t, n, proto, dst...)
				wanted := wire.ChosenInMemory
				if !is6 && len(dst) == 1 {
					wanted = wire.ChosenByFilter // which is quick enough
				}
				if how != wanted || !slices.Equal(got, want) {
					t.Errorf("%s to %v: %d flows chosen by %s, want %d by %s", skb.ProtoName(proto), dst, len(got), how, len(want), wanted)
				}
				in, err := n.flowsInMemory(t.Context(), 0, cthash.Filter{Protocol: proto, Addresses: dst, Port: 80})
				if err != nil {
					t.Fatal(err)
				}
				got = nil
				for _, c := range in {
					got = append(got, flowOf(c))
				}
				if !slices.Equal(sortFlows(got), want) {
					t.Errorf("%s to %v: %d flows in memory, want %d", skb.ProtoName(proto), dst, len(got), len(want))
				}
			}
		}
	}
	if got, how := flowsTo(t, n, skb.TCP); len(got) != 0 || how != wire.ChosenByPort {
		t.Errorf("to no address: %d by %s", len(got), how)
	}
	enough := errors.New("enough")
	for _, n := range []*Namespace{n, plain} {
		_, err := n.FlowsTo(t.Context(), skb.TCP, []netip.Addr{flowAddress(true, 96, 7)}, 80, func() {}, func(*skb.Conn) error { return enough })
		if !errors.Is(err, enough) {
			t.Errorf("got %v, want %v", err, enough)
		}
	}
	n.memory.tableErr, n.memory.table = errors.New("another kernel"), nil
	want, _ := flowsTo(t, plain, skb.TCP, flowAddress(true, 96, 7))
	if got, how := flowsTo(t, n, skb.TCP, flowAddress(true, 96, 7)); how != wire.ChosenByPort || !slices.Equal(got, want) {
		t.Errorf("where the table cannot be read: %d flows chosen by %s, want %d", len(got), how, len(want))
	}
}

func TestFewFlowsAreLeftToNetlink(t *testing.T) {
	manyFlows(t, 600)
	n, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if got, how := flowsTo(t, n, skb.TCP, flowAddress(true, 96, 4)); len(got) != 1 || how != wire.ChosenByPort {
		t.Errorf("%d by %s", len(got), how)
	}
	if n.memory.reader != nil {
		t.Error("kernel memory was opened for them")
	}
}

func TestWhatHasGoneMeanwhileIsLeftOut(t *testing.T) {
	manyFlows(t, 60)
	n, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	all, err := n.flowsInMemory(t.Context(), 0, cthash.Filter{Protocol: skb.TCP, Addresses: []netip.Addr{flowAddress(true, 96, 4)}, Port: 80})
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	there := cthash.Key{Tuple: all[0].Orig}
	gone, zoned, reply := there, there, cthash.Key{Tuple: all[0].Reply} // now another entry's reply
	gone.Tuple.Src = netip.AddrPortFrom(there.Tuple.Src.Addr(), 1)
	zoned.Zone = 1
	got, err := n.confirm(t.Context(), []cthash.Key{gone, zoned, reply, there})
	if err != nil || len(got) != 1 || got[0].Orig != there.Tuple {
		t.Errorf("got %v, %v", got, err)
	}
}
