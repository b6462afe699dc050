package faults

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

func headless(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }

// untracedFaults are Services that no node translates.
var untracedFaults = []fault{
	{
		name: "a headless Service with another port than its pods", want: "headless-port", service: "bare", untraced: true,
		cause: sequence(objects("bare", headless), wait(500*time.Millisecond)), repair: remove("bare"),
		real: podRefuses(80), sees: "the pods refuse connections to the Service's port", proof: []string{"port 80, targetPort 8080"},
		mend: changed("bare", func(s *corev1.Service) { s.Spec.Ports[0].Port = lab.WebPort }),
	},
	{
		name: "a headless Service without ready endpoints", want: "headless-without-endpoints", service: "barren", untraced: true,
		cause: objects("barren", both(headless, func(s *corev1.Service) {
			s.Spec.Selector, s.Spec.Ports[0].Port = map[string]string{"app": "none-such"}, lab.WebPort
		})), repair: remove("barren"), sees: "no EndpointSlice has an address for the name", proof: []string{"publishNotReadyAddresses"},
		mend: changed("barren", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": lab.DemoName} }),
	},
	{
		name: "externalName that is an address", want: "external-name-is-address", service: "alias", untraced: true,
		cause: objects("alias", external("203.0.113.7", false)), repair: remove("alias"), sees: "DNS has no alias to an address: the name is taken for one of digits",
		mend: changed("alias", func(s *corev1.Service) { s.Spec.ExternalName = "db.example.com" }), proof: []string{"203.0.113.7"},
	},
	{
		name: "ports of an ExternalName Service", want: "external-name-ports-ignored", service: "ported", untraced: true, quiet: true,
		cause: objects("ported", external("db.example.com", true)), repair: remove("ported"), sees: "no rule and no address has the ports",
		mend: changed("ported", func(s *corev1.Service) { s.Spec.Ports = nil }), proof: []string{"5432/TCP"},
	},
}

func external(name string, ports bool) serviceChange {
	return func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: name}
		if ports {
			s.Spec.Ports = []corev1.ServicePort{{Port: 5432, TargetPort: intstr.FromInt32(5432)}}
		}
	}
}

// podRefuses requires that a pod of web refuses a port.
func podRefuses(port uint16) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		to := netip.AddrPortFrom(netip.MustParseAddr(b.podOn("node2").Status.PodIP), port)
		got, err := b.clients[0].Connect(ctx, to, lab.ConnectOptions{Timeout: time.Second})
		if err == nil && !got.All(lab.Refused) {
			err = fmt.Errorf("%v", got.ByResult())
		}
		return err
	}
}
