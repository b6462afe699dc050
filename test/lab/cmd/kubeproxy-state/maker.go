//go:build labkube

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	utilsysctl "k8s.io/component-helpers/node/util/sysctl"
	"k8s.io/kubernetes/pkg/proxy"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	"k8s.io/kubernetes/pkg/proxy/nftables"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

// maker applies cases, each in the place of the one before.
type maker struct {
	tools *tools
	last  *applied
}

// applied is a case whose rules stand in the kernel.
type applied struct {
	c        *Case
	config   *configuration
	proxiers []*proxier
}

// proxier is kube-proxy's proxier of one family.
type proxier struct {
	proxy.Provider
	family v1.IPFamily
	health *healthcheck.ProxyHealthServer
	// canaries is closed when the canary chains of iptables stand.
	canaries *sync.WaitGroup
}

// apply removes what the last case left, and writes the rules of c.
func (m *maker) apply(ctx context.Context, c *Case) error {
	if err := m.remove(ctx); err != nil {
		return fmt.Errorf("removing the case before: %w", err)
	}
	config, err := c.configuration()
	if err != nil {
		return err
	}
	if err := m.tools.use(c.Backend); err != nil {
		return err
	}
	for i := range c.Services {
		complete(&c.Services[i])
	}
	for i := range c.EndpointSlices {
		completeSlice(&c.EndpointSlices[i])
	}
	a := &applied{c: c, config: config}
	m.last = a
	for _, f := range config.families {
		p, err := newProxier(ctx, config, f)
		if err != nil {
			return fmt.Errorf("making kube-proxy's proxier for %s: %w", f, err)
		}
		a.proxiers = append(a.proxiers, p)
	}
	topology := map[string]string{}
	if zone, ok := config.node.Labels[v1.LabelTopologyZone]; ok {
		topology[v1.LabelTopologyZone] = zone
	}
	for _, p := range a.proxiers {
		p.OnServiceCIDRsChanged(c.ServiceCIDRs)
		p.OnTopologyChange(topology)
	}
	return a.write(ctx)
}

// write gives the objects to the proxiers, in batches, and lets them sync after each.
func (a *applied) write(ctx context.Context) error {
	slices := map[string][]*discovery.EndpointSlice{}
	for i := range a.c.EndpointSlices {
		if s := &a.c.EndpointSlices[i]; oursToo(s) {
			slices[key(s)] = append(slices[key(s)], s)
		}
	}
	give := func(name string) {
		for _, s := range slices[name] {
			for _, p := range a.proxiers {
				p.OnEndpointSliceAdd(s)
			}
		}
		delete(slices, name)
	}
	batch := a.c.Batch
	if batch <= 0 {
		batch = a.c.Backend.defaultBatch()
	}
	given := 0
	for i := range a.c.Services {
		s := &a.c.Services[i]
		if !ours(s) {
			continue
		}
		for _, p := range a.proxiers {
			p.OnServiceAdd(s)
		}
		give(s.Namespace + "/" + s.Name)
		if given++; given%batch == 0 {
			if err := a.sync(ctx); err != nil {
				return err
			}
		}
	}
	for name := range slices {
		give(name)
	}
	if err := a.sync(ctx); err != nil {
		return err
	}
	for _, p := range a.proxiers {
		p.canaries.Wait()
	}
	return nil
}

// sync lets the proxiers write their rules, and returns when they have. OnServiceSynced and OnEndpointSlicesSynced sync
// at once, on the caller's goroutine, as soon as both have been called. A sync that failed is tried once more.
func (a *applied) sync(ctx context.Context) error {
	for _, p := range a.proxiers {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		p.OnEndpointSlicesSynced()
		if p.synced(start) {
			continue
		}
		p.OnServiceSynced()
		if !p.synced(start) {
			return fmt.Errorf("kube-proxy's sync for %s failed (its log says why: -v)", p.family)
		}
	}
	return nil
}

// synced tells whether a sync ended well after start.
func (p *proxier) synced(start time.Time) bool {
	s, ok := p.health.Health().Status[p.family]
	return ok && s.LastUpdated.After(start)
}

// remove takes away what the last case left: its Services, so that their health servers stop listening, and then all of
// kube-proxy's rules, as kube-proxy --cleanup does. What that leaves in iptables' tables goes too.
func (m *maker) remove(ctx context.Context) error {
	a := m.last
	if a == nil {
		return nil
	}
	m.last = nil
	for i := range a.c.Services {
		for _, p := range a.proxiers {
			p.OnServiceDelete(&a.c.Services[i])
		}
	}
	errs := []error{a.sync(ctx)}
	failed := false
	if a.c.Backend == NFTables {
		failed = nftables.CleanupLeftovers(ctx)
	} else {
		failed = iptables.CleanupLeftovers(ctx)
		errs = append(errs, m.tools.empty(ctx, a.config.families))
	}
	if failed {
		errs = append(errs, errors.New("kube-proxy's cleanup failed"))
	}
	return errors.Join(errs...)
}

func newProxier(ctx context.Context, c *configuration, f v1.IPFamily) (*proxier, error) {
	p := &proxier{family: f, health: healthcheck.NewProxyHealthServer("", never, nodeOf{c.node}), canaries: &sync.WaitGroup{}}
	var err error
	if c.Mode == kubeproxyconfig.ProxyModeNFTables {
		p.Provider, err = nftables.NewProxier(ctx, c.KubeProxyConfiguration, f, c.detectors[f], c.node.Name, c.addresses[f], nil, p.health, false)
		return p, err
	}
	protocol := utiliptables.ProtocolIPv4
	if f == v1.IPv6Protocol {
		protocol = utiliptables.ProtocolIPv6
	}
	p.canaries.Add(1)
	ipt := &watched{utiliptables.New(protocol), p.canaries}
	p.Provider, err = iptables.NewProxier(ctx, c.KubeProxyConfiguration, f, ipt, utilsysctl.New(), c.detectors[f], c.node.Name,
		c.addresses[f], nil, p.health, false)
	return p, err
}

// watched is kube-proxy's iptables, but that its monitor makes the canary chains once and does not watch them: a case
// that is over has nothing to be watched.
type watched struct {
	utiliptables.Interface
	canaries *sync.WaitGroup
}

// Monitor makes the canary chains.
func (w *watched) Monitor(canary utiliptables.Chain, tables []utiliptables.Table, _ func(), _ time.Duration, _ <-chan struct{}) {
	defer w.canaries.Done()
	for _, t := range tables {
		if _, err := w.EnsureChain(t, canary); err != nil {
			return
		}
	}
}

// nodeOf tells the health server about the node.
type nodeOf struct{ node *v1.Node }

// Node returns it.
func (n nodeOf) Node() *v1.Node { return n.node }
