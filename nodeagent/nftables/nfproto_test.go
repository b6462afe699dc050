package nftables

import (
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// At hooks of bridges and devices the kernel's nft_pf is the hook's family (struct nf_hook_state.pf).
func TestFamilyThatRulesSee(t *testing.T) {
	p, err := skb.New(skb.TCP, netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2"))
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[node.NFTFamily]uint8{node.NFTInet: 10, node.NFTIPv6: 10, node.NFTBridge: 7, node.NFTNetdev: 5} {
		if is := nfproto(f, p); is != want {
			t.Errorf("family %s: %d, want %d", f, is, want)
		}
	}
}
