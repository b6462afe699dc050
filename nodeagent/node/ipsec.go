package node

import (
	"context"
	"net/netip"
)

// IPsecDirection tells which packets a policy is about (enum of XFRM_POLICY_IN, …).
type IPsecDirection string

// The directions.
const (
	IPsecIn      IPsecDirection = "in"
	IPsecOut     IPsecDirection = "out"
	IPsecForward IPsecDirection = "fwd"
)

// IPsecPolicy is an entry of the security policy database (struct xfrm_policy).
type IPsecPolicy struct {
	Direction IPsecDirection
	Src, Dst  netip.Prefix
	// Proto is the transport protocol, 0 for all; ports are compared under their masks.
	Proto                                      uint8
	SrcPort, SrcPortMask, DstPort, DstPortMask uint16
	// Interface is the index of an interface, 0 for all. InterfaceID is that of the xfrm interface it belongs to, 0 for none.
	Interface   int
	InterfaceID uint32
	// Mark is compared under MarkMask.
	Mark, MarkMask uint32
	// Priority orders policies, the lowest first.
	Priority uint32
	// Block is true when packets are dropped; else Templates is how many transformations they need.
	Block     bool
	Templates int
	// Sub is true for a policy of type sub, which is asked beside the others.
	Sub bool
}

// IPsecPolicies are the policies of a network namespace, and whether packets are dropped that no policy is about.
type IPsecPolicies struct {
	Policies                        []IPsecPolicy
	BlockIn, BlockOut, BlockForward bool
}

// Blocks reports whether packets of a direction are dropped that no policy is about.
func (p *IPsecPolicies) Blocks(d IPsecDirection) bool {
	switch d {
	case IPsecIn:
		return p.BlockIn
	case IPsecOut:
		return p.BlockOut
	}
	return p.BlockForward
}

// IPsec reads IPsec's policies.
type IPsec interface {
	// IPsec returns the policies of the namespace; none where the kernel has no IPsec.
	IPsec(ctx context.Context) (*IPsecPolicies, error)
}
