//go:build labkube

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/apis/config/scheme"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	utilnode "k8s.io/kubernetes/pkg/util/node"
	netutils "k8s.io/utils/net"
)

// never is longer than any run: syncs happen when they are asked for.
const never = 24 * time.Hour

// configuration is a case's configuration as kube-proxy works with it. What stands in cmd/kube-proxy/app and is not
// exported is done here in the same way (kubernetes v1.37.2: platformApplyDefaults, detectNodeIPs,
// expandNodePortAddressKeywords, getLocalDetectors, platformCheckSupported).
type configuration struct {
	*kubeproxyconfig.KubeProxyConfiguration
	node      *v1.Node
	families  []v1.IPFamily
	addresses map[v1.IPFamily]net.IP
	detectors map[v1.IPFamily]proxyutil.LocalTrafficDetector
}

func (c *Case) configuration() (*configuration, error) {
	node, err := c.node()
	if err != nil {
		return nil, err
	}
	config, err := decodeConfig(c.Config)
	if err != nil {
		return nil, fmt.Errorf("reading kube-proxy's configuration: %w", err)
	}
	out := &configuration{KubeProxyConfiguration: config, node: node}
	switch c.Backend {
	case NFTables:
		config.Mode = kubeproxyconfig.ProxyModeNFTables
	case IPTablesNFT, IPTablesLegacy:
		config.Mode = kubeproxyconfig.ProxyModeIPTables
	default:
		return nil, fmt.Errorf("unknown backend %q", c.Backend)
	}
	if config.Mode == kubeproxyconfig.ProxyModeNFTables && len(config.NodePortAddresses) == 0 {
		config.NodePortAddresses = []string{kubeproxyconfig.NodePortAddressesPrimary}
	}
	if config.DetectLocalMode == "" {
		config.DetectLocalMode = kubeproxyconfig.LocalModeClusterCIDR
	}
	config.MinSyncPeriod, config.SyncPeriod = metav1.Duration{}, metav1.Duration{Duration: never}
	primary := out.detectAddresses()
	config.NodePortAddresses = out.expand(config.NodePortAddresses)
	out.families = c.Families
	if len(out.families) == 0 {
		out.families = []v1.IPFamily{primary}
		other := v1.IPv6Protocol
		if primary == v1.IPv6Protocol {
			other = v1.IPv4Protocol
		}
		if !out.addresses[other].IsLoopback() {
			out.families = append(out.families, other)
		}
	}
	out.detectLocal()
	return out, nil
}

// decodeConfig reads the file format of kube-proxy's configuration, with its defaults.
func decodeConfig(raw json.RawMessage) (*kubeproxyconfig.KubeProxyConfiguration, error) {
	fields := map[string]json.RawMessage{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, err
		}
	}
	fields["apiVersion"] = json.RawMessage(`"kubeproxy.config.k8s.io/v1alpha1"`)
	fields["kind"] = json.RawMessage(`"KubeProxyConfiguration"`)
	delete(fields, "mode")
	b, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	object, err := runtime.Decode(scheme.Codecs.UniversalDecoder(), b)
	if err != nil {
		return nil, err
	}
	config, ok := object.(*kubeproxyconfig.KubeProxyConfiguration)
	if !ok {
		return nil, fmt.Errorf("it is a %T", object)
	}
	return config, nil
}

// detectAddresses finds the node's addresses and returns the primary family.
func (c *configuration) detectAddresses() v1.IPFamily {
	primary := v1.IPv4Protocol
	c.addresses = map[v1.IPFamily]net.IP{v1.IPv4Protocol: net.IPv4(127, 0, 0, 1), v1.IPv6Protocol: net.IPv6loopback}
	of := func(ip net.IP) v1.IPFamily {
		if netutils.IsIPv4(ip) {
			return v1.IPv4Protocol
		}
		return v1.IPv6Protocol
	}
	found, _ := utilnode.GetNodeHostIPs(c.node) // a node without addresses is not an error to kube-proxy
	for i, ip := range found {
		if i == 0 {
			primary = of(ip)
		}
		c.addresses[of(ip)] = ip
	}
	if bind := netutils.ParseIPSloppy(c.BindAddress); bind != nil && !bind.IsUnspecified() {
		primary = of(bind)
		c.addresses[primary] = bind
	}
	return primary
}

// expand replaces the keywords among node port addresses.
func (c *configuration) expand(addresses []string) []string {
	var out []string
	for _, a := range addresses {
		switch a {
		case kubeproxyconfig.NodePortAddressesPrimary:
			for _, f := range []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol} {
				ip := c.addresses[f]
				if ip == nil || ip.IsLoopback() {
					continue
				}
				bits := 32
				if f == v1.IPv6Protocol {
					bits = 128
				}
				out = append(out, fmt.Sprintf("%s/%d", ip, bits))
			}
		case kubeproxyconfig.NodePortAddressesLocalhost:
			out = append(out, "127.0.0.0/8", "::1/128")
		case kubeproxyconfig.NodePortAddressesAll:
			out = append(out, proxyutil.IPv4ZeroCIDR, proxyutil.IPv6ZeroCIDR)
		default:
			out = append(out, a)
		}
	}
	return out
}

// detectLocal makes what tells local pods' packets.
func (c *configuration) detectLocal() {
	c.detectors = map[v1.IPFamily]proxyutil.LocalTrafficDetector{
		v1.IPv4Protocol: proxyutil.NewNoOpLocalDetector(),
		v1.IPv6Protocol: proxyutil.NewNoOpLocalDetector(),
	}
	byCIDR := func(cidrs []string) {
		for f, list := range proxyutil.MapCIDRsByIPFamily(cidrs) {
			c.detectors[f] = proxyutil.NewDetectLocalByCIDR(list[0].String())
		}
	}
	both := func(d proxyutil.LocalTrafficDetector) {
		c.detectors[v1.IPv4Protocol], c.detectors[v1.IPv6Protocol] = d, d
	}
	switch c.DetectLocalMode {
	case kubeproxyconfig.LocalModeClusterCIDR:
		byCIDR(c.DetectLocal.ClusterCIDRs)
	case kubeproxyconfig.LocalModeNodeCIDR:
		byCIDR(c.node.Spec.PodCIDRs)
	case kubeproxyconfig.LocalModeBridgeInterface:
		both(proxyutil.NewDetectLocalByBridgeInterface(c.DetectLocal.BridgeInterface))
	case kubeproxyconfig.LocalModeInterfaceNamePrefix:
		both(proxyutil.NewDetectLocalByInterfaceNamePrefix(c.DetectLocal.InterfaceNamePrefix))
	}
}
