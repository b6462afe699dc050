package ctnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Attributes of conntrack messages (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctaTupleOrig     = 1
	ctaTupleReply    = 2
	ctaStatus        = 3
	ctaProtoinfo     = 4
	ctaHelp          = 5
	ctaTimeout       = 7
	ctaMark          = 8
	ctaCountersOrig  = 9
	ctaCountersReply = 10
	ctaZone          = 18
	ctaTimestamp     = 20
	ctaLabels        = 22
	ctaFilter        = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
)

// Flags of CTA_FILTER, by attribute of a tuple.
const (
	filterIPDst   = 1 << 1
	filterProto   = 1 << 3
	filterPortDst = 1 << 5
)

const genmsgSize = 4 // struct nfgenmsg

// Decode reads one IPCTNL_MSG_CT_NEW message (behind the netlink header).
func Decode(data []byte) (*skb.Conn, error) {
	if len(data) < genmsgSize {
		return nil, errors.New("a short conntrack message")
	}
	c := &skb.Conn{}
	err := nlattr.Each(data[genmsgSize:], func(typ uint16, b []byte) error {
		var err error
		switch typ {
		case ctaTupleOrig:
			c.Orig, err = decodeTuple(b, &c.Zone)
		case ctaTupleReply:
			c.Reply, err = decodeTuple(b, &c.ReplyZone)
		case ctaStatus:
			err = be32(b, &c.Status)
		case ctaMark:
			err = be32(b, &c.Mark)
		case ctaTimeout:
			err = be32(b, &c.TimeoutSeconds)
		case ctaZone:
			if len(b) < 2 {
				return errors.New("a short conntrack zone")
			}
			c.Zone = binary.BigEndian.Uint16(b)
			c.ReplyZone = c.Zone
		case ctaTimestamp:
			err = decodeTimestamp(b, &c.Started)
		case ctaLabels:
			c.Labels = append([]byte(nil), b...)
		case ctaHelp:
			err = nlattr.Each(b, func(typ uint16, b []byte) error {
				if typ == 1 { // CTA_HELP_NAME
					c.Helper = nlattr.Text(b)
				}
				return nil
			})
		case ctaProtoinfo:
			err = decodeProtoinfo(c, b)
		case ctaCountersOrig:
			c.Counted = true
			err = decodeCounters(b, &c.OrigPackets, &c.OrigBytes)
		case ctaCountersReply:
			err = decodeCounters(b, &c.ReplyPackets, &c.ReplyBytes)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("decoding a conntrack entry: %w", err)
	}
	if !c.Orig.Src.Addr().IsValid() || !c.Reply.Src.Addr().IsValid() {
		return nil, errors.New("decoding a conntrack entry: a tuple is missing")
	}
	return c, nil
}

func be32(b []byte, v *uint32) error {
	if len(b) < 4 {
		return fmt.Errorf("a 32-bit attribute of %d bytes", len(b))
	}
	*v = binary.BigEndian.Uint32(b)
	return nil
}

func decodeCounters(b []byte, packets, bytes *uint64) error {
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		if len(b) < 8 {
			return nil
		}
		switch typ {
		case 1: // CTA_COUNTERS_PACKETS
			*packets = binary.BigEndian.Uint64(b)
		case 2: // CTA_COUNTERS_BYTES
			*bytes = binary.BigEndian.Uint64(b)
		}
		return nil
	})
}

// decodeTimestamp reads CTA_TIMESTAMP_START: nanoseconds since 1970, noted where net.netfilter.nf_conntrack_timestamp is on.
func decodeTimestamp(b []byte, start *time.Time) error {
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		if typ != 1 {
			return nil
		}
		if len(b) < 8 {
			return fmt.Errorf("a time stamp of %d bytes", len(b))
		}
		if v := binary.BigEndian.Uint64(b); v != 0 && v <= math.MaxInt64 {
			*start = time.Unix(0, int64(v))
		}
		return nil
	})
}

func decodeProtoinfo(c *skb.Conn, b []byte) error {
	return nlattr.Each(b, func(typ uint16, b []byte) error {
		if typ == 3 { // CTA_PROTOINFO_SCTP
			return decodeSCTP(c, b)
		}
		if typ != 1 { // CTA_PROTOINFO_TCP
			return nil
		}
		return nlattr.Each(b, func(typ uint16, b []byte) error {
			if typ == 1 && len(b) >= 1 { // CTA_PROTOINFO_TCP_STATE
				c.TCPState = b[0]
			}
			const closeInit = 4                        // IP_CT_TCP_FLAG_CLOSE_INIT
			if (typ == 4 || typ == 5) && len(b) >= 1 { // CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, _REPLY
				c.TCPClosed = c.TCPClosed || b[0]&closeInit != 0
			}
			return nil
		})
	})
}

// decodeSCTP reads the verification tags of both directions.
func decodeSCTP(c *skb.Conn, b []byte) error {
	var tags [2]uint32
	seen := 0
	err := nlattr.Each(b, func(typ uint16, b []byte) error {
		if typ != 2 && typ != 3 { // CTA_PROTOINFO_SCTP_VTAG_ORIGINAL, _REPLY
			return nil
		}
		seen++
		return be32(b, &tags[typ-2])
	})
	if err == nil && seen == 2 {
		c.SCTPTags = &tags
	}
	return err
}

// decodeTuple reads a tuple. An entry that is in a zone with one of its directions only has the zone in that tuple.
func decodeTuple(b []byte, zone *uint16) (skb.Tuple, error) {
	var t skb.Tuple
	var src, dst netip.Addr
	var sport, dport uint16
	var typ8, code uint8
	err := nlattr.Each(b, func(typ uint16, b []byte) error {
		switch typ {
		case ctaTupleZone:
			if len(b) < 2 {
				return errors.New("a short conntrack zone")
			}
			*zone = binary.BigEndian.Uint16(b)
		case ctaTupleIP:
			return nlattr.Each(b, func(typ uint16, b []byte) error {
				a, ok := netip.AddrFromSlice(b)
				switch {
				case !ok:
					return fmt.Errorf("an address of %d bytes", len(b))
				case typ == 1, typ == 3: // CTA_IP_V4_SRC, CTA_IP_V6_SRC
					src = a
				case typ == 2, typ == 4:
					dst = a
				}
				return nil
			})
		case ctaTupleProto:
			return nlattr.Each(b, func(typ uint16, b []byte) error {
				switch {
				case len(b) < 1, (typ == 2 || typ == 3 || typ == 4 || typ == 7) && len(b) < 2:
					return fmt.Errorf("a tuple attribute %d of %d bytes", typ, len(b))
				case typ == 1: // CTA_PROTO_NUM
					t.Proto = b[0]
				case typ == 2, typ == 4, typ == 7: // SRC_PORT, ICMP_ID, ICMPV6_ID
					sport = binary.BigEndian.Uint16(b)
				case typ == 3: // DST_PORT
					dport = binary.BigEndian.Uint16(b)
				case typ == 5, typ == 8: // ICMP_TYPE, ICMPV6_TYPE
					typ8 = b[0]
				case typ == 6, typ == 9:
					code = b[0]
				}
				return nil
			})
		}
		return nil
	})
	if t.Proto == skb.ICMP || t.Proto == skb.ICMPv6 {
		dport = uint16(typ8)<<8 | uint16(code)
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return t, err
}

// encodeTuple writes a tuple's attributes. With destOnly only protocol, destination address and port are written.
func encodeTuple(t skb.Tuple, destOnly bool) []byte {
	var ip, proto []byte
	srcType, dstType := uint16(1), uint16(2)
	if t.Dst.Addr().Is6() {
		srcType, dstType = 3, 4
	}
	if !destOnly {
		ip = nlattr.Append(ip, srcType, t.Src.Addr().AsSlice())
	}
	ip = nlattr.Append(ip, dstType, t.Dst.Addr().AsSlice())
	proto = nlattr.Append(proto, 1, []byte{t.Proto})
	switch t.Proto {
	case skb.ICMP, skb.ICMPv6:
		base := uint16(4)
		if t.Proto == skb.ICMPv6 {
			base = 7
		}
		proto = nlattr.Append(proto, base, nlattr.BigUint16(t.Src.Port()))
		proto = nlattr.Append(proto, base+1, []byte{byte(t.Dst.Port() >> 8)})
		proto = nlattr.Append(proto, base+2, []byte{byte(t.Dst.Port())})
	default:
		if !destOnly {
			proto = nlattr.Append(proto, 2, nlattr.BigUint16(t.Src.Port()))
		}
		if !destOnly || t.Dst.Port() != 0 {
			proto = nlattr.Append(proto, 3, nlattr.BigUint16(t.Dst.Port()))
		}
	}
	return nlattr.Append(nlattr.Append(nil, ctaTupleIP|nlattr.Nested, ip), ctaTupleProto|nlattr.Nested, proto)
}
