//go:build linux

package kmem

// Kinds of relocations (enum bpf_core_relo_kind, include/uapi/linux/bpf.h).
const (
	reloByteOffset = 0
	reloExists     = 2
	reloLeft       = 4
	reloRight      = 5
	reloTypeExists = 8
	reloTypeSize   = 9
)

// Absent is the place of what the running kernel does not have, or has in a module that is not loaded.
const Absent = -1

// Layout is where members lie in the running kernel's structures, in bytes, as the kernel itself told.
type Layout struct {
	// Of the way from a thread to its network namespace: task_struct.nsproxy, nsproxy.net_ns, net.ns.inum.
	TaskNSProxy, NSProxyNet, NetInode int
	// In struct net, arrays with a pointer to struct nf_hook_entries for each hook of a family.
	HooksIPv4, HooksIPv6, HooksBridge int
	// EntriesHooks is nf_hook_entries.hooks, EntrySize the size of struct nf_hook_entry.
	EntriesHooks, EntrySize int
	// Of struct nf_hook_ops. OpsKind is where the eight bytes begin that hold hook_ops_type: shifted by OpsKindLeft to the
	// left, then by OpsKindRight to the right, they are its value.
	OpsHook, OpsPriv, OpsPF, OpsNumber, OpsPriority int
	OpsKind, OpsKindLeft, OpsKindRight              int
	// Of struct nft_chain and struct nft_table.
	ChainTable, ChainName, TableName int
	// NATEntries is nf_nat_lookup_hook_priv.entries.
	NATEntries int
	// XTName is xt_table.name.
	XTName int
	// NetDevices is net.dev_index_head: a pointer to an array of lists of devices, of struct hlist_head. The others are of
	// struct net_device.
	NetDevices, DeviceNext, DeviceIndex, DeviceIngress, DeviceEgress int
}

// question is one number that the kernel is asked for.
type question struct {
	answer *int
	kind   uint32
	// structure and way, the place of each member in the one before, are what it is about.
	structure string
	way       []int
	// optional questions may be about what is not there. The others make the program unloadable.
	optional bool
}

// describe writes down the structures of interest, as far as they are asked about, and the questions.
func describe(l *Layout) (*blob, []question) {
	b := newBlob()
	pointers := b.array(typePointer)
	ns := b.structure("ns_common", member{"inum", typeInt})
	nf := b.structure("netns_nf", member{"hooks_ipv4", pointers}, member{"hooks_ipv6", pointers}, member{"hooks_bridge", pointers})
	b.structure("task_struct", member{"nsproxy", typePointer})
	b.structure("nsproxy", member{"net_ns", typePointer})
	b.structure("net", member{"ns", ns}, member{"nf", nf}, member{"dev_index_head", typePointer})
	next := b.structure("hlist_node", member{"next", typePointer})
	b.structure("net_device", member{"index_hlist", next}, member{"ifindex", typeInt}, member{"nf_hooks_ingress", typePointer}, member{"nf_hooks_egress", typePointer})
	entry := b.structure("nf_hook_entry", member{"hook", typePointer}, member{"priv", typePointer})
	b.structure("nf_hook_entries", member{"hooks", b.array(entry)})
	b.structure("nf_hook_ops", member{"hook", typePointer}, member{"priv", typePointer}, member{"pf", typeInt},
		member{"hooknum", typeInt}, member{"priority", typeInt}, member{"hook_ops_type", typeEnum})
	b.structure("nft_chain", member{"table", typePointer}, member{"name", typePointer})
	b.structure("nft_table", member{"name", typePointer})
	b.structure("nf_nat_lookup_hook_priv", member{"entries", typePointer})
	b.structure("xt_table", member{"name", b.array(typeInt)})
	needs := func(answer *int, structure string, way ...int) question {
		return question{answer, reloByteOffset, structure, way, false}
	}
	may := func(answer *int, structure string, way ...int) question {
		return question{answer, reloByteOffset, structure, way, true}
	}
	return b, []question{
		needs(&l.TaskNSProxy, "task_struct", 0),
		needs(&l.NSProxyNet, "nsproxy", 0),
		needs(&l.NetInode, "net", 0, 0),
		needs(&l.HooksIPv4, "net", 1, 0),
		needs(&l.HooksIPv6, "net", 1, 1),
		may(&l.HooksBridge, "net", 1, 2),
		needs(&l.EntriesHooks, "nf_hook_entries", 0),
		{&l.EntrySize, reloTypeSize, "nf_hook_entry", nil, false},
		needs(&l.OpsHook, "nf_hook_ops", 0),
		needs(&l.OpsPriv, "nf_hook_ops", 1),
		needs(&l.OpsPF, "nf_hook_ops", 2),
		needs(&l.OpsNumber, "nf_hook_ops", 3),
		needs(&l.OpsPriority, "nf_hook_ops", 4),
		needs(&l.OpsKind, "nf_hook_ops", 5),
		{&l.OpsKindLeft, reloLeft, "nf_hook_ops", []int{5}, false},
		{&l.OpsKindRight, reloRight, "nf_hook_ops", []int{5}, false},
		may(&l.ChainTable, "nft_chain", 0),
		may(&l.ChainName, "nft_chain", 1),
		may(&l.TableName, "nft_table", 0),
		may(&l.NATEntries, "nf_nat_lookup_hook_priv", 0),
		may(&l.XTName, "xt_table", 0),
		may(&l.NetDevices, "net", 2),
		may(&l.DeviceNext, "net_device", 0, 0),
		may(&l.DeviceIndex, "net_device", 1),
		may(&l.DeviceIngress, "net_device", 2),
		may(&l.DeviceEgress, "net_device", 3),
	}
}
