//go:build linux

package rtnl

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/fib"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// TestBareLookupsAgreeWithPackets holds FIBLookup against the fib expression of nft: packets from many sources come in by
// an interface, and a set keeps, by their source port, which interface the kernel finds for their way back. FIB_SEED and
// FIB_SECONDS make it longer too.
func TestBareLookupsAgreeWithPackets(t *testing.T) {
	first, length := randomRun(t, 5000, 4*time.Second)
	total := map[string]int{}
	begin := time.Now()
	for seed := first; seed < first+10_000 && (seed < first+4 || time.Since(begin) < length) && !t.Failed(); seed++ {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			if err := packetScene(seed, total); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}()
		<-done
	}
	t.Logf("%v", total)
	for _, kind := range []string{"IPv4 found", "IPv4 missing", "IPv6 found", "IPv6 missing"} {
		if total[kind] == 0 {
			t.Errorf("no packet's lookup was %s", kind)
		}
	}
}

// wayBack looks at e0 only, since packets that are forwarded come in again elsewhere.
const wayBack = `table inet t {
	set back { typeof udp sport . meta iif; flags dynamic; size 65535; }
	chain c { type filter hook prerouting priority raw; meta mark set 0x2; iifname "e0" meta l4proto udp update @back { udp sport . fib saddr . mark oif }; }
}
`

func packetScene(seed uint64, total map[string]int) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace (needs root): %w", err)
	}
	g := &scene{Rand: rand.New(rand.NewPCG(seed, 0))}
	g.make()
	// The packets go in here.
	g.four("link set e0 up")
	g.four("link set p0 up")
	if err := g.apply(); err != nil {
		return err
	}
	c := exec.Command("nft", "-f", "-")
	c.Stdin = strings.NewReader(wayBack)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	time.Sleep(1200 * time.Millisecond) // for link events
	ctx := context.Background()
	r, s, err := look(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	type sent struct{ src, dst netip.Addr }
	var packets []sent
	var frames [][]byte
	for range 150 {
		six := g.yes(50)
		p := sent{g.place(six, 0), g.place(six, 0)}
		packets = append(packets, p)
		frames = append(frames, frame(p.src, p.dst, uint16(len(packets)), g.one("\x00", "\x08", "\x10")[0]))
	}
	if err := inject("p0", "e0", frames); err != nil {
		return err
	}
	got, err := listed()
	if err != nil {
		return err
	}
	for i, p := range packets {
		kernel, ok := got[i+1]
		if !ok {
			total["not taken"]++ // ip_rcv and ip6_rcv drop some before any hook
			continue
		}
		tos := frames[i][15]
		if p.src.Is6() {
			tos = frames[i][14]<<4 | frames[i][15]>>4
		}
		q := node.FIBQuery{Dst: p.src, Src: p.dst, Mark: 2, Proto: unix.IPPROTO_UDP, TOS: tos}
		model, err := found(ctx, s, q)
		if err != nil {
			return err
		}
		kind := "IPv4"
		if p.src.Is6() {
			kind = "IPv6"
		}
		if kernel == "" {
			total[kind+" missing"]++
		} else {
			total[kind+" found"]++
		}
		agrees := false
		for _, m := range model {
			agrees = agrees || m == kernel
		}
		if !agrees {
			return fmt.Errorf("the way back to %s for %s (tos %#x): kernel by %q, model by %q\n%s", p.src, p.dst, tos, kernel, model, g.text(""))
		}
	}
	return nil
}

// found is what nft_fib4_eval and nft_fib6_eval make of a lookup: the interfaces that the answer can be, "" for none.
func found(ctx context.Context, s *fib.State, q node.FIBQuery) ([]string, error) {
	if q.Dst.IsLinkLocalUnicast() {
		q.Strict, q.Out = true, "e0"
	}
	got, err := s.FIBLookup(ctx, q)
	var refused *node.RouteError
	switch {
	case errors.As(err, &refused):
		return []string{""}, nil
	case err != nil:
		return nil, err
	case got.Type == node.RouteLocal, q.Dst.Is6() && got.Type == node.RouteAnycast:
		return []string{""}, nil
	}
	if len(got.OneOf) == 0 {
		return []string{got.Out}, nil
	}
	var out []string
	for _, h := range got.OneOf {
		out = append(out, h.Out)
	}
	return out, nil
}

// frame is an Ethernet frame with a UDP packet; its addresses are filled in by inject.
func frame(src, dst netip.Addr, port uint16, tos byte) []byte {
	udp := binary.BigEndian.AppendUint16(nil, port)
	udp = append(udp, 0, 80, 0, 8, 0, 0)
	b := make([]byte, 12, 64)
	if src.Is4() {
		b = append(b, 8, 0)
		ip := append([]byte{0x45, tos, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, append(src.AsSlice(), dst.AsSlice()...)...)
		sum := uint32(0)
		for i := 0; i < 20; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(ip[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
		return append(append(b, ip...), udp...)
	}
	b = append(b, 0x86, 0xdd, 0x60|tos>>4, tos<<4, 0, 0, 0, 8, unix.IPPROTO_UDP, 64)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(b, udp...)
}

// inject sends frames out of one end of a veth to the other.
func inject(from, to string, frames [][]byte) error {
	out, err := net.InterfaceByName(from)
	if err != nil {
		return err
	}
	in, err := net.InterfaceByName(to)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, f := range frames {
		copy(f, in.HardwareAddr)
		copy(f[6:], out.HardwareAddr)
		if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: out.Index}); err != nil {
			return fmt.Errorf("sending on %s: %w", from, err)
		}
	}
	return nil
}

// listed reads the set that nft filled: the interface for each source port, "" for none.
func listed() (map[int]string, error) {
	b, err := exec.Command("nft", "-j", "list", "set", "inet", "t", "back").Output()
	if err != nil {
		return nil, fmt.Errorf("nft list set: %w", err)
	}
	var all struct {
		NFTables []struct {
			Set *struct {
				Elem []struct {
					Concat []any `json:"concat"`
				} `json:"elem"`
			} `json:"set"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	out := map[int]string{}
	for _, o := range all.NFTables {
		if o.Set == nil {
			continue
		}
		for _, e := range o.Set.Elem {
			if len(e.Concat) != 2 {
				return nil, fmt.Errorf("an element %v", e)
			}
			port, ok := e.Concat[0].(float64)
			name, _ := e.Concat[1].(string)
			if !ok {
				return nil, fmt.Errorf("an element %v", e)
			}
			if strings.Trim(name, "0") == "" {
				name = ""
			}
			out[int(port)] = name
		}
	}
	return out, nil
}
