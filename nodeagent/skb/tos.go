package skb

// TOS returns the type of service byte of IPv4 or the traffic class of IPv6, and whether it is known. What is not known of
// it reads as it stands in the packet.
func (p *Packet) TOS() (tos uint8, known bool) {
	if p.Family == IPv4 {
		v, k, _ := p.Network(1, 1)
		return v[0], k[0] == 0xff
	}
	v, k, _ := p.Network(0, 2)
	return v[0]<<4 | v[1]>>4, k[0]&0x0f == 0x0f && k[1]&0xf0 == 0xf0
}

// priorities are rt_tos2priority's (ip_tos2prio, net/ipv4/route.c), by the four bits of IPTOS_TOS_MASK.
var priorities = [16]uint32{0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4}

// Reprioritize sets the priority from the type of service, as IPv4 does with what it forwards.
func (p *Packet) Reprioritize() {
	tos, known := p.TOS()
	p.Priority, p.PriorityUnknown = priorities[tos&0x1e>>1], !known
}
