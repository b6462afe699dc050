package diagnose

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// matchingPods are the pods of the Service's namespace that its selector selects and that have not ended.
func (s *scene) matchingPods() []*corev1.Pod {
	if s.api.Service == nil || len(s.api.Service.Spec.Selector) == 0 {
		return nil
	}
	want := labels.SelectorFromSet(s.api.Service.Spec.Selector)
	var out []*corev1.Pod
	for i := range s.api.Pods {
		p := &s.api.Pods[i]
		if p.Namespace == s.api.Service.Namespace && want.Matches(labels.Set(p.Labels)) && !ended(p) {
			out = append(out, p)
		}
	}
	return out
}

func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// whyNotReady is the pod's own reason for not being ready, most telling first; empty when it is ready.
func (s *scene) whyNotReady(p *corev1.Pod) string {
	var ready *corev1.PodCondition
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			ready = &p.Status.Conditions[i]
		}
	}
	switch {
	case p.DeletionTimestamp != nil:
		return "it is being deleted"
	case ready != nil && ready.Status == corev1.ConditionTrue:
		return ""
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			return fmt.Sprintf("container %s waits: %s%s", c.Name, w.Reason, because(w.Message))
		}
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("container %s ended with exit code %d%s", c.Name, t.ExitCode, because(t.Reason))
		}
	}
	if m := s.probeMessage(p); m != "" {
		return m
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "it is not scheduled: " + c.Message
		}
	}
	for _, g := range p.Spec.ReadinessGates {
		if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == g.ConditionType && c.Status == corev1.ConditionTrue
		}) {
			return fmt.Sprintf("its readiness gate %s is not true", g.ConditionType)
		}
	}
	if ready != nil && ready.Message != "" {
		return ready.Message
	}
	return fmt.Sprintf("its phase is %s, and it is not ready", p.Status.Phase)
}

// probeMessage is what the probe of the pod said last, from its events.
func (s *scene) probeMessage(p *corev1.Pod) string {
	var last *corev1.Event
	for i := range s.api.Events {
		e := &s.api.Events[i]
		if e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.Name != p.Name || e.InvolvedObject.UID != "" && e.InvolvedObject.UID != p.UID || !strings.Contains(e.Message, "eadiness") {
			continue
		}
		if last == nil || last.LastTimestamp.Before(&e.LastTimestamp) {
			last = e
		}
	}
	if last == nil {
		return ""
	}
	return strings.TrimSpace(last.Message)
}

func hasPort(p *corev1.Pod, name, protocol string) bool {
	for _, c := range slices.Concat(p.Spec.Containers, sidecars(p)) {
		for _, port := range c.Ports {
			if port.Name == name && strings.EqualFold(string(protocolOr(port.Protocol)), protocol) {
				return true
			}
		}
	}
	return false
}

// sidecars are the init containers that keep running; their ports count from 1.29 on.
func sidecars(p *corev1.Pod) []corev1.Container {
	var out []corev1.Container
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

func protocolOr(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// containerPorts lists a pod's ports for a sentence.
func containerPorts(p *corev1.Pod) string {
	var out []string
	for _, c := range slices.Concat(p.Spec.Containers, sidecars(p)) {
		for _, port := range c.Ports {
			out = append(out, fmt.Sprintf("%q %d/%s", port.Name, port.ContainerPort, protocolOr(port.Protocol)))
		}
	}
	if len(out) == 0 {
		return "no named ports"
	}
	return "the ports " + strings.Join(out, ", ")
}

// podFamilies says which families the addresses of the matching pods have.
func (s *scene) podFamilies() string {
	var families []string
	for _, p := range s.matchingPods() {
		for _, a := range podAddresses(p) {
			if f := string(intent.FamilyOf(a)); !slices.Contains(families, f) {
				families = append(families, f)
			}
		}
	}
	if len(families) == 0 {
		return "the pods' addresses could not be seen"
	}
	return "the pods have addresses of " + strings.Join(families, " and ")
}

// slicePortText is a port of an EndpointSlice for a sentence.
func slicePortText(p discoveryv1.EndpointPort) string {
	name, number, protocol := "", int32(0), corev1.ProtocolTCP
	if p.Name != nil {
		name = *p.Name
	}
	if p.Port != nil {
		number = *p.Port
	}
	if p.Protocol != nil {
		protocol = protocolOr(*p.Protocol)
	}
	return fmt.Sprintf("port %d/%s named %q", number, protocol, name)
}

// servesAnotherPort reports whether every port of a slice belongs to another port of the Service: nothing is wrong with it.
func (s *scene) servesAnotherPort(slice *discoveryv1.EndpointSlice, p *intent.Port) bool {
	if len(slice.Ports) == 0 {
		return false
	}
	for _, sp := range slice.Ports {
		if !slices.ContainsFunc(s.model.Ports, func(o intent.Port) bool {
			return o.Family == p.Family && sp.Name != nil && o.Name == *sp.Name && (sp.Protocol == nil || strings.EqualFold(o.Protocol, string(*sp.Protocol)))
		}) {
			return false
		}
	}
	return true
}
