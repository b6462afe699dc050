package cli

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/diagnose"
	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/intent"
)

// pickPaths keeps the access paths that --to names, in the model's order; all without --to.
func pickPaths(m *intent.Model, to []string) error {
	if len(to) == 0 {
		return nil
	}
	kept := make([]bool, len(m.Paths))
	for _, t := range to {
		found := false
		for i, p := range m.Paths {
			if names(t, m, p) {
				kept[i], found = true, true
			}
		}
		if !found {
			err := usagef("its access paths are "+pathList(m)+"; name a kind, an address, a port or a port's name", "--to %q names no access path of Service %s/%s", t, m.Namespace, m.Name)
			if port, ok := numberOf(t); ok {
				return &foundError{err: err, findings: diagnose.UnknownPortOf(m, port)}
			}
			return err
		}
	}
	var out []intent.AccessPath
	for i, p := range m.Paths {
		if kept[i] {
			out = append(out, p)
		}
	}
	m.Paths = out
	return nil
}

// names reports whether a value of --to names a path: its kind, address, port or port name, or two of them with a colon.
func names(to string, m *intent.Model, p intent.AccessPath) bool {
	if ap, err := netip.ParseAddrPort(to); err == nil {
		return p.Address == ap.Addr().Unmap() && p.Port == ap.Port()
	}
	if a, err := netip.ParseAddr(to); err == nil {
		return p.Address == a.Unmap()
	}
	if kind, port, ok := strings.Cut(to, ":"); ok {
		return (kind == "" || isKind(kind, p.Kind)) && isPort(port, m, p)
	}
	return isKind(to, p.Kind) || isPort(to, m, p)
}

// numberOf is the port that a value of --to ends in, or is.
func numberOf(to string) (uint16, bool) {
	n, err := strconv.ParseUint(to[strings.LastIndexByte(to, ':')+1:], 10, 16)
	return uint16(n), err == nil && n > 0
}

func isKind(s string, k intent.AccessKind) bool {
	if k == intent.LoadBalancerIP && strings.EqualFold(s, "lb") {
		return true
	}
	return strings.EqualFold(s, string(k)) || strings.EqualFold(s, string(k)+"IP")
}

func isPort(s string, m *intent.Model, p intent.AccessPath) bool {
	port := m.Ports[p.PortIndex]
	n, err := strconv.ParseUint(s, 10, 16)
	return s != "" && s == port.Name || err == nil && (uint16(n) == p.Port || uint16(n) == port.Port)
}

func pathList(m *intent.Model) string {
	var out []string
	for _, p := range m.Paths {
		if s := p.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}
