//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
)

// Kind is how a packet ended, as it was observed.
type Kind string

// The kinds of a Fate.
const (
	// Forwarded: it left the node by an interface.
	Forwarded Kind = "forwarded"
	// Local: the node's own stack took it.
	Local Kind = "local"
	// Refused: it was dropped and the sender was told.
	Refused Kind = "refused"
	// Silent: it was seen nowhere.
	Silent Kind = "silent"
)

// Fate is what the kernel did with a packet.
type Fate struct {
	Kind Kind
	// Out is the interface a forwarded packet left by.
	Out string
	// Src and Dst are the addresses it had at its end; ports are 0 for ICMP.
	Src, Dst netip.AddrPort
	// With is the refusal: an ICMP error's or reset's name, or the error that the sending process got.
	With string
}

// String writes a fate as ParseFate reads it.
func (f Fate) String() string {
	switch f.Kind {
	case Forwarded:
		return fmt.Sprintf("forwarded %s %s %s", f.Out, f.Src, f.Dst)
	case Local:
		return fmt.Sprintf("local %s %s", f.Src, f.Dst)
	case Refused:
		return "refused " + f.With
	}
	return string(f.Kind)
}
