package node

import "context"

// HookKind tells what a function at a netfilter hook is.
type HookKind uint8

// The kinds of hook functions.
const (
	// HookFunctionOf is any other function of the kernel or of a module: Name is its own.
	HookFunctionOf HookKind = iota
	// HookChain is an nftables base chain: Family, Table and Name tell which.
	HookChain
	// HookTable is a legacy table of iptables, ip6tables or ebtables: Name is its name.
	HookTable
	// HookNAT is the translation of addresses, which has the nat chains and the legacy nat table in it.
	HookNAT
	// HookBPF is a BPF program that a link holds there (netfilter BPF links, Linux 6.4 and later).
	HookBPF
)

// HookFunction is one function that is registered at a netfilter hook.
type HookFunction struct {
	Kind HookKind
	// Priority is the one it was registered with: functions of lower priority run first.
	Priority int32
	// Family is the family that it was registered for: NFTInet for a chain that sees both IPv4 and IPv6.
	Family NFTFamily
	// Table is the table of a chain.
	Table string
	// Name is that of the chain or the table, or the kernel's own of the function: "nf_confirm", "ip_vs_out_hook [ip_vs]".
	Name string
	// Inside are the chains and tables of a HookNAT, in order.
	Inside []HookFunction
}

// The hooks of a device (enum nf_dev_hooks).
const (
	DeviceIngress = 0
	DeviceEgress  = 1
)

// Hooks lists what the kernel has registered at the netfilter hooks, in the order in which it calls it.
type Hooks interface {
	// Hooks lists the hooks of a family that has them in the namespace as such: IPv4, IPv6 or bridge. The index is the
	// hook's number. Without the permission, or in a kernel that cannot be asked, the error has ErrPermission or
	// ErrNotSupported in its chain; then tables and chains tell what is registered, but not always the order.
	Hooks(ctx context.Context, f NFTFamily) ([][]HookFunction, error)
	// DeviceHooks lists the functions at a device's ingress or egress hook, by the device's index; its errors are those of
	// Hooks.
	DeviceHooks(ctx context.Context, index int, egress bool) ([]HookFunction, error)
	// SameHooks tells whether all that was listed is registered still, and nothing else.
	SameHooks(ctx context.Context) (bool, error)
}
