package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// Attributes of a chain and of its hook (enum nft_chain_attributes, enum nft_hook_attributes).
const (
	attrChainTable    = 1
	attrChainHandle   = 2
	attrChainName     = 3
	attrChainHook     = 4
	attrChainPolicy   = 5
	attrChainType     = 7
	attrChainCounters = 8
	attrChainFlags    = 10
	attrChainUserdata = 12

	attrHookNumber   = 1
	attrHookPriority = 2
	attrHookDevice   = 3
	attrHookDevices  = 4

	attrDeviceName = 1
)

// Verdicts that a policy can have (include/uapi/linux/netfilter.h).
const (
	nfDrop   = 0
	nfAccept = 1
)

// Chain is a chain's header.
type Chain struct {
	Family      node.NFTFamily
	Table, Name string
	Handle      uint64
	// Base is true when the chain is attached to a hook; the fields below tell where.
	Base bool
	// Type is filter, nat or route.
	Type string
	// Hook is the hook's number in its family (enum nf_inet_hooks, nf_netdev_hooks …).
	Hook     uint32
	Priority int32
	// Devices are the interfaces of a chain of family netdev, or of inet's ingress hook.
	Devices []string
	// Policy is Accept or Drop.
	Policy rule.Code
	// Comment is the chain's comment, empty when it has none.
	Comment string
	// Packets and Bytes count what reached the policy, when Counted.
	Packets, Bytes uint64
	Counted        bool
	// TableHandle is the handle of the chain's table. A chain message does not carry it: who joins tables and chains
	// fills it in.
	TableHandle uint64
}

// DecodeChain reads an NFT_MSG_NEWCHAIN message.
func DecodeChain(o node.NFTObject) (Chain, error) {
	t, err := attributes(o.Attrs).find(attrChainUserdata)
	if err != nil {
		return Chain{}, fmt.Errorf("decoding a chain: %w", err)
	}
	if !t.has(attrChainName) || !t.has(attrChainTable) {
		return Chain{}, fmt.Errorf("decoding a chain: %w: no name", ErrMalformed)
	}
	c := Chain{
		Family:  o.Family,
		Table:   t.str(attrChainTable),
		Name:    t.str(attrChainName),
		Handle:  t.u64(attrChainHandle),
		Policy:  rule.Accept,
		Comment: userdataComment(t[attrChainUserdata]),
	}
	if !t.has(attrChainHook) {
		return c, nil
	}
	h, err := t.nested(attrChainHook, attrHookDevices)
	if err != nil {
		return Chain{}, fmt.Errorf("decoding the hook of chain %s: %w", c.Name, err)
	}
	c.Base = true
	c.Type = t.str(attrChainType)
	c.Hook = h.u32(attrHookNumber)
	c.Priority = int32(h.u32(attrHookPriority))
	if h.has(attrHookDevice) {
		c.Devices = append(c.Devices, h.str(attrHookDevice))
	}
	err = attributes(h[attrHookDevices]).each(func(typ uint16, data []byte) error {
		if name := cString(data); typ == attrDeviceName && (len(c.Devices) == 0 || c.Devices[0] != name) {
			c.Devices = append(c.Devices, name)
		}
		return nil
	})
	if err != nil {
		return Chain{}, fmt.Errorf("decoding the devices of chain %s: %w", c.Name, err)
	}
	if t.has(attrChainPolicy) && t.u32(attrChainPolicy) == nfDrop {
		c.Policy = rule.Drop
	}
	if t.has(attrChainCounters) {
		n, err := t.nested(attrChainCounters, 2)
		if err != nil {
			return Chain{}, fmt.Errorf("decoding the counters of chain %s: %w", c.Name, err)
		}
		c.Bytes, c.Packets, c.Counted = n.u64(1), n.u64(2), true
	}
	return c, nil
}
