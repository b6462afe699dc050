// Package e2e holds the plugin and the agent against a real cluster: the lab of package lab, with a real API server,
// kubelets, containerd and kube-proxies.
//
// Everything that a test expects of the plugin's answer comes from elsewhere: from real connections that were made and
// counted, from the node's own tools, or from the API. The files by what they hold:
//
//	main_test.go          the two programs, built once, and where a lab finds them
//	plugin_test.go        running kubectl svctrace, and what came of it
//	cluster_test.go       a lab with the agent's image, clients and web servers
//	services_test.go      the Services that are traced side by side
//	sync_test.go          waiting until every kube-proxy has written what the API says
//	predict_test.go       a trace followed from node to node: what a client will see
//	chisquare_test.go     the bound that shares are held to
//	observe_test.go       real connections, counted by the same measure
//	matrix_test.go        proxy modes x families x access paths x clients
//	packet_test.go        what the plugin does not ask about, with svctrace-agent packet
//	affinity_test.go      session affinity
//	fault_*_test.go       faults made by hand: each must be found, and nothing else
//	flows_test.go         flows against conntrack
//	refusal_test.go       what cannot be traced: a sentence, a next step, an exit code
//	leftover_test.go      no agent pod is left on any way out
//	speed_test.go         the benchmark against kubectl run
package e2e
