package facts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// Ports of kube-proxy's health and metrics endpoints (k8s.io/kubernetes/pkg/cluster/ports).
const (
	healthPort  = 10256
	metricsPort = 10249
)

// kubeProxy asks kube-proxy's own endpoints where its sockets listen. Nothing is changed by asking.
func (c *collector) kubeProxy() error {
	k := &c.out.KubeProxy
	var err error
	if k.Processes, err = c.m.Processes(c.ctx, "kube-proxy"); err != nil {
		return err
	}
	if k.Health, err = c.endpoint(healthPort); err != nil {
		return err
	}
	if k.Metrics, err = c.endpoint(metricsPort); err != nil {
		return err
	}
	c.ask(&k.Health, "/healthz")
	if body := c.ask(&k.Metrics, "/proxyMode"); body != nil {
		k.Mode = word(body)
	}
	if k.Metrics.Status == 0 {
		return nil
	}
	probe := k.Metrics
	if body := c.ask(&probe, "/metrics"); body != nil {
		k.Sync, k.Failures = readMetrics(body)
		k.Version = readVersion(body)
		for i := range k.Sync {
			if k.Sync[i].Queued > 0 {
				k.Sync[i].QueuedAge = c.m.Now() - k.Sync[i].Queued
			}
		}
	}
	if body := c.ask(&probe, "/configz"); body != nil {
		k.Config = readConfig(body)
	}
	return nil
}

// endpoint finds the socket that listens on a port of kube-proxy. A wildcard is asked at the loopback address.
func (c *collector) endpoint(port uint16) (wire.Endpoint, error) {
	for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
		socks, err := c.m.OnPort(c.ctx, skb.TCP, f, port)
		if err != nil {
			return wire.Endpoint{}, err
		}
		for _, s := range socks {
			to := s.Local
			if to.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(loopback(f), port)
			}
			return wire.Endpoint{Listening: true, Address: to}, nil
		}
	}
	return wire.Endpoint{}, nil
}

func loopback(f skb.Family) netip.Addr {
	if f == skb.IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// ask gets a page and notes how that went; nil unless the answer is 200.
func (c *collector) ask(e *wire.Endpoint, path string) []byte {
	if !e.Listening {
		return nil
	}
	status, body, err := c.m.Get(c.ctx, e.Address, path)
	if err != nil {
		e.Error = err.Error()
		return nil
	}
	e.Status = status
	if status != 200 {
		return nil
	}
	return body
}

// word is an answer of one word; anything else is no answer.
func word(b []byte) string {
	s := strings.TrimSpace(string(b))
	if len(s) > 16 || strings.ContainsFunc(s, func(r rune) bool { return r < 'a' || r > 'z' }) {
		return ""
	}
	return s
}

// Series of kube-proxy's metrics (pkg/proxy/metrics). From 1.33 they have the label ip_family.
const (
	queuedMetric = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
	lastMetric   = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
)

// failureMetrics count writes of rules that failed.
var failureMetrics = []string{
	"kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
	"kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
	"kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
}

// readMetrics reads the times and failures out of metrics in Prometheus' text format.
func readMetrics(body []byte) (out []wire.Sync, failures int64) {
	of := func(family string) *wire.Sync {
		i := slices.IndexFunc(out, func(s wire.Sync) bool { return s.Family == family })
		if i < 0 {
			out, i = append(out, wire.Sync{Family: family}), len(out)
		}
		return &out[i]
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		name, labels, _ := strings.Cut(series, "{")
		if !ok || name != queuedMetric && name != lastMetric && !slices.Contains(failureMetrics, name) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || v < 0 {
			continue
		}
		switch name {
		case queuedMetric:
			of(familyLabel(labels)).Queued = v
		case lastMetric:
			of(familyLabel(labels)).Last = v
		default:
			failures += int64(v)
		}
	}
	return out, failures
}

// buildInfo is the series by which every component tells its release (k8s.io/component-base/metrics).
var buildInfo = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^kubernetes_build_info\{[^}]*\bgit_version="(v[0-9][0-9A-Za-z.+-]{0,60})"`)
})

func readVersion(metrics []byte) string {
	if m := buildInfo().FindSubmatch(metrics); m != nil {
		return string(m[1])
	}
	return ""
}

func familyLabel(labels string) string {
	_, rest, ok := strings.Cut(labels, `ip_family="`)
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, `"`)
	return v
}

// configz is the part of kube-proxy's configuration that is read; its names have been the same since 1.29.
type configz struct {
	Config struct {
		ClusterCIDR       json.RawMessage `json:"clusterCIDR"`
		DetectLocalMode   string          `json:"detectLocalMode"`
		HostnameOverride  string          `json:"hostnameOverride"`
		Mode              string          `json:"mode"`
		NodePortAddresses []string        `json:"nodePortAddresses"`
		DetectLocal       struct {
			ClusterCIDRs []string `json:"clusterCIDRs"`
		} `json:"detectLocal"`
		IPTables rules `json:"iptables"`
		NFTables rules `json:"nftables"`
		Linux    struct {
			MasqueradeAll bool `json:"masqueradeAll"`
		} `json:"linux"`
	} `json:"kubeproxy.config.k8s.io"`
}

type rules struct {
	MasqueradeAll      bool  `json:"masqueradeAll"`
	MasqueradeBit      *int  `json:"masqueradeBit"`
	LocalhostNodePorts *bool `json:"localhostNodePorts"`
}

// readConfig reads /configz; nil when it is not what kube-proxy answers. Until 1.35 it is the internal struct, with Go's
// field names, which encoding/json reads too: it ignores case.
func readConfig(body []byte) *wire.KubeProxyConfig {
	var z configz
	if err := json.Unmarshal(body, &z); err != nil {
		return nil
	}
	c := z.Config
	out := &wire.KubeProxyConfig{
		DetectLocalMode: c.DetectLocalMode, HostnameOverride: c.HostnameOverride, MasqueradeAll: c.Linux.MasqueradeAll, MasqueradeBit: 14, NodePortAddresses: c.NodePortAddresses,
	}
	r := c.IPTables
	if c.Mode == "nftables" {
		r = c.NFTables
	}
	out.MasqueradeAll = out.MasqueradeAll || r.MasqueradeAll
	if r.MasqueradeBit != nil {
		out.MasqueradeBit = *r.MasqueradeBit
	}
	out.LocalhostNodePorts = c.IPTables.LocalhostNodePorts == nil || *c.IPTables.LocalhostNodePorts
	ranges := c.DetectLocal.ClusterCIDRs
	var one string
	if json.Unmarshal(c.ClusterCIDR, &one) == nil && one != "" {
		ranges = append(ranges, strings.Split(one, ",")...)
	}
	for _, s := range ranges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil {
			out.ClusterCIDR = append(out.ClusterCIDR, p.Masked())
		}
	}
	return out
}
