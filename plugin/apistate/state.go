// Package apistate is the part of the API that a diagnosis of one Service looks at: objects as they were read, and what
// could not be read. It is plain data, so that what works with it stays pure.
package apistate

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// State are the objects around one Service.
type State struct {
	Service *corev1.Service
	// Slices are all EndpointSlices of the Service.
	Slices []discoveryv1.EndpointSlice
	// SlicesAgain are the EndpointSlices as they were read once more, after the pods; none when every pod that an endpoint
	// names was found.
	SlicesAgain []discoveryv1.EndpointSlice
	// Endpoints is the deprecated object of the Service's name; nil when there is none.
	//lint:ignore SA1019 the deprecated object tells whether its readers miss pods
	Endpoints *corev1.Endpoints
	// Pods are those of the Service's namespace, and those of other namespaces that are known to share an address with
	// one of its endpoints.
	Pods []corev1.Pod
	// Nodes are all nodes.
	Nodes []corev1.Node
	// Services are those of all namespaces, or of the Service's own where no more could be read.
	Services []corev1.Service
	// ServiceCIDRs are the ranges of cluster IPs; none on releases before 1.33, which do not have the object.
	ServiceCIDRs []networkingv1.ServiceCIDR
	// Addresses are the IPAddress objects of the Service's cluster IPs that exist.
	Addresses []networkingv1.IPAddress
	// Proxy is kube-proxy's configuration as kubeadm keeps it in the API; nil where there is none of that form.
	Proxy *ProxyConfig
	// Events are those of the Service and of failing probes in its namespace.
	Events []corev1.Event
	// Read names what was read in full.
	Read Sources
	// Unread says what could not be read, each as a sentence.
	Unread []string
}

// Sources are the optional objects that were read.
type Sources struct {
	Pods, Services, ServiceCIDRs, Addresses, Events bool
}
