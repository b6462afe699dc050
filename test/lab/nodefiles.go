package lab

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed templates
var templateFiles embed.FS

// pluginDir is where Debian has the CNI plugins.
const pluginDir = "/usr/lib/cni"

// routedPlugin is the name of the lab's own CNI plugin, command routed.
const routedPlugin = "routed"

// legacyIPTables is the one program behind the legacy variants of iptables' commands.
const legacyIPTables = "/usr/sbin/xtables-legacy-multi"

// nodeFiles are the configuration files of a node, and what they are filled in with.
type nodeFiles struct {
	Name          string
	Addresses     []string
	PodRanges     []string
	DefaultRoutes []string
	ClusterRanges string
	ProxyMode     string
	ProxyMetrics  string
	PKI           string
	PauseImage    string
	PluginDir     string
	Network       Network
	PodMTU        int // 0: the plugin's default

	state  state
	legacy bool
}

func newNodeFiles(s state, o Options, n int) *nodeFiles {
	a := addresses{o.Family}
	f := &nodeFiles{
		Name:          nodeName(n),
		ClusterRanges: strings.Join(a.pick(podRanges), ","),
		ProxyMode:     o.Proxy[n-1].mode(),
		ProxyMetrics:  proxyMetrics(a.node(n)[0]).String(),
		PKI:           s.path("pki"),
		PauseImage:    PauseImage,
		PluginDir:     pluginDir,
		state:         s,
		Network:       o.Network,
		legacy:        o.Proxy[n-1] == IPTablesLegacy,
	}
	if mtu := o.podMTU(); mtu != switchMTU {
		f.PodMTU = mtu
	}
	for _, addr := range a.node(n) {
		f.Addresses = append(f.Addresses, addr.String())
		f.DefaultRoutes = append(f.DefaultRoutes, everything(addr).String())
	}
	for _, p := range a.pods(n) {
		f.PodRanges = append(f.PodRanges, p.String())
	}
	return f
}

// write writes the files into the node's own file system.
func (f *nodeFiles) write() error {
	for source, target := range map[string]string{
		"containerd.toml": "/etc/containerd/config.toml",
		"cni.conflist":    "/etc/cni/net.d/10-lab.conflist",
		"kubelet.yaml":    "/etc/kubernetes/kubelet.yaml",
		"kube-proxy.yaml": "/etc/kubernetes/kube-proxy.yaml",
	} {
		content, err := f.render(source)
		if err != nil {
			return err
		}
		if err := replaceFile(target, content); err != nil {
			return err
		}
	}
	if err := replaceFile("/etc/resolv.conf", nil); err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	for _, addr := range f.Addresses {
		hosts += addr + " " + f.Name + "\n"
	}
	if err := replaceFile("/etc/hosts", []byte(hosts)); err != nil {
		return err
	}
	if f.Network == Routed {
		if err := replaceLink(filepath.Join(pluginDir, routedPlugin), f.state.bin(routedPlugin)); err != nil {
			return err
		}
	}
	if !f.legacy {
		return nil
	}
	for _, name := range []string{
		"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
	} {
		if err := replaceLink(filepath.Join("/usr/local/sbin", name), legacyIPTables); err != nil {
			return err
		}
	}
	return nil
}

func (f *nodeFiles) render(source string) ([]byte, error) {
	t, err := template.ParseFS(templateFiles, "templates/"+source)
	if err != nil {
		return nil, fmt.Errorf("parse template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, f); err != nil {
		return nil, fmt.Errorf("fill in template: %w", err)
	}
	return out.Bytes(), nil
}

// replaceFile writes a file in place of whatever is there, a link not followed.
func replaceFile(path string, content []byte) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// replaceLink makes a symbolic link in place of whatever is there.
func replaceLink(path, target string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}
