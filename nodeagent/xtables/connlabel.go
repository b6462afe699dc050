package xtables

import (
	"fmt"
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// connectionMatches test what hangs on a connection: xt_connlabel.c, xt_helper.c.
var connectionMatches = []module{
	{name: "connlabel", modelled: Yes, tracks: true, revisions: []revision{{size: 4, match: matchConnlabel, text: textConnlabel}}},
	{name: "helper", modelled: Yes, tracks: true, effect: inert, note: "a flow that a helper expected: depends", revisions: []revision{{size: 34, match: matchHelper, text: textHelper}}},
}

// Options of struct xt_connlabel_mtinfo, and the number of label bits.
const (
	connlabelInvert = 1
	connlabelSet    = 2
	connlabelBits   = 128
)

func connlabelWrites(info []byte) bool { return len(info) >= 4 && u16(info, 2)&connlabelSet != 0 }

// matchConnlabel is connlabel_mt. A connection made while a rule uses labels has room for them; one made before has not,
// and its label cannot be set.
func matchConnlabel(c *call) (bool, error) {
	bit, options := u16(c.info, 0), u16(c.info, 2)
	invert := options&connlabelInvert != 0
	ct := c.p.Ct
	if ct == nil || bit >= connlabelBits {
		return invert, nil
	}
	at, mask := int(bit/8), byte(1)<<(bit%8)
	if at < len(ct.Labels) && ct.Labels[at]&mask != 0 {
		return !invert, nil
	}
	if options&connlabelSet == 0 {
		return invert, nil
	}
	if !ct.New && len(ct.Labels) == 0 && !c.depends("the connection has room for labels") {
		return invert, nil
	}
	labels := slices.Clone(ct.Labels)
	labels = append(labels, make([]byte, max(connlabelBits/8-len(labels), 0))...)
	labels[at] |= mask
	ct.Labels = labels
	return !invert, nil
}

func textConnlabel(w *writer, info []byte) {
	options := u16(info, 2)
	w.inv(options&connlabelInvert != 0, "--label", fmt.Sprintf(`"%d"`, u16(info, 0)))
	w.flag(options&connlabelSet != 0, "--set")
}

// matchHelper is helper_mt: it asks for the helper of the connection that expected this one.
func matchHelper(c *call) (bool, error) {
	invert := u32(c.info, 0) != 0
	if c.p.Ct == nil || c.p.Ct.Status&skb.StatusExpected == 0 {
		return invert, nil
	}
	return c.depends("the flow was expected by helper %q", cstring(c.info[4:34])) != invert, nil
}

func textHelper(w *writer, info []byte) {
	w.inv(u32(info, 0) != 0, "--helper", quote(cstring(info[4:34])))
}
