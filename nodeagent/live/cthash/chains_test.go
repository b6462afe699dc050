//go:build linux

package cthash

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// model is a table of the test's own, in an array map: what the kernel does only now and then it does when it is told to.
type model struct {
	r      *Reader
	shared []byte
	// address is that of shared in kernel memory. The buckets come first, and then the entries.
	address uint64
	next    int
}

const (
	modelBuckets = 2048
	modelEntry   = 512 // more than a struct nf_conn
	modelEntries = 64
)

func newModel(t *testing.T, r *Reader) *model {
	t.Helper()
	const size = 8*modelBuckets + modelEntry*modelEntries
	fd, err := bpf.NewArray(size, unix.BPF_F_MMAPABLE)
	if err != nil {
		t.Fatal(err)
	}
	m := &model{r: r}
	if m.shared, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Munmap(m.shared), unix.Close(fd)); err != nil {
			t.Error(err)
		}
	})
	tell := asm.Instructions{asm.LoadMapValue(asm.R1, fd, 0), asm.LoadMapValue(asm.R2, r.answer, 0), asm.StoreMem(asm.R2, headConn, asm.R1, asm.DWord), asm.Mov.Imm(asm.R0, 0), asm.Return()}
	program, err := r.functions.assemble("model", part{"model", tell}).Load()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(program)
	if _, err := bpf.Run(program, nil, packet()); err != nil {
		t.Fatal(err)
	}
	m.address = binary.NativeEndian.Uint64(r.shared[headConn:])
	for i := range modelBuckets {
		m.put(8*i, end(i))
	}
	m.next = 8 * modelBuckets
	return m
}

// end is what a chain ends with.
func end(bucket int) uint64 { return uint64(bucket)<<1 | 1 }

// put writes as a processor does, at once.
func (m *model) put(at int, v uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&m.shared[at])), v)
}

// entry makes an entry and returns where its node is.
func (m *model) entry(net uint64, direction byte, family uint16, tuple skb.Tuple) int {
	l := m.r.layout
	conn := m.next
	m.next += modelEntry
	binary.NativeEndian.PutUint64(m.shared[conn+l.net:], net)
	b := m.shared[conn+l.tupleHash+l.tuple:]
	copy(b[l.src:], tuple.Src.Addr().AsSlice())
	copy(b[l.dst:], tuple.Dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[l.srcPort:], tuple.Src.Port())
	binary.BigEndian.PutUint16(b[l.dstPort:], tuple.Dst.Port())
	binary.NativeEndian.PutUint16(b[l.family:], family)
	b[l.protocol], b[l.direction] = tuple.Proto, direction
	return conn + l.tupleHash + l.node
}

func (m *model) pointer(at int) uint64 { return m.address + uint64(at) }

func (m *model) walk(t *testing.T, f Filter) ([]Key, error) {
	t.Helper()
	main := append(asm.Instructions{asm.LoadMapValue(asm.R7, m.r.answer, 0)}, rounds()...)
	main = append(main, asm.Mov.Imm(asm.R0, 0), asm.Return())
	program, err := m.r.functions.assemble("svctrace_walk", part{"walk", main}, part{"step", m.r.step(m.address, f)}).Load()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(program)
	return m.r.runs(program, modelBuckets, f, func() (int, error) { return modelBuckets, nil })
}

func TestChains(t *testing.T) {
	bothWays(t, func(t *testing.T, aCast bool) {
		r, net := open(t, aCast)
		service, client := netip.MustParseAddrPort("[fd00:96::1]:80"), netip.MustParseAddrPort("[fd00::2]:4001")
		f := Filter{Protocol: skb.TCP, Addresses: []netip.Addr{service.Addr()}, Port: 80, Namespace: net}
		tuple := func(port uint16) skb.Tuple {
			return skb.Tuple{Proto: skb.TCP, Src: netip.AddrPortFrom(client.Addr(), port), Dst: service}
		}
		expect := func(m *model, want ...uint16) {
			t.Helper()
			got, err := m.walk(t, f)
			var ports []uint16
			for _, k := range got {
				ports = append(ports, k.Tuple.Src.Port())
			}
			slices.Sort(ports)
			if err != nil || !slices.Equal(ports, want) {
				t.Errorf("got %v, %v, want %v", ports, err, want)
			}
		}
		odd := func(m *model, what string) {
			t.Helper()
			if got, err := m.walk(t, f); !errors.Is(err, ErrOdd) {
				t.Errorf("%s: %v, %v, want %v", what, got, err, ErrOdd)
			}
		}

		m := newModel(t, r)
		expect(m)
		var nodes []int
		for port := range uint16(3) {
			nodes = append(nodes, m.entry(net, 0, unix.AF_INET6, tuple(port+1)))
		}
		// Of those, one is in another chain, and what is not asked for is between.
		other := tuple(9)
		other.Dst = netip.MustParseAddrPort("[fd00:97::1]:80") // it ends like the Service's
		udp := tuple(9)
		udp.Proto = skb.UDP
		port := tuple(9)
		port.Dst = netip.AddrPortFrom(service.Addr(), 81)
		chain := []int{
			m.entry(net+1, 0, unix.AF_INET6, tuple(9)), m.entry(net, 1, unix.AF_INET6, tuple(9)), nodes[0],
			m.entry(net, 0, unix.AF_INET, tuple(9)), m.entry(net, 0, unix.AF_INET6, other),
			m.entry(net, 0, unix.AF_INET6, udp), m.entry(net, 0, unix.AF_INET6, port), nodes[1],
		}
		at := 8 * 1700
		for _, n := range chain {
			m.put(at, m.pointer(n))
			at = n
		}
		m.put(at, end(1700))
		m.put(8*(modelBuckets-1), m.pointer(nodes[2]))
		m.put(nodes[2], end(modelBuckets-1))
		expect(m, 1, 2, 3)

		// An entry that has come to another chain leads there.
		m.put(nodes[0], end(1701))
		odd(m, "another chain's end")
		m.put(nodes[0], m.pointer(nodes[0]))
		odd(m, "no end")
		m.put(nodes[0], 0)
		odd(m, "nothing")
		m.put(nodes[0], 2)
		odd(m, "an address that is none")
		m.put(nodes[0], m.pointer(chain[3]))
		expect(m, 1, 2, 3)
		m.put(8*5, 0)
		odd(m, "a bucket that is none")
		m.put(8*5, end(5))

		// The same again and again, while the walk goes on.
		stop, done := make(chan struct{}), make(chan int)
		go func() {
			changes := 0
			for {
				select {
				case <-stop:
					done <- changes
					return
				default:
				}
				m.put(nodes[0], m.pointer(nodes[2])) // to the end of the table
				m.put(nodes[0], m.pointer(chain[3]))
				changes++
			}
		}()
		whole, again := 0, uint64(0)
		for i := 0; i < 200 || i < 3000 && (whole == 0 || again == 0); i++ {
			got, err := m.walk(t, f)
			again += binary.NativeEndian.Uint64(r.shared[stateAt+stateRetries:])
			if errors.Is(err, ErrOdd) {
				continue // the change back was late
			}
			if err != nil || len(got) != 3 {
				t.Errorf("got %v, %v", got, err)
				break
			}
			whole++
		}
		close(stop)
		changes := <-done
		t.Logf("%d changes, %d times all, %d times a chain again", changes, whole, again)
		if whole == 0 || again == 0 {
			t.Errorf("%d changes, %d times all, %d times a chain again", changes, whole, again)
		}
	})
}
