//go:build linux

package kmem

import "github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/bpf"

// Layout is where members lie in the running kernel's structures, in bytes, as the kernel itself told; bpf.Absent for what it does
// not have.
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

// describe writes down the structures of interest, as far as they are asked about, and the questions.
func describe(l *Layout) (*bpf.Blob, []bpf.Question) {
	b := bpf.NewBlob()
	pointers := b.Array(bpf.Pointer)
	ns := b.Structure("ns_common", bpf.Named("inum", bpf.Int))
	nf := b.Structure("netns_nf", bpf.Named("hooks_ipv4", pointers), bpf.Named("hooks_ipv6", pointers), bpf.Named("hooks_bridge", pointers))
	b.Structure("task_struct", bpf.Named("nsproxy", bpf.Pointer))
	b.Structure("nsproxy", bpf.Named("net_ns", bpf.Pointer))
	b.Structure("net", bpf.Named("ns", ns), bpf.Named("nf", nf), bpf.Named("dev_index_head", bpf.Pointer))
	next := b.Structure("hlist_node", bpf.Named("next", bpf.Pointer))
	b.Structure("net_device", bpf.Named("index_hlist", next), bpf.Named("ifindex", bpf.Int), bpf.Named("nf_hooks_ingress", bpf.Pointer), bpf.Named("nf_hooks_egress", bpf.Pointer))
	entry := b.Structure("nf_hook_entry", bpf.Named("hook", bpf.Pointer), bpf.Named("priv", bpf.Pointer))
	b.Structure("nf_hook_entries", bpf.Named("hooks", b.Array(entry)))
	b.Structure("nf_hook_ops", bpf.Named("hook", bpf.Pointer), bpf.Named("priv", bpf.Pointer), bpf.Named("pf", bpf.Int),
		bpf.Named("hooknum", bpf.Int), bpf.Named("priority", bpf.Int), bpf.Named("hook_ops_type", bpf.Enum))
	b.Structure("nft_chain", bpf.Named("table", bpf.Pointer), bpf.Named("name", bpf.Pointer))
	b.Structure("nft_table", bpf.Named("name", bpf.Pointer))
	b.Structure("nf_nat_lookup_hook_priv", bpf.Named("entries", bpf.Pointer))
	b.Structure("xt_table", bpf.Named("name", b.Array(bpf.Int)))
	needs := func(answer *int, structure string, way ...int) bpf.Question {
		return bpf.Question{Answer: answer, Kind: bpf.ByteOffset, Structure: structure, Way: way}
	}
	may := func(answer *int, structure string, way ...int) bpf.Question {
		return bpf.Question{Answer: answer, Kind: bpf.ByteOffset, Structure: structure, Way: way, Optional: true}
	}
	return b, []bpf.Question{
		needs(&l.TaskNSProxy, "task_struct", 0),
		needs(&l.NSProxyNet, "nsproxy", 0),
		needs(&l.NetInode, "net", 0, 0),
		needs(&l.HooksIPv4, "net", 1, 0),
		needs(&l.HooksIPv6, "net", 1, 1),
		may(&l.HooksBridge, "net", 1, 2),
		needs(&l.EntriesHooks, "nf_hook_entries", 0),
		{Answer: &l.EntrySize, Kind: bpf.Size, Structure: "nf_hook_entry"},
		needs(&l.OpsHook, "nf_hook_ops", 0),
		needs(&l.OpsPriv, "nf_hook_ops", 1),
		needs(&l.OpsPF, "nf_hook_ops", 2),
		needs(&l.OpsNumber, "nf_hook_ops", 3),
		needs(&l.OpsPriority, "nf_hook_ops", 4),
		needs(&l.OpsKind, "nf_hook_ops", 5),
		{Answer: &l.OpsKindLeft, Kind: bpf.Left, Structure: "nf_hook_ops", Way: []int{5}},
		{Answer: &l.OpsKindRight, Kind: bpf.Right, Structure: "nf_hook_ops", Way: []int{5}},
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
