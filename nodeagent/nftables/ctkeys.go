package nftables

// ctKey is how nft prints a key of ct.
type ctKey struct {
	name string
	typ  *dataType
	len  int
}

// ctKeys are the keys in nft's words (nftables, src/ct.c, ct_templates).
var ctKeys = [...]*ctKey{
	ctState:      {"state", typeCtState, 4},
	ctDirection:  {"direction", typeCtDir, 1},
	ctStatus:     {"status", typeCtStatus, 4},
	ctMark:       {"mark", typeMark, 4},
	ctSecmark:    {"secmark", typeHostInteger, 4},
	ctExpiration: {"expiration", typeMillis, 4},
	ctHelper:     {"helper", typeString, 16},
	ctL3proto:    {"l3proto", typeNfproto, 1},
	ctSrc:        {"saddr", typeInvalid, 0},
	ctDst:        {"daddr", typeInvalid, 0},
	ctProtocol:   {"protocol", typeProto, 1},
	ctProtoSrc:   {"proto-src", typePort, 2},
	ctProtoDst:   {"proto-dst", typePort, 2},
	ctLabels:     {"label", typeCtLabel, 16},
	ctPkts:       {"packets", typeHostInteger, 8},
	ctBytes:      {"bytes", typeHostInteger, 8},
	ctAvgpkt:     {"avgpkt", typeHostInteger, 8},
	ctZone:       {"zone", typeHostInteger, 2},
	ctEventmask:  {"event", typeCtEvent, 4},
	ctSrcIP:      {"ip saddr", typeIPv4, 4},
	ctDstIP:      {"ip daddr", typeIPv4, 4},
	ctSrcIP6:     {"ip6 saddr", typeIPv6, 16},
	ctDstIP6:     {"ip6 daddr", typeIPv6, 16},
	ctID:         {"id", typeInteger, 4},
}

func (x *Ct) key() *ctKey {
	if int(x.Key) >= len(ctKeys) {
		return nil
	}
	return ctKeys[x.Key]
}

// text is the key as nft prints it, with its direction.
func (x *Ct) text() string {
	switch x.Direction {
	case directionOriginal:
		return "ct original " + x.key().name
	case directionReply:
		return "ct reply " + x.key().name
	}
	return "ct " + x.key().name
}
