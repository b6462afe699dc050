package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/apistate"
)

// around reads the objects that only explain, all at once.
type around struct {
	client    kubernetes.Interface
	namespace string
	mu        sync.Mutex
	state     *apistate.State
}

// Around reads what is around a Service and explains its failures: pods, events, other Services, address ranges. Nothing of
// it is needed to trace: what may not be read is named in Unread. An object that a release does not have is no loss.
func Around(ctx context.Context, client kubernetes.Interface, o *Objects) *apistate.State {
	a := &around{client: client, namespace: o.Service.Namespace, state: &apistate.State{Service: o.Service, Slices: o.Slices, Nodes: o.NodeObjects}}
	var wg sync.WaitGroup
	for _, read := range []func(context.Context){a.pods, a.services, a.ranges, a.addresses, a.endpoints, a.serviceEvents, a.probeEvents, a.proxyConfig} {
		wg.Go(func() { read(ctx) })
	}
	wg.Wait()
	slices.Sort(a.state.Unread)
	return a.state
}

// note records that something could not be read, unless the API does not have it.
func (a *around) note(err error, verb, resource, namespace, loss string) {
	if apierrors.IsNotFound(err) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Unread = append(a.state.Unread, fmt.Sprintf("%s: %s", explain(err, verb, resource, namespace), loss))
}

// set changes the state.
func (a *around) set(change func(*apistate.State)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a.state)
}

func (a *around) pods(ctx context.Context) {
	list, err := a.client.CoreV1().Pods(a.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		a.note(err, "list", "pods", a.namespace, "why endpoints are missing or not ready is not looked for")
		return
	}
	a.set(func(s *apistate.State) { s.Pods, s.Read.Pods = list.Items, true })
	if !a.missesPods(list.Items) {
		return
	}
	// An endpoint whose pod is not there may have been read before the pod ended: it counts if it is still there now.
	again, err := Slices(ctx, a.client, a.namespace, a.state.Service.Name)
	if err == nil {
		a.set(func(s *apistate.State) { s.SlicesAgain = again })
	}
}

// missesPods reports whether an endpoint names a pod that is not among those read.
func (a *around) missesPods(pods []corev1.Pod) bool {
	names := make(map[string]bool, len(pods))
	for i := range pods {
		names[pods[i].Name] = true
	}
	for i := range a.state.Slices {
		for _, e := range a.state.Slices[i].Endpoints {
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" && !names[e.TargetRef.Name] {
				return true
			}
		}
	}
	return false
}

func (a *around) services(ctx context.Context) {
	list, err := a.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err == nil {
		a.set(func(s *apistate.State) { s.Services, s.Read.Services = list.Items, true })
		return
	}
	a.note(err, "list", "services", "", "Services of other namespaces with the same addresses are not looked for")
	if list, err = a.client.CoreV1().Services(a.namespace).List(ctx, metav1.ListOptions{}); err == nil {
		a.set(func(s *apistate.State) { s.Services = list.Items })
	}
}

func (a *around) ranges(ctx context.Context) {
	list, err := a.client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if err != nil {
		a.note(err, "list", "servicecidrs.networking.k8s.io", "", "whether addresses and ranges overlap is not looked for")
		return
	}
	a.set(func(s *apistate.State) { s.ServiceCIDRs, s.Read.ServiceCIDRs = list.Items, true })
}

// addresses reads the allocation of each cluster IP. That there is none is an answer where the API has such objects,
// which is where it has ServiceCIDRs.
func (a *around) addresses(ctx context.Context) {
	for _, ip := range a.state.Service.Spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			return
		}
		o, err := a.client.NetworkingV1().IPAddresses().Get(ctx, ip, metav1.GetOptions{})
		switch {
		case err == nil:
			a.set(func(s *apistate.State) { s.Addresses = append(s.Addresses, *o) })
		case !apierrors.IsNotFound(err):
			a.note(err, "get", "ipaddresses.networking.k8s.io", "", "whether the ClusterIP is allocated is not looked for")
			return
		}
	}
	a.set(func(s *apistate.State) { s.Read.Addresses = true })
}

func (a *around) endpoints(ctx context.Context) {
	//nolint:staticcheck // the deprecated object carries the annotation that it was cut
	o, err := a.client.CoreV1().Endpoints(a.namespace).Get(ctx, a.state.Service.Name, metav1.GetOptions{})
	if err != nil {
		a.note(err, "get", "endpoints", a.namespace, "whether readers of the old Endpoints object miss pods is not looked for")
		return
	}
	a.set(func(s *apistate.State) { s.Endpoints = o })
}

func (a *around) serviceEvents(ctx context.Context) {
	a.events(ctx, "involvedObject.kind=Service,involvedObject.name="+a.state.Service.Name)
}

func (a *around) probeEvents(ctx context.Context) {
	a.events(ctx, "involvedObject.kind=Pod,reason=Unhealthy")
}

func (a *around) events(ctx context.Context, selector string) {
	list, err := a.client.CoreV1().Events(a.namespace).List(ctx, metav1.ListOptions{FieldSelector: selector})
	if err != nil {
		a.note(err, "list", "events", a.namespace, "the messages of failing probes are not looked for")
		return
	}
	a.set(func(s *apistate.State) { s.Events, s.Read.Events = append(s.Events, list.Items...), true })
}
