//go:build linux

package sockdiag

import (
	"strings"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

func TestParseNetstat(t *testing.T) {
	const good = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: InNoRoutes\nIpExt: 4\n"
	if c, size, err := parseNetstat(strings.NewReader(good)); err != nil || size == 0 || c != (node.ListenCounters{Overflows: 22, Drops: 333}) {
		t.Errorf("%+v, %d, %v", c, size, err)
	}
	for name, text := range map[string]string{
		"nothing":           "",
		"no values":         "TcpExt: ListenOverflows ListenDrops\n",
		"a value less":      "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1\n",
		"a counter is gone": "TcpExt: ListenOverflows\nTcpExt: 1\n",
		"no number":         "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 x\n",
		"a line too long":   "TcpExt: " + strings.Repeat("x", maxNetstatLine) + "\n",
	} {
		if c, _, err := parseNetstat(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
