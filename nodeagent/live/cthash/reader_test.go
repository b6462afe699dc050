//go:build linux

package cthash

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/ctnl/ctnltest"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/kmem"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func sortKeys(k []Key) []Key {
	slices.SortFunc(k, func(a, b Key) int {
		if c := strings.Compare(a.Tuple.String(), b.Tuple.String()); c != 0 {
			return c
		}
		return int(a.Zone) - int(b.Zone)
	})
	return k
}

// told is what netlink tells.
func told(t testing.TB, conns *ctnl.Reader, f Filter) (out []Key) {
	t.Helper()
	err := conns.ToAny(t.Context(), f.Protocol, f.Addresses, f.Port, func() { out = nil }, func(c *skb.Conn) error {
		out = append(out, Key{c.Orig, c.Zone})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sortKeys(out)
}

func leads(t testing.TB, conns *ctnl.Reader, n int) (out []Key) {
	t.Helper()
	some, err := conns.Some(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range some {
		out = append(out, Key{c.Orig, c.Zone})
	}
	return out
}

func reader(t testing.TB) *ctnl.Reader {
	t.Helper()
	conns, err := ctnl.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conns.Close() })
	return conns
}

// mixed writes connections of both families and protocols, in zones of all kinds, some alike but for the zone.
func mixed(ctx context.Context, s *nlsock.Socket, random *rand.Rand, n int) error {
	for range n {
		is6 := random.IntN(2) == 0
		x := skb.Tuple{
			Proto: []uint8{skb.TCP, skb.UDP}[random.IntN(2)],
			Src:   netip.AddrPortFrom(numbered(is6, 200, random.IntN(4)), uint16(1024+random.IntN(2000))),
			Dst:   netip.AddrPortFrom(numbered(is6, 96, random.IntN(6)), []uint16{53, 80, 20480}[random.IntN(3)]), // 20480 is 80 in the other order
		}
		zone := uint16([]int{0, 0, 1, 7, 256}[random.IntN(5)])
		endpoint := netip.AddrPortFrom(numbered(is6, 128, random.IntN(60000)), 8080)
		if err := (ctnltest.Entry{Tuple: x, Endpoint: endpoint, Zone: zone, Zoned: ctnltest.Zoned(random.IntN(3))}).Insert(ctx, s); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

func TestMemoryAndNetlinkAgree(t *testing.T) {
	ctnltest.Still(t)
	bothWays(t, func(t *testing.T, aCast bool) {
		namespace(t)
		random := rand.New(rand.NewPCG(1, 2))
		s, conns := netlink(t), reader(t)
		elsewhere(t, func() { // the same connections in another namespace: the table is one
			other, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
			if err == nil {
				err = errors.Join(mixed(t.Context(), other, rand.New(rand.NewPCG(1, 2)), 4000), other.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
		if err := mixed(t.Context(), s, random, 4000); err != nil {
			t.Fatal(err)
		}
		elsewhere(t, func() {
			other, err := nlsock.Open(unix.NETLINK_NETFILTER, nil)
			if err == nil {
				err = errors.Join(mixed(t.Context(), other, rand.New(rand.NewPCG(3, 4)), 4000), other.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
		r, net := open(t, aCast)
		before := r.count.Messages
		all, zones := 0, map[uint16]int{}
		for _, is6 := range []bool{false, true} {
			for _, proto := range []uint8{skb.TCP, skb.UDP, skb.SCTP} {
				for _, port := range []uint16{0, 53, 80, 81, 20480} {
					for _, addresses := range [][]int{{0}, {5}, {1, 3, 4}, {99}} {
						f := Filter{Protocol: proto, Port: port, Namespace: net}
						for _, a := range addresses {
							f.Addresses = append(f.Addresses, numbered(is6, 96, a))
						}
						got, err := r.Find(f, leads(t, conns, 10))
						if err != nil {
							t.Fatal(err)
						}
						want := told(t, conns, f)
						if !slices.Equal(sortKeys(got), want) {
							t.Errorf("%v: %d in memory, %d by netlink", f, len(got), len(want))
						}
						all += len(got)
						for _, k := range got {
							zones[k.Zone]++
						}
					}
				}
			}
		}
		if all < 1000 || len(zones) != 4 {
			t.Errorf("%d entries in zones %v were compared", all, zones)
		}
		if r.count.Messages == before {
			t.Error("no run was counted")
		}
	})
}

// stir inserts and deletes connections in the calling thread's namespace until it is told to stop, at most a minute.
func stir(stop <-chan struct{}, s *nlsock.Socket, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 5))
	var there []ctnltest.Entry
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		select {
		case <-stop:
			return nil
		default:
		}
		if len(there) < 500 {
			is6 := random.IntN(2) == 0
			e := ctnltest.Entry{
				Tuple:    skb.Tuple{Proto: skb.UDP, Src: netip.AddrPortFrom(numbered(is6, 201, random.IntN(60000)), uint16(1+random.IntN(65535))), Dst: netip.AddrPortFrom(numbered(is6, 96, 1), 80)},
				Endpoint: netip.AddrPortFrom(numbered(is6, 129, random.IntN(60000)), 8080),
			}
			if err := e.Insert(context.Background(), s); err != nil && !errors.Is(err, unix.EEXIST) {
				return err
			}
			there = append(there, e)
			continue
		}
		i := random.IntN(len(there))
		if err := there[i].Delete(context.Background(), s); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		there[i] = there[len(there)-1]
		there = there[:len(there)-1]
	}
	return nil
}

// stirred makes connections that stay, has others come and go in this namespace and in others, and calls f meanwhile.
func stirred(t *testing.T, stay int, f func(is6 bool, want []Key)) {
	namespace(t)
	s := netlink(t)
	want := map[bool][]Key{}
	for i := range stay {
		is6 := i%2 == 0
		k := Key{Tuple: skb.Tuple{Proto: skb.UDP, Src: netip.AddrPortFrom(numbered(is6, 200, i), 1024), Dst: netip.AddrPortFrom(numbered(is6, 96, 1), 80)}}
		if err := (ctnltest.Entry{Tuple: k.Tuple, Endpoint: netip.AddrPortFrom(numbered(is6, 128, 1), 8080)}).Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		want[is6] = append(want[is6], k)
	}
	stop, errs := make(chan struct{}), make(chan error)
	here, err := nlsock.Open(unix.NETLINK_NETFILTER, nil) // a socket belongs to the namespace that it was opened in
	if err != nil {
		t.Fatal(err)
	}
	var others sync.WaitGroup
	const stirrers = 3
	for i := range stirrers {
		others.Add(1)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
			others.Done()
			sock := here
			if i > 0 {
				if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
					errs <- err
					return
				}
				var err error
				if sock, err = nlsock.Open(unix.NETLINK_NETFILTER, nil); err != nil {
					errs <- err
					return
				}
			}
			errs <- errors.Join(stir(stop, sock, uint64(i)), sock.Close())
		}()
	}
	others.Wait()
	for _, is6 := range []bool{false, true} {
		f(is6, want[is6])
	}
	close(stop)
	for range stirrers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// missing are those that were not found.
func missing(got, want []Key) (out []Key) {
	there := map[Key]bool{}
	for _, k := range got {
		there[k] = true
	}
	for _, k := range want {
		if !there[k] {
			out = append(out, k)
		}
	}
	return out
}

func TestWhatStaysIsFoundWhileOthersComeAndGo(t *testing.T) {
	ctnltest.Still(t)
	bothWays(t, func(t *testing.T, aCast bool) {
		stirred(t, 2000, func(is6 bool, want []Key) {
			r, net := open(t, aCast)
			others := 0
			for range 25 {
				got, err := r.Find(Filter{Protocol: skb.UDP, Port: 80, Addresses: []netip.Addr{numbered(is6, 96, 1)}, Namespace: net}, want[:20])
				if err != nil {
					t.Error(err)
					return
				}
				if m := missing(got, want); len(m) > 0 {
					t.Errorf("%d of %d were not found, %v", len(m), len(want), m[0])
					return
				}
				others += len(got) - len(want)
			}
			if others == 0 {
				t.Error("no others came")
			}
		})
	})
}

// TestAResizeIsNoticed changes the size of the kernel's table again and again while it is read, where this may be done: in
// the machine's first network namespace. What is found is then all, or an error says that the table was resized.
func TestAResizeIsNoticed(t *testing.T) {
	ctnltest.Resizing(t)
	const file = "/proc/sys/net/netfilter/nf_conntrack_buckets"
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrPermission) {
		t.Log("the table cannot be resized from here: it is read as it is")
		f = nil
	} else if err != nil {
		t.Fatal(err)
	}
	size := func(n string) error {
		if f == nil {
			return nil
		}
		_, err := f.WriteAt([]byte(n), 0)
		return err
	}
	t.Cleanup(func() {
		if f != nil {
			err := size(string(was))
			if err = errors.Join(err, f.Close()); err != nil {
				t.Error(err)
			}
		}
		if is, err := os.ReadFile(file); err != nil || string(is) != string(was) {
			t.Errorf("%s holds %q, not %q, %v", file, is, was, err)
		}
	})
	n, err := strconv.Atoi(strings.TrimSpace(string(was)))
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := range 500 {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := size(strconv.Itoa(n/2 + n/2*(i%2))); err != nil {
				done <- err
				return
			}
			time.Sleep(time.Duration(i%40) * time.Millisecond)
		}
		done <- nil
	}()
	whole, resized := 0, 0
	stirred(t, 2000, func(is6 bool, want []Key) {
		r, net := open(t, true)
		for range 40 {
			got, err := r.Find(Filter{Protocol: skb.UDP, Port: 80, Addresses: []netip.Addr{numbered(is6, 96, 1)}, Namespace: net}, want[:20])
			switch {
			case errors.Is(err, ErrOdd), errors.Is(err, ErrNoAnchor):
				resized++
			case err != nil:
				t.Error(err)
				return
			default:
				whole++
				if m := missing(got, want); len(m) > 0 {
					t.Errorf("%d of %d were not found, %v", len(m), len(want), m[0])
					return
				}
			}
		}
	})
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d times all, %d times resized", whole, resized)
	if whole == 0 || f != nil && resized == 0 {
		t.Errorf("%d times all, %d times resized", whole, resized)
	}
}

func TestManyAreLeftToNetlink(t *testing.T) {
	ctnltest.Still(t)
	namespace(t)
	s := netlink(t)
	var some []Key
	for i := range maxFound + 1 {
		k := Key{Tuple: skb.Tuple{Proto: skb.UDP, Src: netip.AddrPortFrom(numbered(true, 200, i), 1024), Dst: netip.AddrPortFrom(numbered(true, 98, 1), 80)}}
		if err := (ctnltest.Entry{Tuple: k.Tuple, Endpoint: netip.AddrPortFrom(numbered(true, 128, 1), 8080)}).Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		some = append(some, k)
	}
	r, net := open(t, true)
	f := Filter{Protocol: skb.UDP, Port: 80, Addresses: []netip.Addr{numbered(true, 98, 1)}, Namespace: net}
	if _, err := r.Find(f, some[:1]); !errors.Is(err, ErrMany) {
		t.Errorf("of %d: %v, want %v", len(some), err, ErrMany)
	}
	first := ctnltest.Entry{Tuple: some[0].Tuple, Endpoint: netip.AddrPortFrom(numbered(true, 128, 1), 8080)}
	if err := first.Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Find(f, some[1:2]); err != nil || len(got) != maxFound {
		t.Errorf("of %d: %d, %v", maxFound, len(got), err)
	}
	if _, err := r.Find(f, some[:1]); !errors.Is(err, ErrNoAnchor) {
		t.Errorf("by an entry that is gone: %v, want %v", err, ErrNoAnchor)
	}
	if got, err := r.Find(f, some[:2]); err != nil || len(got) != maxFound {
		t.Errorf("by one that is gone and one that is there: %d, %v", len(got), err)
	}
	sctp := some[1]
	sctp.Tuple.Proto = skb.SCTP
	if _, err := r.Find(f, []Key{sctp}); !errors.Is(err, ErrNoAnchor) {
		t.Errorf("by SCTP: %v, want %v", err, ErrNoAnchor)
	}
	f.Addresses = nil
	if _, err := r.Find(f, some); !errors.Is(err, ErrMany) {
		t.Errorf("to no address: %v", err)
	}
	for i := range MaxAddresses {
		f.Addresses = append(f.Addresses, numbered(true, 97, i))
	}
	if got, err := r.Find(f, some); err != nil || len(got) != 0 {
		t.Errorf("to %d addresses without flows: %d, %v", len(f.Addresses), len(got), err)
	}
	f.Addresses = append(f.Addresses, numbered(true, 98, 1))
	if _, err := r.Find(f, some); !errors.Is(err, ErrMany) {
		t.Errorf("to %d addresses: %v", len(f.Addresses), err)
	}
}

func TestAnchorsMayBeInZones(t *testing.T) {
	ctnltest.Still(t)
	namespace(t)
	s := netlink(t)
	x := skb.Tuple{Proto: skb.TCP, Src: netip.MustParseAddrPort("10.0.0.1:1"), Dst: netip.MustParseAddrPort("10.0.0.2:80")}
	for z := range ctnltest.Zoned(3) {
		if err := (ctnltest.Entry{Tuple: x, Endpoint: netip.AddrPortFrom(numbered(false, 128, int(z)), 80), Zone: uint16(z) + 1, Zoned: z}).Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	r, net := open(t, true)
	for _, zone := range []uint16{1, 2, 0} { // the zone of the reply is not the original direction's
		got, err := r.Find(Filter{Protocol: skb.TCP, Addresses: []netip.Addr{x.Dst.Addr()}, Namespace: net}, []Key{{x, zone}})
		if zone != 0 && before(t, 6, 11) { // whose function finds those in no zone alone
			if !errors.Is(err, ErrNoAnchor) {
				t.Errorf("by one in zone %d: %v, %v, want %v", zone, got, err, ErrNoAnchor)
			}
			continue
		}
		if err != nil || !slices.Equal(sortKeys(got), []Key{{x, 0}, {x, 1}, {x, 2}}) {
			t.Errorf("by one in zone %d: %v, %v", zone, got, err)
		}
	}
	if _, err := r.Find(Filter{Protocol: skb.TCP, Addresses: []netip.Addr{x.Dst.Addr()}, Namespace: net}, []Key{{x, 3}}); !errors.Is(err, ErrNoAnchor) {
		t.Errorf("by one in a zone that is only its reply's: %v", err)
	}
}

func TestAWrongTableIsNoticed(t *testing.T) {
	ctnltest.Still(t)
	bothWays(t, func(t *testing.T, aCast bool) {
		stirred(t, 400, func(is6 bool, want []Key) {
			r, net := open(t, aCast)
			f := Filter{Protocol: skb.UDP, Port: 80, Addresses: []netip.Addr{numbered(is6, 96, 1)}, Namespace: net}
			good, err := r.locate(want[:20])
			if err != nil {
				t.Error(err)
				return
			}
			try := func(what string, change func(*table)) {
				x := good
				change(&x)
				if got, err := r.walk(x, f); !errors.Is(err, ErrOdd) {
					t.Errorf("%s: %d, %v, want %v", what, len(got), err, ErrOdd)
				}
			}
			try("it is larger", func(x *table) { x.size -= 512 })
			try("it is twice as large", func(x *table) { x.size = max(x.size/2, x.bucket+1) })
			try("it is smaller", func(x *table) { x.size += 512 })
			try("it is elsewhere", func(x *table) { x.address += 4096 })
			try("the anchor is elsewhere", func(x *table) { x.bucket-- })
			if got, err := r.walk(good, f); err != nil || len(missing(got, want)) > 0 {
				t.Errorf("it is right: %d of %d, %v", len(got), len(want), err)
			}
		})
	})
}

// TestTheTableIsLookedAtBeforeAndAfter has the anchor go, and come, during a run.
func TestTheTableIsLookedAtBeforeAndAfter(t *testing.T) {
	ctnltest.Still(t)
	namespace(t)
	r, _ := open(t, true)
	var anchors []Key
	s := netlink(t)
	for i := range 20 {
		k := Key{Tuple: skb.Tuple{Proto: skb.UDP, Src: netip.AddrPortFrom(numbered(false, 200, i), 1024), Dst: netip.AddrPortFrom(numbered(false, 96, 1), 80)}}
		if err := (ctnltest.Entry{Tuple: k.Tuple, Endpoint: netip.AddrPortFrom(numbered(false, 128, 1), 8080)}).Insert(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		anchors = append(anchors, k)
	}
	good, err := r.locate(anchors)
	if err != nil {
		t.Fatal(err)
	}
	right := binary.NativeEndian.Uint32(r.shared[headTuple:])
	for _, c := range []struct {
		name          string
		before, after uint32
		code          uint64
	}{
		{"it stays", right, right, codeFine},
		{"it goes", right, right + 1, codeMoved},
		{"it comes", right + 1, right, codeMoved},
	} {
		binary.NativeEndian.PutUint32(r.shared[headTuple:], c.before)
		binary.NativeEndian.PutUint64(r.shared[stateAt+stateCode:], codeFine)
		program, err := r.guarded(good, asm.Instructions{
			asm.LoadMapValue(asm.R1, r.answer, 0),
			asm.LoadImm(asm.R2, int64(c.after), asm.DWord),
			asm.StoreMem(asm.R1, headTuple, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R0, 1),
			asm.Return(),
		}).Load()
		if err != nil {
			t.Fatal(err)
		}
		_, err = bpf.Run(program, nil, packet())
		if err = errors.Join(err, unix.Close(program)); err != nil {
			t.Fatal(err)
		}
		if got := binary.NativeEndian.Uint64(r.shared[stateAt+stateCode:]); got != c.code {
			t.Errorf("%s: code %d, want %d", c.name, got, c.code)
		}
	}
}

func TestWithoutCapabilitiesPermissionIsMissing(t *testing.T) {
	m, err := kmem.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: it has lost its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective, data[1].Effective = 0, 0
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			_, err = New(m, nil)
		}
		done <- err
	}()
	if err := <-done; !errors.Is(err, node.ErrPermission) {
		t.Errorf("got %v, want %v", err, node.ErrPermission)
	}
}
