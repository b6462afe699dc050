package diagnose

// Kind is one entry of the catalogue: what a finding of an ID is, always.
type Kind struct {
	// ID is stable: scripts may match it.
	ID       string
	Severity Severity
	// Title says it in a few words, for tables.
	Title string
	// Fix is the next step.
	Fix string
}

// The catalogue. One variable a kind; the checks refer to them, so that no ID is written twice.
var (
	EndpointMissing = Kind{"endpoint-missing-in-kernel", Error, "endpoint missing",
		"see whether kube-proxy on the node runs and syncs (its log, :10256/healthz); restarting it rewrites its rules"}
	EndpointNotInAPI = Kind{"endpoint-not-in-api", Error, "stale endpoint",
		"see whether kube-proxy on the node runs and syncs (its log, :10256/healthz); restarting it rewrites its rules"}
	EndpointNotEligible = Kind{"endpoint-not-eligible", Warning, "wrong endpoint",
		"compare the endpoint's conditions and hints with the node's rules; restarting kube-proxy on the node rewrites them"}
	UnevenProbability = Kind{"uneven-probability", Warning, "uneven",
		"the rules were changed by something else than kube-proxy, or were written in part; restarting kube-proxy on the node rewrites them"}
	NoTranslation = Kind{"no-translation", Error, "not translated",
		"see whether kube-proxy on the node runs and syncs, and what else writes rules there; restarting kube-proxy rewrites them"}
	RejectedThoughEndpoints = Kind{"rejected-though-endpoints", Error, "rejected",
		"the rule that rejects stands in the evidence: if it is kube-proxy's, restart kube-proxy on the node; else ask who wrote it"}
	DroppedThoughEndpoints = Kind{"dropped-though-endpoints", Error, "dropped",
		"the rule that drops stands in the evidence: if it is kube-proxy's, restart kube-proxy on the node; else ask who wrote it"}
	StoppedAfterTranslation = Kind{"stopped-after-translation", Error, "blocked",
		"the translation is right, and another rule stops the packet: the evidence names it; a network policy, a firewall or a FORWARD policy is the usual owner"}
	TargetPortNotListening = Kind{"target-port-not-listening", Error, "nobody listens",
		"compare the Service's targetPort with the port that the application listens on, and see whether it runs: kubectl exec POD -- ss -lntu"}
	ListensOnLoopbackOnly = Kind{"listens-on-loopback-only", Error, "loopback only",
		"let the application listen on all addresses (0.0.0.0 or ::) instead of 127.0.0.1 or ::1"}
	ReplyNotTranslated = Kind{"reply-not-translated", Error, "bad reply",
		"the reply must pass the node that translated the connection: masquerade the source there, route the reply that way, or, on one bridge, set net.bridge.bridge-nf-call-iptables to 1"}
	ReplyDropped = Kind{"reply-dropped", Error, "reply lost",
		"the evidence names what stops the reply: a rule, a reverse path filter or a missing route back to the client"}
	AsymmetricPath = Kind{"asymmetric-path", Info, "asymmetric",
		"it works as long as nothing on either way keeps state; see the routes of both nodes if connections hang later"}
	DroppedOnCondition = Kind{"dropped-on-condition", Warning, "may be dropped",
		"the evidence names the rule and its condition"}
	NotRejected = Kind{"not-rejected", Warning, "not refused",
		"without endpoints clients should be refused at once, and here they wait; see whether kube-proxy on the node runs and syncs"}
	NotDropped = Kind{"not-dropped", Warning, "not kept local",
		"see whether kube-proxy on the node runs and syncs; restarting it rewrites its rules"}
	TranslatedThoughNot = Kind{"translated-unexpectedly", Warning, "translated",
		"the rules of this Service should not be there: see the Service's labels and ipMode, and restart kube-proxy on the node"}
	NotMasqueraded = Kind{"not-masqueraded", Error, "source kept",
		"replies will not come back through the node; see what removed the mark or the masquerade rule"}
	SourceLost = Kind{"source-lost", Warning, "source lost",
		"externalTrafficPolicy Local should keep the client's address; something else on the node masquerades"}
	Undetermined = Kind{"undetermined", Warning, "could not tell",
		"the evidence names what is not modelled, and where it stands"}
	WalkFailed = Kind{"walk-failed", Warning, "could not tell",
		"the agent could not read the state; --profile privileged gives it every capability"}
	FlowToGoneEndpoint = Kind{"flow-to-gone-endpoint", Warning, "flow to nowhere",
		"a TCP client must reconnect; for UDP delete the entry on the node: conntrack -D -p udp --orig-dst ADDRESS"}
	FlowUntranslated = Kind{"flow-untranslated", Warning, "untranslated flow",
		"the flow began before there was a rule and keeps to that; delete the entry on the node with conntrack -D, or wait until it expires"}
	NoReadyEndpoints = Kind{"no-ready-endpoints", Error, "no endpoints",
		"see the pods and their readiness: kubectl get pods, kubectl describe"}
	NoLocalEndpoints = Kind{"no-local-endpoints", Warning, "no local endpoint",
		"internalTrafficPolicy Local needs an endpoint on every node with clients: use a DaemonSet, or the policy Cluster"}
)

// Catalogue lists every kind of finding, in the order of the documentation.
func Catalogue() []Kind {
	return []Kind{
		NoReadyEndpoints, NoLocalEndpoints,
		EndpointMissing, EndpointNotInAPI, EndpointNotEligible, UnevenProbability,
		NoTranslation, RejectedThoughEndpoints, DroppedThoughEndpoints, StoppedAfterTranslation, DroppedOnCondition,
		TargetPortNotListening, ListensOnLoopbackOnly, SocketQueueFull, SocketQueueOverflowed, ReplyNotTranslated, ReplyDropped, AsymmetricPath,
		MTUTooSmall, MTUAboveTunnel,
		NotRejected, NotDropped, TranslatedThoughNot, NotMasqueraded, SourceLost,
		FlowToGoneEndpoint, FlowUntranslated,
		ProbeDiffers,
		Undetermined, WalkFailed,
	}
}
