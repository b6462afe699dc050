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
