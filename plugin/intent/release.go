package intent

import (
	"strconv"
	"strings"
)

// Release is a Kubernetes minor release of the 1.x line: 33 for 1.33. 0 is unknown and counts as the newest.
//
// A Node does not say which kube-proxy it runs (status.nodeInfo.kubeProxyVersion is deprecated and empty). Where a rule
// changed between releases, what kube-proxy itself tells the agent counts, and else the kubelet's release stands for it.
type Release int

// ParseRelease reads the minor release out of a version such as v1.33.4 or v1.29.6-eks-1234; 0 if it has none.
func ParseRelease(version string) Release {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 || parts[0] != "1" {
		return 0
	}
	digits := strings.TrimRightFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
	minor, err := strconv.Atoi(digits)
	if err != nil || minor < 0 {
		return 0
	}
	return Release(minor)
}

// Before reports whether the release is known and older than 1.minor.
func (r Release) Before(minor int) bool { return r != 0 && int(r) < minor }
