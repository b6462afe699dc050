package nftables

import (
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// The kernel's sets are read as they were before the packet. What the packet itself does to a set is noted on it, so that
// a later rule which looks the same set up finds it.

// touchName is the name under which a set stands in Packet.Sets, apart from the names of ipsets.
func (st *state) touchName(set string) string {
	return "nft " + st.r.Family.String() + " " + st.r.Table + " " + set
}

// touch notes that the packet has put a key into a set, or taken it out.
func (st *state) touch(set string, key []byte, removed bool) {
	p := st.p
	p.Sets = append(p.Sets[:len(p.Sets):len(p.Sets)], skb.SetTouch{Set: st.touchName(set), Entry: string(key), Removed: removed})
}

// touched tells what the packet itself did with a key: nothing, or put it in (true) or took it out (false). open is true
// when it changed the set under a key that cannot be compared.
func (st *state) touched(set string, v value) (in, known, open bool) {
	name := st.touchName(set)
	for i := len(st.p.Sets) - 1; i >= 0; i-- {
		t := st.p.Sets[i]
		if t.Set != name {
			continue
		}
		if t.Entry == "" || !v.all() {
			return false, false, true
		}
		if t.Entry == string(v.b) {
			return !t.Removed, true, false
		}
	}
	return false, false, false
}
