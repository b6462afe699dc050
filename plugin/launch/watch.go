package launch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watch follows the pods of the run with one watch and hands each agent its news. A watch without a resource version
// begins with what exists, so it may be opened before, during or after the pods are created, and again after it broke.
func (f *Fleet) watch() {
	for failed := 0; f.ctx.Err() == nil; {
		w, err := f.client.CoreV1().Pods(f.options.Namespace).Watch(f.ctx, metav1.ListOptions{LabelSelector: RunLabel + "=" + f.run})
		if err != nil {
			if failed++; failed >= 3 || isDefinite(err) {
				f.watchErr = err
				close(f.watchFailed)
				return
			}
			select {
			case <-time.After(time.Duration(failed) * 200 * time.Millisecond):
			case <-f.ctx.Done():
			}
			continue
		}
		failed = 0
		f.follow(w)
		w.Stop()
	}
}

// follow passes the events of one watch on until it ends.
func (f *Fleet) follow(w watch.Interface) {
	for {
		select {
		case <-f.ctx.Done():
			return
		case e, ok := <-w.ResultChan():
			if !ok || e.Type == watch.Error {
				return
			}
			p, isPod := e.Object.(*corev1.Pod)
			if !isPod {
				continue
			}
			a := f.byPod(p.Name)
			if a == nil {
				continue
			}
			if e.Type == watch.Deleted {
				p = nil
			}
			a.news(p)
		}
	}
}

// isDefinite reports whether trying the watch again is in vain.
func isDefinite(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsNotFound(err)
}

// news replaces what the agent has not looked at yet: only the newest state counts. There is one sender.
func (a *Agent) news(p *corev1.Pod) {
	select {
	case <-a.seen:
	default:
	}
	a.seen <- p
}
