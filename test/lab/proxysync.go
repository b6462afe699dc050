package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// proxyMetrics is where kube-proxy on the node with this address serves its metrics.
func proxyMetrics(node netip.Addr) netip.AddrPort { return netip.AddrPortFrom(node, 10249) }

// syncMetric is the time of kube-proxy's last successful sync, one value for each IP family, 0 before the first. (Its
// health endpoint does not tell: it says healthy before the first sync, too.)
const syncMetric = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"

// proxySynced returns nil if kube-proxy on a node has written its rules for every IP family since it was started.
func proxySynced(ctx context.Context, node netip.Addr, dial func(ctx context.Context, network, address string) (net.Conn, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+proxyMetrics(node).String()+"/metrics", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("kube-proxy's metrics: %s", response.Status)
	}
	return synced(response.Body)
}

// synced reads metrics in Prometheus' text format.
func synced(metrics io.Reader) error {
	families := 0
	lines := bufio.NewScanner(metrics)
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || (series != syncMetric && !strings.HasPrefix(series, syncMetric+"{")) {
			continue
		}
		at, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("kube-proxy's metrics: %s: %w", series, err)
		}
		if at == 0 {
			return fmt.Errorf("not synced yet: %s", series)
		}
		families++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("kube-proxy's metrics: %w", err)
	}
	if families == 0 {
		return errors.New("not synced yet")
	}
	return nil
}
