package nftables

// metaKey is how nft prints a key: its name, and whether "meta" stands before it.
type metaKey struct {
	name        string
	unqualified bool
	typ         *dataType
	len         int
}

func (k *metaKey) text() string {
	if k.unqualified {
		return k.name
	}
	return "meta " + k.name
}

// metaKeys are the keys in nft's words (nftables, src/meta.c, meta_templates).
var metaKeys = [...]*metaKey{
	metaLen:          {"length", false, typeHostInteger, 4},
	metaProtocol:     {"protocol", false, typeEtherType, 2},
	metaPriority:     {"priority", false, typeClassID, 4},
	metaMark:         {"mark", false, typeMark, 4},
	metaIif:          {"iif", true, typeIfindex, 4},
	metaOif:          {"oif", true, typeIfindex, 4},
	metaIifname:      {"iifname", true, typeIfname, 16},
	metaOifname:      {"oifname", true, typeIfname, 16},
	metaIiftype:      {"iiftype", false, typeARPHRD, 2},
	metaOiftype:      {"oiftype", false, typeARPHRD, 2},
	metaSkuid:        {"skuid", false, typeUID, 4},
	metaSkgid:        {"skgid", false, typeGID, 4},
	metaNftrace:      {"nftrace", false, typeInteger, 1},
	metaRtclassid:    {"rtclassid", false, typeRealm, 4},
	metaSecmark:      {"secmark", false, typeHostInteger, 4},
	metaNfproto:      {"nfproto", false, typeNfproto, 1},
	metaL4proto:      {"l4proto", false, typeProto, 1},
	metaBriIifname:   {"ibrname", false, typeIfname, 16},
	metaBriOifname:   {"obrname", false, typeIfname, 16},
	metaPkttype:      {"pkttype", false, typePktType, 1},
	metaCPU:          {"cpu", false, typeHostInteger, 4},
	metaIifgroup:     {"iifgroup", true, typeDevgroup, 4},
	metaOifgroup:     {"oifgroup", true, typeDevgroup, 4},
	metaCgroup:       {"cgroup", false, typeHostInteger, 4},
	metaRandom:       {"random", false, typeInteger, 4},
	metaSecpath:      {"ipsec", false, typeBoolean, 1},
	metaIifkind:      {"iifkind", false, typeIfname, 16},
	metaOifkind:      {"oifkind", false, typeIfname, 16},
	metaBriIifpvid:   {"ibrpvid", false, typeHostInteger, 2},
	metaBriIifvproto: {"ibrvproto", false, typeEtherType, 2},
	metaTime:         {"time", false, typeTime, 8},
	metaDay:          {"day", false, typeDay, 1},
	metaHour:         {"hour", false, typeHour, 4},
	metaSdif:         {"sdif", false, typeIfindex, 4},
	metaSdifname:     {"sdifname", false, typeIfname, 16},
	metaInputType:    {"iiftype", false, typeARPHRD, 2},
	metaBroute:       {"broute", false, typeInteger, 1},
	metaIifhwaddr:    {"iifhwaddr", false, typeEther, 6},
}

func (x *Meta) key() *metaKey {
	if int(x.Key) >= len(metaKeys) {
		return nil
	}
	return metaKeys[x.Key]
}
