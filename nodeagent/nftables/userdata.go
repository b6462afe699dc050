package nftables

// Types of the user data that nft attaches to rules, sets and elements: a list of type, length, value with one byte each
// for type and length (libnftnl, include/libnftnl/udata.h). A comment has type 0 in all of them.
const userdataTypeComment = 0

// Types in a set's user data (enum nftnl_udata_set_types).
const (
	userdataSetKeyOrder     = 0
	userdataSetDataOrder    = 1
	userdataSetComment      = 7
	userdataElementFlags    = 1
	userdataElementInterval = 1
)

// userdata calls f for each piece.
func userdata(b []byte, f func(typ uint8, value []byte)) {
	for len(b) >= 2 {
		n := int(b[1])
		if 2+n > len(b) {
			return
		}
		f(b[0], b[2:2+n])
		b = b[2+n:]
	}
}

// userdataComment returns the comment in user data, or "".
func userdataComment(b []byte) string {
	comment := ""
	userdata(b, func(typ uint8, value []byte) {
		if typ == userdataTypeComment {
			comment = cString(value)
		}
	})
	return comment
}
