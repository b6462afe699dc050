//go:build linux

package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// A record of the drop program: reason, namespace and interface in host order, the start of the IP header, the ports.
const (
	recordReason    = 0
	recordNamespace = 4
	recordInterface = 8
	recordHeader    = 16
	headerBytes     = 40
	recordPorts     = recordHeader + headerBytes
	recordSize      = 64
)

// skbLayout is where the running kernel keeps what the program reads, in bytes (struct sk_buff, net_device, net).
type skbLayout struct {
	head, networkHeader, dev     uint32
	ifindex, net, namespaceInode uint32
	// reasons are the names of enum skb_drop_reason by value.
	reasons map[uint32]string
}

// readLayout takes the layout out of the kernel's own type information. A kernel whose tracepoint gives no reason (before 5.17)
// or that has no type information is ErrNotSupported.
func readLayout() (skbLayout, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return skbLayout{}, fmt.Errorf("%w: %w", node.ErrNotSupported, err)
	}
	var reasons *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &reasons); err != nil {
		return skbLayout{}, fmt.Errorf("it gives no reasons (it needs Linux 5.17): %w", node.ErrNotSupported)
	}
	l := skbLayout{reasons: map[uint32]string{}}
	for _, v := range reasons.Values {
		l.reasons[uint32(v.Value)] = v.Name
	}
	for _, f := range []struct {
		at      *uint32
		in      string
		members []string
	}{
		{&l.head, "sk_buff", []string{"head"}},
		{&l.networkHeader, "sk_buff", []string{"network_header"}},
		{&l.dev, "sk_buff", []string{"dev"}},
		{&l.ifindex, "net_device", []string{"ifindex"}},
		{&l.net, "net_device", []string{"nd_net", "net"}},
		{&l.namespaceInode, "net", []string{"ns", "inum"}},
	} {
		var s *btf.Struct
		if err := spec.TypeByName(f.in, &s); err != nil {
			return skbLayout{}, fmt.Errorf("%w: struct %s: %w", node.ErrNotSupported, f.in, err)
		}
		off, err := offsetOf(s, f.members...)
		if err != nil {
			return skbLayout{}, fmt.Errorf("%w: struct %s: %w", node.ErrNotSupported, f.in, err)
		}
		*f.at = off
	}
	return l, nil
}

var errNoMember = errors.New("no such member")

// offsetOf returns the offset of a member of a member … in bytes. Members without a name are looked through.
func offsetOf(t btf.Type, members ...string) (uint32, error) {
	if len(members) == 0 {
		return 0, nil
	}
	var list []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		list = t.Members
	case *btf.Union:
		list = t.Members
	}
	for _, m := range list {
		rest := members
		if m.Name == members[0] {
			rest = members[1:]
		} else if m.Name != "" {
			continue
		}
		off, err := offsetOf(m.Type, rest...)
		if err == nil {
			return m.Offset.Bytes() + off, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", errNoMember, members[0])
}

// dropProgram is a program for the tracepoint skb:kfree_skb. Of the packets of one protocol with a source or destination port
// that is a key of ports it writes a record into the ring buffer events.
//
//	r6 context, r7 packet, r9 header in the packet; the record lies on the stack
func dropProgram(l skbLayout, proto uint8, ports, events *ebpf.Map) *ebpf.ProgramSpec {
	const at = -recordSize
	stack := func(off int16) int16 { return at + off }
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, 0, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
	}
	for off := int16(0); off < recordSize; off += 8 {
		ins = append(ins, asm.StoreMem(asm.RFP, stack(off), asm.R1, asm.DWord))
	}
	ins = append(ins,
		// The IP header.
		asm.LoadMem(asm.R9, asm.R7, int16(l.head), asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, int16(l.networkHeader), asm.Half),
		asm.Add.Reg(asm.R9, asm.R1),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(stack(recordHeader))),
		asm.Mov.Imm(asm.R2, headerBytes),
		asm.Mov.Reg(asm.R3, asm.R9),
		asm.FnProbeReadKernel.Call(),
		asm.JNE.Imm(asm.R0, 0, "exit"),
		// Its version tells its length and where the protocol stands.
		asm.LoadMem(asm.R1, asm.RFP, stack(recordHeader), asm.Byte),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 4),
		asm.JEq.Imm(asm.R2, 6, "ipv6"),
		asm.JNE.Imm(asm.R2, 4, "exit"),
		asm.And.Imm(asm.R1, 0xf),
		asm.LSh.Imm(asm.R1, 2),
		asm.LoadMem(asm.R2, asm.RFP, stack(recordHeader+9), asm.Byte),
		asm.Ja.Label("transport"),
		asm.Mov.Imm(asm.R1, 40).WithSymbol("ipv6"),
		asm.LoadMem(asm.R2, asm.RFP, stack(recordHeader+6), asm.Byte),
		asm.JNE.Imm(asm.R2, int32(proto), "exit").WithSymbol("transport"),
		// The ports.
		asm.Add.Reg(asm.R9, asm.R1),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, int32(stack(recordPorts))),
		asm.Mov.Imm(asm.R2, 4),
		asm.Mov.Reg(asm.R3, asm.R9),
		asm.FnProbeReadKernel.Call(),
		asm.JNE.Imm(asm.R0, 0, "exit"),
	)
	for _, off := range []int16{recordPorts, recordPorts + 2} {
		ins = append(ins,
			asm.LoadMapPtr(asm.R1, ports.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, int32(stack(off))),
			asm.FnMapLookupElem.Call(),
			asm.JNE.Imm(asm.R0, 0, "ours"),
		)
	}
	ins = append(ins,
		asm.Ja.Label("exit"),
		asm.LoadMem(asm.R1, asm.R6, 16, asm.DWord).WithSymbol("ours"), // the third argument of the tracepoint
		asm.StoreMem(asm.RFP, stack(recordReason), asm.R1, asm.Word),
		// A packet that has no interface reads as 0 all the way down.
		asm.LoadMem(asm.R8, asm.R7, int16(l.dev), asm.DWord),
		asm.LoadMem(asm.R1, asm.R8, int16(l.ifindex), asm.Word),
		asm.StoreMem(asm.RFP, stack(recordInterface), asm.R1, asm.Word),
		asm.LoadMem(asm.R8, asm.R8, int16(l.net), asm.DWord),
		asm.LoadMem(asm.R1, asm.R8, int16(l.namespaceInode), asm.Word),
		asm.StoreMem(asm.RFP, stack(recordNamespace), asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, events.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, at),
		asm.Mov.Imm(asm.R3, recordSize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
		asm.Return(),
	)
	return &ebpf.ProgramSpec{
		Name: "svctrace_drops", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "kfree_skb",
		License: "GPL", Instructions: ins,
	}
}
