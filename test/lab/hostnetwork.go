package lab

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// HostNetworkWebPodSpec is WebPodSpec in the node's own network namespace, on a port that must be free there. The pod's
// addresses are the node's.
func HostNetworkWebPodSpec(port uint16) corev1.PodSpec {
	spec := WebPodSpec("--listen", fmt.Sprintf(":%d", port))
	spec.HostNetwork = true
	c := &spec.Containers[0]
	c.Ports[0].ContainerPort = int32(port)
	c.ReadinessProbe.HTTPGet.Port = intstr.FromInt32(int32(port))
	return spec
}

// HostNetworkClientPod is ClientPod in the node's own network namespace.
func (l *Lab) HostNetworkClientPod(ctx context.Context, name string, node *Node) (*Pod, error) {
	spec := clientPodSpec()
	spec.HostNetwork = true
	return l.RunPod(ctx, name, node, spec)
}
