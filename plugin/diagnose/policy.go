package diagnose

// NoLocalEndpoints is a drop that was asked for.
var NoLocalEndpoints = Kind{
	ID: "no-local-endpoints", Severity: Warning, Title: "no local endpoint",
	Means: "internalTrafficPolicy is Local and the node runs no usable endpoint: connections from its pods to the ClusterIP are dropped, as asked. " +
		"Clients there wait until they give up, while clients on other nodes are served.",
	Proven:     "The walk is dropped on the node, and no endpoint in the EndpointSlices is on it.",
	Fix:        "internalTrafficPolicy Local needs an endpoint on every node with clients: use a DaemonSet, or the policy Cluster",
	References: []string{"kubernetes/kubernetes#121371", "kubernetes/kubernetes#134895"},
}

func policyFamily() Family {
	return Family{Name: "Traffic policies", Kinds: []Kind{NoLocalEndpoints}}
}
