package xt

import (
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlattr"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/test/fuzz"
)

func header(name, typ string) []byte {
	b := nlattr.Append(nil, ipsetAttrSetName, nlattr.String(name))
	b = nlattr.Append(b, ipsetAttrTypeName, nlattr.String(typ))
	b = nlattr.Append(b, ipsetAttrFamily, []byte{2})
	data := nlattr.Append(nil, ipsetAttrPort, nlattr.BigUint16(100))
	data = nlattr.Append(data, ipsetAttrPortTo, nlattr.BigUint16(200))
	return nlattr.Append(b, ipsetAttrData|nlattr.Nested, data)
}

func TestAnIPSetIsDecodedOrRefused(t *testing.T) {
	var s node.IPSet
	if err := decodeIPSet(&s, header("ports", "bitmap:port")); err != nil {
		t.Fatal(err)
	}
	if s.Name != "ports" || s.Type != "bitmap:port" || s.Family != skb.IPv4 || s.PortFrom != 100 || s.PortTo != 200 {
		t.Errorf("got %+v", s)
	}
	for name, b := range map[string][]byte{
		"an attribute longer than the message": {0xff, 0, 2, 0},
		"an empty family":                      nlattr.Append(nil, ipsetAttrFamily, nil),
		"a short port":                         nlattr.Append(nil, ipsetAttrData, nlattr.Append(nil, ipsetAttrPort, []byte{1})),
	} {
		if err := decodeIPSet(&s, b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzIPSet(f *testing.F) {
	f.Add(header("web", "hash:ip,port"))
	member := nlattr.Append(nil, 1, nlattr.Append(nil, ipsetAttrName, nlattr.String("inner")))
	f.Add(nlattr.Append(nil, ipsetAttrADT|nlattr.Nested, member))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, func() {
			var s node.IPSet
			_ = decodeIPSet(&s, b)
			members, err := decodeIPSetMembers(b)
			if err != nil && members != nil {
				t.Error("members beside an error")
			}
			if len(members) > len(b) {
				t.Errorf("%d members in %d bytes", len(members), len(b))
			}
		})
	})
}
