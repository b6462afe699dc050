package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// Fleet is the agents of one run. Close must be called on every way out.
type Fleet struct {
	client   kubernetes.Interface
	attacher Attacher
	options  Options
	run      string

	// ctx ends the bringing up; streams ends the conversations, which are first left to end by themselves.
	ctx        context.Context
	cancel     context.CancelFunc
	streams    context.Context
	cutStreams context.CancelFunc
	wg         sync.WaitGroup
	attached   sync.WaitGroup

	// watchErr is set before watchFailed is closed.
	watchErr    error
	watchFailed chan struct{}

	begin time.Time

	mu      sync.Mutex // guards agents, their stdin and exists, and closing
	agents  map[string]*Agent
	closing bool
}

// Agent is one pod on one node, and the conversation with it.
type Agent struct {
	*Conversation
	Node string
	Pod  string
	// Created, Running and Attached are the times from the fleet's start to each step.
	Created, Running, Attached time.Duration

	failure error
	ready   chan struct{} // closed when Conversation or failure is set
	created chan struct{} // closed when the create request has come back
	exists  bool          // the pod may exist
	stdin   *io.PipeWriter
	seen    chan *corev1.Pod // the watch's news, newest only
}

// createDeadline bounds a create request that outlives an interrupt, so that its pod can be deleted.
const createDeadline = 15 * time.Second

// Start asks for one agent pod on each node, all at once, and returns without waiting. ctx ends the waiting, not the
// clean-up.
func Start(ctx context.Context, client kubernetes.Interface, attacher Attacher, o Options, nodes []string) *Fleet {
	f := &Fleet{client: client, attacher: attacher, options: o, run: rand.String(6), begin: time.Now(), watchFailed: make(chan struct{}), agents: map[string]*Agent{}}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.streams, f.cutStreams = context.WithCancel(context.WithoutCancel(ctx))
	f.Add(nodes...)
	f.wg.Go(func() { f.watch() })
	return f
}

// Add asks for an agent on further nodes and returns without waiting. A node that has one keeps it; once the fleet is
// closed nothing is started.
func (f *Fleet) Add(nodes ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range nodes {
		if f.closing || f.agents[n] != nil {
			continue
		}
		a := &Agent{
			Node: n, Pod: podName(f.run, n),
			ready: make(chan struct{}), created: make(chan struct{}), seen: make(chan *corev1.Pod, 1),
		}
		f.agents[n] = a
		f.wg.Go(func() {
			defer close(a.ready)
			a.failure = f.bringUp(a)
		})
	}
}

// byPod finds the agent that has a pod; nil when none has it.
func (f *Fleet) byPod(name string) *Agent {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.agents {
		if a.Pod == name {
			return a
		}
	}
	return nil
}

// Agent waits until the node's agent can be asked, or fails with a *Failure.
func (f *Fleet) Agent(ctx context.Context, node string) (*Agent, error) {
	f.mu.Lock()
	a := f.agents[node]
	f.mu.Unlock()
	if a == nil {
		return nil, fmt.Errorf("no agent was started on node %s", node)
	}
	select {
	case <-a.ready:
		if a.failure != nil {
			return nil, a.failure
		}
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bringUp creates the pod, waits until it runs and attaches.
func (f *Fleet) bringUp(a *Agent) error {
	err := f.create(a)
	close(a.created)
	if err != nil {
		return err
	}
	a.Created = time.Since(f.begin)
	ctx, cancel := context.WithTimeout(f.ctx, f.options.Timeout)
	defer cancel()
	var last *corev1.Pod
	for up := false; !up; {
		select {
		case p := <-a.seen:
			last = p
			if p == nil {
				return failuref(a.Node, "see who deletes pods in the namespace, or use --agent-namespace NAME", nil,
					"the agent pod %s on node %s was deleted by somebody else", a.Pod, a.Node)
			}
			ok, fail := running(p, f.options)
			if fail != nil {
				return fail
			}
			up = ok
		case <-f.watchFailed:
			return watchFailure(f.options, a.Node, f.watchErr)
		case <-ctx.Done():
			if f.ctx.Err() != nil {
				return f.ctx.Err()
			}
			return f.tooLate(a, last)
		}
	}
	a.Running = time.Since(f.begin)
	f.attach(a)
	a.Attached = time.Since(f.begin)
	return nil
}

// create sends the create request. An interrupt does not cancel it: a request cut off half-way may still make a pod.
func (f *Fleet) create(a *Agent) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), createDeadline)
	defer cancel()
	if f.ctx.Err() != nil {
		return f.ctx.Err()
	}
	_, err := f.client.CoreV1().Pods(f.options.Namespace).Create(ctx, podFor(f.options, f.run, a.Node), metav1.CreateOptions{})
	f.mu.Lock()
	var status apierrors.APIStatus
	a.exists = err == nil || !errors.As(err, &status) // an answer of the API server is definite, anything else is not
	f.mu.Unlock()
	if err != nil {
		return createFailure(f.options, a.Node, err)
	}
	return nil
}

// attach connects the conversation with the pod; it goes on until the fleet is closed or the agent ends.
func (f *Fleet) attach(a *Agent) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	errTail := new(tail)
	f.mu.Lock()
	a.stdin = inW
	f.mu.Unlock()
	a.Conversation = Converse(outR, inW)
	f.attached.Go(func() {
		err := f.attacher.Attach(f.streams, f.options.Namespace, a.Pod, inR, outW, errTail)
		switch said := errTail.String(); {
		case f.streams.Err() != nil:
			err = f.streams.Err()
		case err != nil:
			fail := attachFailure(f.options, a.Node, err)
			fail.Sentence += colon(said)
			err = fail
		default:
			err = failuref(a.Node, "", nil, "the agent on node %s ended%s", a.Node, colon(said))
		}
		a.End(err)
		_ = outW.CloseWithError(err)
		_ = inR.CloseWithError(err)
	})
}

// tooLate says what the pod was waiting for when the time was up.
func (f *Fleet) tooLate(a *Agent, last *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(f.ctx, 3*time.Second)
	defer cancel()
	why := progress(last)
	if e := f.lastWarning(ctx, a.Pod); e != "" {
		why += "; the last event is: " + e
	}
	return failuref(a.Node, "give it more time with --timeout, or choose other nodes with --node", context.DeadlineExceeded,
		"the agent on node %s did not run within %s: %s", a.Node, f.options.Timeout, why)
}

// lastWarning is the newest warning event about a pod; empty if there is none or events cannot be read.
func (f *Fleet) lastWarning(ctx context.Context, pod string) string {
	list, err := f.client.CoreV1().Events(f.options.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.name=" + pod + ",type=" + corev1.EventTypeWarning, Limit: 50,
	})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	return strings.TrimSpace(list.Items[len(list.Items)-1].Message)
}

// closeDeadline bounds the clean-up.
const closeDeadline = 15 * time.Second

// goodbye is how long agents may take to end by themselves when their standard input closes.
const goodbye = 500 * time.Millisecond

// Close ends every conversation and deletes every pod, all at once and without a grace period. It does not depend on the
// context of Start. The error names the pods that may be left.
func (f *Fleet) Close() error {
	f.mu.Lock()
	f.closing = true
	agents := slices.Collect(maps.Values(f.agents))
	for _, a := range agents {
		if a.stdin != nil {
			_ = a.stdin.Close()
		}
	}
	f.mu.Unlock()
	f.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeDeadline)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		left []string
		errs []error
	)
	for _, a := range agents {
		wg.Go(func() {
			select {
			case <-a.created:
			case <-ctx.Done():
			}
			f.mu.Lock()
			exists := a.exists
			f.mu.Unlock()
			if !exists {
				return
			}
			if err := deletePod(ctx, f.client, f.options.Namespace, a.Pod); err != nil {
				mu.Lock()
				defer mu.Unlock()
				left, errs = append(left, a.Pod), append(errs, err)
			}
		})
	}
	wg.Wait()
	f.wg.Wait()
	f.endStreams()
	if len(left) > 0 {
		return fmt.Errorf("agent pods may be left in namespace %s: %s (delete them with: kubectl svctrace cleanup -n %s): %w",
			f.options.Namespace, strings.Join(left, ", "), f.options.Namespace, errors.Join(errs...))
	}
	return nil
}

// endStreams waits until the conversations have ended, and cuts those that do not.
func (f *Fleet) endStreams() {
	timer := time.AfterFunc(goodbye, f.cutStreams)
	defer timer.Stop()
	f.attached.Wait()
	f.cutStreams()
}

// deletePod deletes a pod at once; a pod that is gone already is as good.
func deletePod(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	err := client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
