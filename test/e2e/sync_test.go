package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-svctrace/kubectl-svctrace/test/lab"
)

// beaconApp is the label of the pod behind the beacons.
const beaconApp = "beacon"

// sync waits until every kube-proxy that runs has written what the API said when sync was called. It makes a Service, a
// beacon, and waits until it answers on the nodes: a kube-proxy sees changes in the order they were made, and writes all
// that it has seen.
func (c *cluster) sync(ctx context.Context, without ...*lab.Node) error {
	c.beacons++
	s := service{name: fmt.Sprintf("beacon-%d", c.beacons), selects: map[string]string{"app": beaconApp}, clusterOnly: true}
	if err := c.makeService(ctx, s, 0); err != nil {
		return err
	}
	api := c.client.CoreV1().Services(namespace)
	made, err := api.Get(ctx, s.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		stopped := false
		for _, w := range without {
			stopped = stopped || w.Index == n.Index
		}
		for _, ip := range made.Spec.ClusterIPs {
			if stopped {
				continue
			}
			a, err := netip.ParseAddr(ip)
			if err != nil {
				return err
			}
			err = eventually(ctx, fmt.Sprintf("wait until %s of %s answers on %s", ip, s.name, n), func() (bool, error) {
				got, err := n.Connect(ctx, netip.AddrPortFrom(a, 80), lab.ConnectOptions{Timeout: 100 * time.Millisecond})
				return got.All(lab.Answered), err
			})
			if err != nil {
				return err
			}
		}
	}
	return api.Delete(ctx, s.name, metav1.DeleteOptions{})
}
