package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// addressFaults are addresses that two things have, or none should.
var addressFaults = []fault{
	{
		name: "two pods with one address", want: "duplicate-pod-address",
		cause: twin, repair: deletePod("twin"),
		sees:  "a second running pod whose status, written by hand, has the address of an endpoint",
		proof: []string{"default/twin"},
	},
	{
		name: "a ClusterIP outside of every ServiceCIDR", want: "cluster-ip-outside-range", service: "astray",
		cause: sequence(serviceRange("astray", "10.97.0.0/28"), objects("astray", at("10.97.0.5")), dropRange("astray")), repair: remove("astray"),
		real: end("astray", answered), sees: "the ServiceCIDR is gone, and its Service goes on", proof: []string{"10.97.0.5", "10.96.0.0/16"},
	},
	{
		name: "a ClusterIP that the API has not allocated", want: "cluster-ip-not-allocated", service: "unbooked",
		cause:  sequence(objects("unbooked", at("10.96.0.91")), forbidAllocation("10.96.0.91", "object.spec.parentRef.name == 'nobody'"), forget96("10.96.0.91")),
		repair: sequence(allowAllocation, remove("unbooked")), mend: sequence(allowAllocation0, rebook("10.96.0.91", "unbooked")),
		sees: "the IPAddress object is gone, and a second Service may take the address", proof: []string{"10.96.0.91"},
	},
	{
		name: "one ClusterIP for two Services", want: "cluster-ip-shared", service: "former",
		cause: sequence(objects("former", both(manual, at("10.96.0.92")), sliceAsIs), forbidAllocation("10.96.0.92", "object.spec.parentRef.name == 'latter'"), forget96("10.96.0.92"),
			objects("latter", both(manual, at("10.96.0.92"), func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }), atNode2Slice)),
		repair: sequence(allowAllocation, remove("former")), mend: sequence(remove("latter"), allowAllocation0, rebook("10.96.0.92", "former")),
		real: end("former", answered), sees: "both Services have the address, of which one may be given away again", proof: []string{"default/latter"},
	},
	{
		name: "one external address for two Services", want: "address-shared", service: "first",
		cause: sequence(objects("first", both(manual, externalIP("192.0.2.77")), sliceAsIs), objects("second", both(manual, externalIP("192.0.2.77"), overUDPToo), sliceAsIs), wait(500*time.Millisecond)),
		// nftables mode refuses the second one's element, and with it all that it writes: the Services go before anything else
		repair: sequence(remove("second"), remove("first")), mend: nil, sees: "which of the two gets the connections is undefined", proof: []string{"default/second"},
	},
	{
		name: "an external IP that is a node's own", want: "external-ip-is-node-address", service: "thief",
		cause: objects("thief", both(externalIP("10.250.0.11"), func(s *corev1.Service) { s.Spec.Ports[0].Port = 4242 })), repair: remove("thief"),
		real: answers(outside, netip.MustParseAddrPort("10.250.0.11:4242")), sees: "the node's own port is the Service's for whoever connects",
		mend: changed("thief", func(s *corev1.Service) { s.Spec.ExternalIPs = nil }), proof: []string{"node1"},
	},
	{
		name: "a ServiceCIDR among the pods' addresses", want: "overlapping-ranges", hence: []string{"stopped-after-translation"},
		cause: sequence(serviceRange("overlap", "10.244.2.0/28"), usurper), repair: sequence(remove("usurper"), wait(time.Second), removeRange("overlap"), wait(2*time.Second)),
		real: func(ctx context.Context, b *bed, n *lab.Node) error {
			return fails(clientPod, clusterIP)(ctx, b, b.Node(3))
		},
		sees: "a Service got a pod's address, and nftables mode rejects what goes to that pod", proof: []string{"10.244.2.0/28", "10.244.2.0/24"},
	},
}

func externalIP(a string) serviceChange {
	return func(s *corev1.Service) { s.Spec.ExternalIPs = []string{a} }
}

// overUDPToo gives a Service a second port, so that the two Services are not the same.
func overUDPToo(s *corev1.Service) { s.Spec.Ports[0].Name = "http" }

var atNode2Slice = atNode2

// usurper is a Service with the address of web's pod on node2.
func usurper(ctx context.Context, b *bed, n *lab.Node) error {
	return objects("usurper", both(manual, at(b.podOn("node2").Status.PodIP)), sliceAsIs)(ctx, b, n)
}

// twin is a pod that nobody runs and that has the address of web's pod on node1.
func twin(ctx context.Context, b *bed, _ *lab.Node) error {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "twin"}, Spec: lab.WebPodSpec()}
	p.Spec.NodeName = "elsewhere"
	p, err := b.client.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	ip := b.podOn("node1").Status.PodIP
	p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
	_, err = b.client.CoreV1().Pods(namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
	return err
}

// serviceRange gives the cluster one more range of cluster IPs.
func serviceRange(name, prefix string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		_, err := b.client.NetworkingV1().ServiceCIDRs().Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{prefix}}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		return wait(time.Second)(ctx, b, n)
	}
}

func removeRange(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		return b.client.NetworkingV1().ServiceCIDRs().Delete(ctx, name, metav1.DeleteOptions{})
	}
}

// dropRange deletes a range that a Service still uses: the finalizer that should keep it is taken away.
func dropRange(name string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		if err := removeRange(name)(ctx, b, n); err != nil {
			return err
		}
		for range 20 {
			_, err := b.client.NetworkingV1().ServiceCIDRs().Patch(ctx, name, jsonPatch, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if _, err := b.client.NetworkingV1().ServiceCIDRs().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
				return nil
			}
			if err := wait(200*time.Millisecond)(ctx, b, n); err != nil {
				return err
			}
		}
		return errors.New("the ServiceCIDR is still there")
	}
}

const policyName = "no-allocation"

// forbidAllocation keeps the API from recording an address again, unless the expression holds.
func forbidAllocation(ip, unless string) step {
	return func(ctx context.Context, b *bed, n *lab.Node) error {
		api := b.client.AdmissionregistrationV1()
		_, err := api.ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: policyName},
			Spec: admissionv1.ValidatingAdmissionPolicySpec{
				MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{"networking.k8s.io"}, APIVersions: []string{"*"}, Resources: []string{"ipaddresses"}},
				}}}},
				Validations: []admissionv1.Validation{{Expression: fmt.Sprintf("object.metadata.name != '%s' || %s", ip, unless)}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		_, err = api.ValidatingAdmissionPolicyBindings().Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: policyName},
			Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: policyName, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		return wait(2*time.Second)(ctx, b, n)
	}
}

// allowAllocation takes the policy away; where it is gone already, nothing.
func allowAllocation(ctx context.Context, b *bed, _ *lab.Node) error {
	api := b.client.AdmissionregistrationV1()
	for _, err := range []error{
		api.ValidatingAdmissionPolicyBindings().Delete(ctx, policyName, metav1.DeleteOptions{}),
		api.ValidatingAdmissionPolicies().Delete(ctx, policyName, metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func allowAllocation0(ctx context.Context, b *bed, n *lab.Node) error {
	if err := allowAllocation(ctx, b, n); err != nil {
		return err
	}
	return wait(2*time.Second)(ctx, b, n)
}

// forget96 deletes the API's record of an address.
func forget96(ip string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		return b.client.NetworkingV1().IPAddresses().Delete(ctx, ip, metav1.DeleteOptions{})
	}
}

// rebook writes it again, if the API's own repair has not.
func rebook(ip, service string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		_, err := b.client.NetworkingV1().IPAddresses().Create(ctx, &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: ip},
			Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: namespace, Name: service}}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
}
