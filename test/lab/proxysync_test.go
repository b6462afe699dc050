package lab

import (
	"strings"
	"testing"
)

func TestSyncedMeansEveryFamily(t *testing.T) {
	const (
		other = "# TYPE " + syncMetric + " gauge\nkubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 1.7e+09\n"
		four  = syncMetric + `{ip_family="IPv4"} 1.7955043922364223e+09` + "\n"
		six   = syncMetric + `{ip_family="IPv6"} `
	)
	for name, tc := range map[string]struct {
		metrics string
		ok      bool
	}{
		"nothing yet":   {other, false},
		"one of two":    {other + four + six + "0\n", false},
		"both":          {other + four + six + "1.7e+09\n", true},
		"no labels":     {syncMetric + " 1.7e+09\n", true},
		"not a number":  {syncMetric + " soon\n", false},
		"empty":         {"", false},
		"cut in middle": {four[:10], false},
	} {
		if err := synced(strings.NewReader(tc.metrics)); (err == nil) != tc.ok {
			t.Errorf("%s: %v, want ok=%v", name, err, tc.ok)
		}
	}
}
