package diagnose

// nodeFamilies need facts of a node beyond its walks and flows: its settings, its kube-proxy, its firewalls.
func nodeFamilies() []Family {
	return []Family{
		proxyProcessFamily(), proxyRulesFamily(), proxyConfigFamily(), staleFamily(),
		firewallFamily(), markFamily(), nodePortFamily(), forwardingFamily(), bridgeFamily(), conntrackFamily(), tunnelFamily(), otherPortFamily(),
	}
}

// Differences that wrong, old or missing rules of kube-proxy lead to.
var ruleDifferences = []string{
	"no-translation", "endpoint-missing-in-kernel", "endpoint-not-in-api", "endpoint-not-eligible", "uneven-probability",
	"rejected-though-endpoints", "dropped-though-endpoints", "not-rejected", "not-dropped", "translated-unexpectedly", "not-masqueraded",
	"source-lost", "flow-untranslated", "stale-udp-conntrack", "stale-tcp-conntrack",
}

// Differences that a rule of somebody else leads to.
var foreignDifferences = []string{
	"stopped-after-translation", "dropped-though-endpoints", "rejected-though-endpoints", "dropped-on-condition", "endpoint-missing-in-kernel",
	"not-rejected", "reply-dropped",
}

// also lists more IDs behind a list, which it leaves as it is.
func also(ids []string, more ...string) []string { return append(ids[:len(ids):len(ids)], more...) }
