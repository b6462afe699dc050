package faults

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// queueFaults are programs that do not keep up with what arrives.
var queueFaults = []fault{
	{
		name: "a program that accepts nothing", want: "socket-queue-full", node: 2, service: "stuck",
		cause:  sequence(runPod("stuck", 2, "--stuck", "1"), objects("stuck", selects("stuck")), fillQueue("stuck", lab.ConnectOptions{Count: 6, Parallel: 6, Timeout: 700 * time.Millisecond})),
		real:   end("stuck", silent, 1),
		repair: sequence(remove("stuck"), deletePod("stuck")),
		mend:   sequence(replacePod("stuck", 2), forgetAll),
		sees:   "new connections time out",
		proof:  []string{"backlog is 1"},
	},
	{
		name: "a program that was stopped for a while", want: "socket-queue-overflowed", node: 2, service: "slow", quiet: true,
		cause: sequence(runPod("slow", 2), objects("slow", both(selects("slow"), func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP })),
			signal("slow", "STOP"), overflow("slow"), signal("slow", "CONT"), forgetAll),
		real:   answersAgain("slow"),
		repair: sequence(remove("slow"), deletePod("slow")),
		mend:   sequence(replacePod("slow", 2), forgetAll),
		sees:   "datagrams are lost while the program is stopped, and answered again when it goes on",
		proof:  []string{"since it was opened"},
	},
}

// selects has a Service select the pods of one name.
func selects(app string) serviceChange {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
}

// runPod makes a pod of the web server that is ready whatever its program does.
func runPod(name string, node int, args ...string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		spec := lab.WebPodSpec(args...)
		spec.Containers[0].ReadinessProbe = nil
		_, err := b.RunPod(ctx, name, b.Node(node), spec)
		return err
	}
}

// replacePod makes the pod anew, with a program that works.
func replacePod(name string, node int) step {
	gone := func(ctx context.Context, b *bed, n *lab.Node) error {
		for range 100 {
			list, err := b.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
			if err != nil || len(list.Items) == 0 {
				return err
			}
			if err := wait(100*time.Millisecond)(ctx, b, n); err != nil {
				return err
			}
		}
		return fmt.Errorf("pod %s does not go away", name)
	}
	return sequence(deletePod(name), gone, runPod(name, node), written)
}

// forgetAll is forgetEverywhere as a step.
func forgetAll(ctx context.Context, b *bed, _ *lab.Node) error { return b.forgetEverywhere(ctx) }

// fillQueue opens connections to a Service from the client pod on node1, whatever comes of them.
func fillQueue(name string, o lab.ConnectOptions) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		to, err := b.addressOf(ctx, name, false)
		if err == nil {
			_, err = b.clients[0].Connect(ctx, to, o)
		}
		return err
	}
}

// overflow sends more datagrams than a socket takes whose program does not read; none may be answered.
func overflow(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		to, err := b.addressOf(ctx, name, false)
		if err != nil {
			return err
		}
		got, err := b.clients[0].Connect(ctx, to, lab.ConnectOptions{Protocol: "udp", Count: 400, Size: 1000, Timeout: 400 * time.Millisecond})
		if err == nil && !got.All(lab.Timeout) {
			err = fmt.Errorf("datagrams to a program that is stopped end %v", got.ByResult())
		}
		return err
	}
}

// answersAgain requires that datagrams are answered.
func answersAgain(name string) step {
	return func(ctx context.Context, b *bed, _ *lab.Node) error {
		to, err := b.addressOf(ctx, name, false)
		if err != nil {
			return err
		}
		got, err := b.clients[0].Connect(ctx, to, lab.ConnectOptions{Protocol: "udp", Count: 4})
		if err == nil && !got.All(lab.Answered) {
			err = fmt.Errorf("datagrams end %v", got.ByResult())
		}
		return err
	}
}

// signal sends a signal to the program of a pod on the fault's node.
func signal(pod, name string) step {
	return shell(fmt.Sprintf(`for d in /run/containerd/io.containerd.runtime.v2.task/k8s.io/*; do
	if grep -q '"io.kubernetes.cri.sandbox-name": *"%s"' $d/config.json && grep -q '"io.kubernetes.cri.container-type": *"container"' $d/config.json; then
		kill -%s $(cat $d/init.pid); exit
	fi
done; exit 1`, pod, name))
}
