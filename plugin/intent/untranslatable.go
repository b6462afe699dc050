package intent

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// UntranslatableError says that a Service has no virtual address: there is nothing for a node to translate.
type UntranslatableError struct {
	// Kind is headless, ExternalName, or "without a ClusterIP".
	Kind string
	// Sentence explains what happens instead, and Next what the user may do.
	Sentence string
	Next     string
}

// Error returns the sentence.
func (e *UntranslatableError) Error() string { return e.Sentence }

// NextStep returns what the user may do.
func (e *UntranslatableError) NextStep() string { return e.Next }

// NothingToTranslate returns an *UntranslatableError when kube-proxy programs nothing for the Service, else nil.
func NothingToTranslate(svc *corev1.Service) error {
	name := svc.Namespace + "/" + svc.Name
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return &UntranslatableError{
			Kind: "ExternalName",
			Sentence: fmt.Sprintf("Service %s is of type ExternalName: DNS answers with a CNAME to %s, and no node translates anything; "+
				"the ports of the Service have no effect", name, svc.Spec.ExternalName),
			Next: fmt.Sprintf("look the name up from a pod: nslookup %s.%s.svc, and connect to %s itself", svc.Name, svc.Namespace, svc.Spec.ExternalName),
		}
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return &UntranslatableError{
			Kind: "headless",
			Sentence: fmt.Sprintf("Service %s is headless (clusterIP None): DNS answers with the addresses of the ready pods, clients connect to a pod "+
				"themselves, and no node translates anything; a client must use the pods' own port, not the Service's", name),
			Next: fmt.Sprintf("list what DNS answers with: kubectl get endpointslices -n %s -l kubernetes.io/service-name=%s", svc.Namespace, svc.Name),
		}
	case svc.Spec.ClusterIP == "":
		return &UntranslatableError{
			Kind:     "without a ClusterIP",
			Sentence: fmt.Sprintf("Service %s has no ClusterIP yet: the API server did not allocate one, so no node translates anything", name),
			Next:     fmt.Sprintf("see why: kubectl describe service -n %s %s", svc.Namespace, svc.Name),
		}
	}
	return nil
}
