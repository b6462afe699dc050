// Package faults breaks the engine on purpose, one fault at a time, and requires that the oracle notices. A test that has
// never failed proves nothing.
package faults

// Fault is one change of the engine's source.
type Fault struct {
	// Name says what the broken engine gets wrong.
	Name string
	// File is the path below the module's root; Old stands there exactly once and becomes New.
	File, Old, New string
}

// All are the faults.
var All = []Fault{
	{"xtables ignores an inverted protocol", "nodeagent/xtables/header.go",
		`return proto == 0 || (uint16(p.Proto()) != proto) == (inv&invProto != 0)`,
		`return proto == 0 || uint16(p.Proto()) == proto`},
	{"xtables compares addresses without the mask", "nodeagent/xtables/header.go",
		`if v&mask[i] != want[i] {`, `if mask[i] != 0 && v != want[i] {`},
	{"xtables compares interface names without the wildcard", "nodeagent/xtables/header.go",
		`if (c^iface[i])&mask[i] != 0 {`, `if c != iface[i] {`},
	{"addrtype takes any IPv6 type of several", "nodeagent/xtables/address.go",
		`mask &= addrAnycast | addrLocal | addrUnreachable`, `mask &= addrAnycast | addrLocal | addrUnreachable | addrUnicast`},
	{"addrtype's inversion is lost", "nodeagent/xtables/address.go",
		`if err != nil || ok == (d.flags&addrtypeInvertDest != 0) {`, `if err != nil || !ok {`},
	{"iprange leaves its last address out", "nodeagent/xtables/address.go",
		`return low.Compare(a) <= 0 && a.Compare(high) <= 0`, `return low.Compare(a) <= 0 && a.Compare(high) < 0`},
	{"statistic's chance is of 2^32", "nodeagent/xtables/chance.go",
		`return c.ch.Chance(big.NewRat(n, 1<<31)) != invert, nil`, `return c.ch.Chance(big.NewRat(n, 1<<32)) != invert, nil`},
	{"the mark match ignores its mask", "nodeagent/xtables/mark.go",
		`return (c.p.Mark&u32(c.info, 4) == u32(c.info, 0)) != (c.info[8] != 0), nil`, `return (c.p.Mark == u32(c.info, 0)) != (c.info[8] != 0), nil`},
	{"MARK sets instead of changing bits", "nodeagent/xtables/mark.go",
		`c.p.Mark = before&^u32(c.info, 4) ^ u32(c.info, 0)`, `c.p.Mark = u32(c.info, 0)`},
	{"CONNMARK restores the whole mark", "nodeagent/xtables/mark.go",
		`c.p.Mark = c.p.Mark&^nfmask ^ shift(ct.Mark&ctmask)`, `c.p.Mark = 1`},
	{"nft's less is less or equal", "nodeagent/nftables/cmp.go",
		`t = v.less(x.Data)
	case CmpLessEqual:`, `t = v.lessEqual(x.Data)
	case CmpLessEqual:`},
	{"nft's not equal is equal", "nodeagent/nftables/cmp.go", `t = v.equals(x.Data).not()`, `t = v.equals(x.Data)`},
	{"nft's masks are not applied", "nodeagent/nftables/bitwise.go",
		`out.b[i] = v.b[i]&v.known[i]&x.Mask[i] ^ x.Xor[i]`, `out.b[i] = v.b[i]&(v.known[i]|x.Mask[i]) ^ x.Xor[i]`},
	{"nft's lookup ignores its inversion", "nodeagent/nftables/lookup.go", `if (e != nil) == x.Inverted {`, `if e == nil {`},
	{"numgen's offset is lost", "nodeagent/nftables/numgen.go",
		`v = knownHost32(uint32(st.ch.Uniform(int(x.Modulus))) + x.Offset)`, `v = knownHost32(uint32(st.ch.Uniform(int(x.Modulus-1))) + x.Offset)`},
	{"an address out of a range ignores the destination", "nodeagent/nat/hash.go",
		`seed = dst[words-1] ^ uint32(zone)`, `seed = uint32(zone)`},
	{"destination NAT hashes the old destination", "nodeagent/nat/hash.go", `if !r.Source {`, `if r.Source {`},
	{"masquerade ignores the next hop's subnet", "nodeagent/nat/select.go", `if subnet(a).Contains(hop) {`, `if subnet(a).Contains(p.Dst()) && hop.IsValid() {`},
	{"NETMAP replaces the host bits", "nodeagent/nat/nat.go", `ab[i] = ab[i]&^mask | low[i]&mask`, `ab[i] = low[i] | mask&0`},
	{"a random port is taken as kept", "nodeagent/nat/nat.go", `// NF_NAT_RANGE_PROTO_RANDOM and _RANDOM_ALL.
		return 0`, `return port`},
	{"chains of one priority run in order of registration", "nodeagent/walk/hooks.go",
		`-cmp.Compare(a.Handle, b.Handle)`, `cmp.Compare(a.Handle, b.Handle)`},
	{"the kernel's lists of hooks are read backwards", "nodeagent/live/hooklist/reader.go",
		`for i := range count {`, `for i := count - 1; i >= 0; i-- {`},
	{"legacy tables among nat chains are left out", "nodeagent/walk/listing.go",
		`		g := alone(f)
		nat.groups`, `		if in.Kind == node.HookTable {
			continue
		}
		g := alone(f)
		nat.groups`},
	{"connection tracking in the kernel's lists lets every packet pass", "nodeagent/walk/listing.go",
		`return function{fn.Priority, "connection tracking", (*walk).track}`, `return function{}`},
	{"an accept ends the hook", "nodeagent/walk/nft.go", `	case rule.Accept:
		next(b)`, `	case rule.Accept:
		w.end(b, end{verdict: trace.Forwarded})`},
	{"an nft goto is a jump", "nodeagent/walk/nft.go", `if res.Code == rule.Jump {`, `if res.Code == rule.Jump || res.Code == rule.Goto {`},
	{"a legacy goto is a jump", "nodeagent/walk/legacy.go", `	case rule.Goto:
		return`, `	case rule.Goto:
		back := at.behind(r)
		at.stack = &back
		return`},
	{"nft policies accept", "nodeagent/walk/nft.go", `if base.Policy != rule.Drop {`, `if base.Policy == rule.Drop {`},
	{"a mark in mangle OUTPUT does not route again", "nodeagent/walk/legacy.go",
		`if t.Name == "mangle" && b.p.Hook == skb.Output && routingKey(b.p) != before {`, `if false && routingKey(b.p) != before {`},
	{"a chain of type route does not route again", "nodeagent/walk/nft.go",
		`if c.Type == "route" && b.p.Hook == skb.Output && routingKey(b.p) != before {`, `if false && routingKey(b.p) != before {`},
	{"DNAT in OUTPUT does not route again", "nodeagent/walk/conntrack.go", `case hook == skb.Output && own.Dst.Addr() != other.Src.Addr():`, `case false:`},
	{"replies are not restored at INPUT", "nodeagent/walk/hooks.go", `if translates && k.hook != skb.Forward {`, `if translates && k.hook != skb.Forward && len(nat.groups) > 0 {`},
	{"conntrack is always active", "nodeagent/walk/conntrack.go", `func (w *walk) usesConntrack(f skb.Family) (bool, error) {`, `func (w *walk) usesConntrack(f skb.Family) (bool, error) {
	if w != nil {
		return true, nil
	}`},
	{"a packet of a known flow asks the nat chains", "nodeagent/walk/conntrack.go",
		`case seen:
		p.State = skb.CtEstablished
`, `case seen:
		p.State = skb.CtNew
`},
	{"IPv6 loopback addresses may arrive from outside", "nodeagent/walk/route.go",
		`p.Src().IsLoopback() || p.Dst().IsLoopback() || p.Src().IsMulticast()`, `p.Src().IsMulticast()`},
	{"a route that prohibits is unreachable", "nodeagent/walk/route.go", `say("prohibit", "a route prohibits "+to, "icmp-admin-prohibited")`, `say("prohibit", "a route prohibits "+to, "icmp-host-unreachable")`},
	{"a packet that the node takes goes through FORWARD", "nodeagent/walk/route.go",
		`w.pass(b, skb.Input, func(b *branch) { w.ipsec(`, `w.pass(b, skb.Forward, func(b *branch) { w.ipsec(`},
	{"fragments pass conntrack as they are", "nodeagent/walk/fragment.go", `	if on {`, `	if on && false {`},
	{"a first fragment is answered", "nodeagent/xtables/reject.go", `if c.p.Fragment() && (with == tcpReset || skb.ChecksumOfAll(c.p.Proto())) {`, `if false {`},
	{"a later fragment has ports", "nodeagent/skb/parse.go", `p.later = binary.BigEndian.Uint16(p.data[6:])&0x1fff != 0`, `p.later = false`},
	{"the TTL does not count down", "nodeagent/walk/route.go", `[]byte{v[0] - 1}`, `[]byte{v[0]}`},
	{"nftables looks behind an authentication header", "nodeagent/nftables/eval.go", `	if p.Whole() {
		restore`, `	if false {
		restore`},
	{"extension header lengths are off by one", "nodeagent/xtables/ipv6header.go", `		size := (int(b[1]) + 1) * 8
		if whole {`, `		size := (int(b[1]) + 2) * 8
		if whole {`},
	{"a segment of a closed connection never opens one", "nodeagent/walk/tcp.go", `				return tcpReopens`, `				return tcpGoesOn`},
	{"any segment opens a flow", "nodeagent/walk/tcp.go", `	if senselessTCP(p) {
		return false, nil
	}`, `	if p != nil {
		return true, nil
	}`},
	{"a frame for another port is the bridge's", "nodeagent/walk/bridge.go", `		return skb.PacketOtherHost`, `		return skb.PacketHost`},
	{"the bridge's IP hooks are never called", "nodeagent/walk/bridge.go", `return err == nil && (v != "0" || own), err`, `return err == nil && (v != "0" || own) && false, err`},
	{"physdev does not compare the output port", "nodeagent/xtables/device.go", `out != "" && is(physOut, interfaceEqual(out, c.info[32:48], c.info[48:64]))`, `out != ""`},
	{"fwd drops", "nodeagent/nftables/fwd.go", `st.res.Code = rule.Stolen`, `st.res.Code = rule.Drop`},
	{"an untracked packet is new", "nodeagent/walk/conntrack.go", `if p.Ct != nil || p.State == skb.CtUntracked {`, `if p.Ct != nil {`},
	{"of the rules of a long chain that a packet may not miss the first is not asked for", "nodeagent/live/rules.go",
		`for _, a := range left {`, `for _, a := range left[min(1, len(left)):] {`},
	{"a comparison in kernel memory is never inverted", "nodeagent/live/chainmem/leading.go", `if x[l.inverted] != 0 {`, `if false {`},
}
