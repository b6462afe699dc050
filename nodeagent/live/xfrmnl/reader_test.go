//go:build linux

package xfrmnl

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

// namespace moves the test to a network namespace of its own, which ends with its thread.
func namespace(t *testing.T, commands ...string) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace (needs root): %v", err)
	}
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields("xfrm policy "+c)...).CombinedOutput(); err != nil {
			t.Fatalf("ip xfrm policy %s: %v: %s", c, err, out)
		}
	}
}

func policies(t *testing.T) *node.IPsecPolicies {
	t.Helper()
	p, err := New(nil).IPsec(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoliciesAreReadAsTheyWereMade(t *testing.T) {
	namespace(t, "add src 10.1.0.0/16 dst 10.2.0.1/32 proto tcp sport 1000 dport 80 dev lo dir out priority 7 mark 3 mask 7 action block",
		"add src fd00::/64 dst ::/0 dir in tmpl src fd00::1 dst fd00::2 proto esp mode tunnel tmpl proto ah mode transport",
		"add src 0.0.0.0/0 dst 10.3.0.0/24 dir fwd if_id 5", "setdefault fwd block")
	want := map[node.IPsecDirection]node.IPsecPolicy{
		node.IPsecOut: {
			Direction: node.IPsecOut, Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.1/32"), Proto: 6,
			SrcPort: 1000, SrcPortMask: 0xffff, DstPort: 80, DstPortMask: 0xffff, Interface: 1, Mark: 3, MarkMask: 7, Priority: 7, Block: true,
		},
		node.IPsecIn:      {Direction: node.IPsecIn, Src: netip.MustParsePrefix("fd00::/64"), Dst: netip.MustParsePrefix("::/0"), Templates: 2},
		node.IPsecForward: {Direction: node.IPsecForward, Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.MustParsePrefix("10.3.0.0/24"), InterfaceID: 5},
	}
	got := policies(t)
	if len(got.Policies) != len(want) || got.BlockIn || got.BlockOut || !got.BlockForward {
		t.Fatalf("%+v", got)
	}
	for _, p := range got.Policies {
		if w := want[p.Direction]; !reflect.DeepEqual(p, w) {
			t.Errorf("got  %+v\nwant %+v", p, w)
		}
	}
}

func TestNamespaceWithoutPolicies(t *testing.T) {
	namespace(t)
	if got := policies(t); !reflect.DeepEqual(got, &node.IPsecPolicies{}) {
		t.Errorf("%+v", got)
	}
}

func TestKernelWithoutIPsec(t *testing.T) {
	const head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
	for text, want := range map[string]bool{
		head + "0000000001d68630 6   0          00000000 0        0        0     2        0        1430\n": true,
		head + "0000000001d68630 16  0          00000000 0        0        0     2        0        1430\n": false,
		head + "0000000001d68630 6   4242       00000000 0        0        0     2        0        1430\n": false,
		head: false, "": false, "garbage 6": false,
	} {
		if got := listed(text); got != want {
			t.Errorf("%v, want %v: %s", got, want, text)
		}
	}
}

func TestWithoutPermission(t *testing.T) {
	runtime.LockOSThread() // the thread, which has lost its capabilities, ends with the test
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := New(nil).IPsec(context.Background()); err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("error %v, want one about CAP_NET_ADMIN", err)
	}
}

// info is a policy as the kernel sends it, without attributes.
func info() []byte {
	b := make([]byte, infoSize)
	binary.NativeEndian.PutUint16(b[atFamily:], unix.AF_INET)
	return b
}

func TestGarbageIsAnError(t *testing.T) {
	short, family, long := info()[:infoSize-1], info(), info()
	family[atFamily] = 77
	long[atDstLength] = 33
	for name, b := range map[string][]byte{
		"short": short, "family": family, "length": long, "mark": append(info(), 8, 0, attrMark, 0, 1, 0, 0, 0), "attribute": append(info(), 200, 0, attrMark, 0),
	} {
		if p, ok, err := decode(b); err == nil {
			t.Errorf("%s: %+v %v", name, p, ok)
		}
	}
	socket := info()
	socket[atDirection] = 4
	if _, ok, err := decode(socket); ok || err != nil {
		t.Errorf("the policy of a socket: %v %v", ok, err)
	}
	for name, b := range map[string][]byte{"short": {1}, "nothing told": make([]byte, 4), "numbers": {0, 0, 0, 0, 8, 0, attrSPDInfo, 0, 1, 0, 0, 0}} {
		if some, err := counted(b); err == nil {
			t.Errorf("%s: %v", name, some)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(info())
	f.Add(append(info(), 12, 0, attrMark, 0, 1, 0, 0, 0, 3, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			if p, ok, err := decode(b); ok && err == nil && (!p.Src.IsValid() || !p.Dst.IsValid()) {
				t.Errorf("a policy without addresses: %+v", p)
			}
			_, _ = counted(b)
		})
	})
}
