// Package fib is a model of the kernel's routing decision: policy rules, routing tables, addresses and the sysctls that
// take part, for recordings, and for questions that the kernel does not answer.
//
// A [State] answers what live/rtnl asks of the kernel by RTM_GETROUTE, with the same results: [State.Route] for the output
// direction (ip_route_output_key, ip6_route_output) and for the input direction (ip_route_input, ip6_route_input),
// [State.AddrType] (inet_addr_type), [State.SourceRules], and [State.FIBLookup], a bare lookup without source checks, which
// has no counterpart in rtnetlink. Refusals say which rule, route or sysctl decided ([node.RouteError].Reason).
//
// The model follows Linux 6.18; where kernels differ, the code says so. What it cannot know:
//
//   - Which next hop of a multipath route is taken: the hash has a key chosen at boot (net/ipv4/route.c,
//     fib_multipath_hash_from_keys; net.ipv4.fib_multipath_hash_seed since 6.11), which user space cannot read. The answer
//     then lists the hops that the kernel can take in [node.Route].OneOf and leaves Out empty.
//   - Path MTUs and redirects that were learnt for single destinations, and next hops of lightweight tunnels.
//   - A default gateway that the kernel left because its neighbour is dead (fib_select_default), where several IPv4 default
//     routes have the same metric: the first one is assumed.
//   - Whether the gateway of an IPv4 route was an address of this host when the route was added: the tables as they are
//     decide. Which of several interfaces with the same address sends a multicast from it: the last is assumed.
//   - VRF: rules with l3mdev are applied by the interface's master, without all exceptions of net/l3mdev.
package fib
