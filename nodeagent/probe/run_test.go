//go:build linux

package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/live/nlsock"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/wire"
)

// service is a Service as kube-proxy would write it: two endpoints, the second one masqueraded.
const service = `table ip web {
	chain prerouting {
		type nat hook prerouting priority -100
		ip daddr 10.96.0.25 tcp dport 80 counter jump service
	}
	chain service {
		meta l4proto tcp counter dnat to numgen random mod 2 map { 0 : POD2, 1 : POD3 } :8080
	}
	chain postrouting {
		type nat hook postrouting priority 100
		ip daddr POD3 counter masquerade
	}
}`

func TestConnectionsAreReportedEndpointByEndpoint(t *testing.T) {
	l := newLab(t)
	l.nft(service)
	l.serve(2, 8080)
	l.serve(3, 8080)
	rules := []wire.ProbeRule{
		{Namespace: "host", Table: "ip web", Chain: "prerouting", Handle: l.handle("web", "prerouting", "jump service")},
		{Namespace: "host", Table: "ip web", Chain: "service", Handle: l.handle("web", "service", "numgen")},
		{Namespace: "host", Table: "ip web", Chain: "postrouting", Handle: l.handle("web", "postrouting", "masquerade")},
		{Namespace: "host", Table: "ip web", Chain: "service", Handle: 4711}, // a rule that went away
	}
	const count = 60
	a := l.probe(wire.ProbeRequest{Protocol: "tcp", Destination: l.to("10.96.0.25:80"), Count: count, Rules: rules})
	if len(a.Attempts) != count || a.Namespace != "netns of "+l.addr(1, 10) {
		t.Fatalf("%d attempts from %s", len(a.Attempts), a.Namespace)
	}
	second, third := l.to(l.addr(2, 10)+":8080"), l.to(l.addr(3, 10)+":8080")
	got := map[netip.AddrPort]int{}
	for _, x := range a.Attempts {
		got[x.FinalDestination]++
		if x.Result != wire.ProbeConnected || x.SeenBy != "conntrack" || len(x.Drops) != 0 {
			t.Errorf("%+v", x)
		}
		masqueraded := x.FinalSource.Addr() != l.client()
		if masqueraded != (x.FinalDestination == third) {
			t.Errorf("%s reached %s from %s", x.Source, x.FinalDestination, x.FinalSource)
		}
		traced := slices.ContainsFunc(x.Events, func(e wire.ProbeEvent) bool { return e.Chain == "postrouting" && e.Handle == rules[2].Handle })
		if traced != masqueraded {
			t.Errorf("%s reached %s with the trace %v", x.Source, x.FinalDestination, x.Events)
		}
		want := wire.ProbeEvent{Namespace: "host", Table: "ip web", Chain: "prerouting", Handle: rules[0].Handle, Type: "rule", Verdict: "jump service"}
		if len(x.Events) == 0 || x.Events[0] != want {
			t.Errorf("trace %+v, want first %+v", x.Events, want)
		}
	}
	if len(got) != 2 || got[second]+got[third] != count || got[second] == 0 {
		t.Errorf("endpoints %v", got)
	}
	moved := map[string]uint64{}
	for _, c := range a.Counters {
		moved[c.Chain] = c.Packets
	}
	if moved["prerouting"] != count || moved["service"] != count || moved["postrouting"] != uint64(got[third]) {
		t.Errorf("counters %+v", a.Counters)
	}
}

func TestWhatStopsAConnectionIsNamed(t *testing.T) {
	l := newLab(t)
	l.nft(`table ip guard {
		chain prerouting { type nat hook prerouting priority -100; tcp dport 5 dnat to POD2:1; }
		chain forward {
			type filter hook forward priority 0
			tcp dport 1 drop
			tcp dport 2 reject
			tcp dport 3 reject with tcp reset
			tcp dport 4 reject with icmp type admin-prohibited
		}
	}`)
	l.in(l.pods[1], "nft", "add table ip pod; add chain ip pod out { type filter hook output priority 0 ; }; add rule ip pod out tcp dport 6 drop")
	gateway := l.addr(1, 1)
	for name, c := range map[string]struct {
		port   string
		result wire.ProbeResult
		errno  string
		by     string
		drop   wire.ProbeDrop
		last   string // chain and verdict of the last trace event
		dst    string // the destination that was seen, when translated
	}{
		"dropped by the node":       {"1", wire.ProbeTimeout, "", "", wire.ProbeDrop{Namespace: "host", Reason: "NETFILTER_DROP"}, "forward drop", ""},
		"refused by ICMP":           {"2", wire.ProbeRefused, "ECONNREFUSED", "icmp port-unreachable from " + gateway, wire.ProbeDrop{Namespace: "host", Reason: "NETFILTER_DROP"}, "forward drop", ""},
		"refused by a rule's reset": {"3", wire.ProbeRefused, "ECONNREFUSED", "tcp reset", wire.ProbeDrop{Namespace: "host", Reason: "NETFILTER_DROP"}, "forward drop", ""},
		"prohibited by ICMP":        {"4", wire.ProbeUnreachable, "EHOSTUNREACH", "icmp admin-prohibited from " + gateway, wire.ProbeDrop{Namespace: "host", Reason: "NETFILTER_DROP"}, "forward drop", ""},
		"translated and dropped":    {"5", wire.ProbeTimeout, "", "", wire.ProbeDrop{Namespace: "host", Reason: "NETFILTER_DROP"}, "forward drop", ":1"},
		"dropped in the pod":        {"6", wire.ProbeTimeout, "", "", wire.ProbeDrop{Reason: "NETFILTER_DROP"}, "out drop", ""},
		"no listener":               {"7", wire.ProbeRefused, "ECONNREFUSED", "tcp reset", wire.ProbeDrop{Namespace: "netns of " + l.addr(2, 10), Reason: "NO_SOCKET"}, "forward accept", ""},
	} {
		x := attemptIn(l, "tcp", l.addr(2, 10)+":"+c.port, 1200)
		if x.Result != c.result || x.Errno != c.errno || x.By != c.by {
			t.Errorf(name+": %s %s by %q, want %s %s by %q", x.Result, x.Errno, x.By, c.result, c.errno, c.by)
		}
		if !slices.ContainsFunc(x.Drops, func(d wire.ProbeDrop) bool {
			return d.Namespace == c.drop.Namespace && d.Reason == c.drop.Reason && d.Source == x.Source
		}) {
			t.Errorf(name+": drops %+v, want %+v", x.Drops, c.drop)
		}
		if n := len(x.Events); n == 0 || x.Events[n-1].Chain+" "+x.Events[n-1].Verdict != c.last {
			t.Errorf(name+": events %+v, want last %s", x.Events, c.last)
		}
		if c.dst != "" && (x.FinalDestination != l.to(l.addr(2, 10)+c.dst) || x.SeenBy != "trace") {
			t.Errorf(name+": reached %s by %s", x.FinalDestination, x.SeenBy)
		}
	}
}

// attemptIn probes once, on the lab's own thread: a subtest would be another goroutine.
func attemptIn(l *lab, proto, dst string, millis int) wire.ProbeAttempt {
	l.t.Helper()
	return l.probe(wire.ProbeRequest{Protocol: proto, Destination: l.to(dst), TimeoutMillis: millis}).Attempts[0]
}

func TestDatagramsCarryTheProbesOwnText(t *testing.T) {
	l := newLab(t)
	l.nft(`table ip dns { chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.10 udp dport 53 counter dnat to POD2:5353; }
		chain forward { type filter hook forward priority 0; udp dport 54 drop; }; }`)
	got := l.echo(2, 5353)
	x := attemptIn(l, "udp", "10.96.0.10:53", 1500)
	if x.Result != wire.ProbeAnswered || x.FinalDestination != l.to(l.addr(2, 10)+":5353") || len(x.Tracked) == 0 {
		t.Errorf("%+v", x)
	}
	if text := <-got; !strings.HasPrefix(text, "kubectl-svctrace probe ") || !strings.HasSuffix(text, "\n") {
		t.Errorf("payload %q", text)
	}
	if x := attemptIn(l, "udp", l.addr(2, 10)+":9", 1500); x.Result != wire.ProbeRefused || x.By != "icmp port-unreachable from "+l.addr(2, 10) {
		t.Errorf("without a listener: %+v", x)
	}
	if x := attemptIn(l, "udp", l.addr(2, 10)+":54", 300); x.Result != wire.ProbeTimeout || len(x.Drops) != 1 {
		t.Errorf("dropped: %+v", x)
	}
	if n := len(got); n != 0 {
		t.Errorf("%d more datagrams", n)
	}
}

func TestLegacyRulesAreCounted(t *testing.T) {
	l := newLab(t)
	for _, r := range []string{
		"-t nat -N SVC", "-t nat -A SVC -p udp -j RETURN", "-t nat -A SVC -p tcp -j DNAT --to-destination " + l.addr(2, 10) + ":8080",
		"-t nat -A PREROUTING -d 10.96.0.25/32 -p tcp --dport 80 -j SVC", "-t filter -A FORWARD -p tcp --dport 81 -j REJECT",
	} {
		l.run("iptables-legacy", strings.Fields(r)...)
	}
	l.serve(2, 8080)
	rule := func(table, chain string, n uint64) wire.ProbeRule {
		return wire.ProbeRule{Namespace: "host", Table: "legacy " + table, Chain: chain, Handle: n}
	}
	rules := []wire.ProbeRule{rule("nat", "PREROUTING", 1), rule("nat", "SVC", 1), rule("nat", "SVC", 2), rule("filter", "FORWARD", 1), rule("mangle", "FORWARD", 1)}
	a := l.probe(wire.ProbeRequest{Protocol: "tcp", Destination: l.to("10.96.0.25:80"), Count: 5, Rules: rules})
	for _, x := range a.Attempts {
		if x.Result != wire.ProbeConnected || x.FinalDestination != l.to(l.addr(2, 10)+":8080") {
			t.Errorf("%+v", x)
		}
	}
	want := map[wire.ProbeRule]uint64{rules[0]: 5, rules[2]: 5}
	for _, c := range a.Counters {
		if want[c.ProbeRule] != c.Packets {
			t.Errorf("%+v", c)
		}
		delete(want, c.ProbeRule)
	}
	if len(want) != 0 {
		t.Errorf("not moved: %v", want)
	}
	if tables := l.run("cat", "/proc/net/ip_tables_names"); strings.Contains(tables, "mangle") {
		t.Error("reading the counters made the table mangle")
	}
	if x := attemptIn(l, "tcp", l.addr(2, 10)+":81", 1500); x.Result != wire.ProbeRefused || x.By != "icmp port-unreachable from "+l.addr(1, 1) {
		t.Errorf("rejected: %+v", x)
	}
}

func TestIPv6(t *testing.T) {
	l := newLab(t)
	l.run("nft", "add table ip6 web; add chain ip6 web pre { type nat hook prerouting priority -100 ; }; "+
		"add rule ip6 web pre ip6 daddr fd96::25 tcp dport 80 dnat to ["+l.addr6(2, 16)+"]:8080; "+
		"add chain ip6 web fw { type filter hook forward priority 0 ; }; add rule ip6 web fw tcp dport 81 reject")
	l.serve(2, 8080)
	source := netip.MustParseAddr(l.addr6(1, 16))
	x := l.probe(wire.ProbeRequest{Protocol: "tcp", Source: source, Destination: l.to("[fd96::25]:80")}).Attempts[0]
	if x.Result != wire.ProbeConnected || x.FinalDestination != l.to("["+l.addr6(2, 16)+"]:8080") || len(x.Events) == 0 || x.Events[0].Table != "ip6 web" {
		t.Errorf("%+v", x)
	}
	x = l.probe(wire.ProbeRequest{Protocol: "tcp", Source: source, Destination: l.to("[" + l.addr6(2, 16) + "]:81")}).Attempts[0]
	if x.Result != wire.ProbeRefused || !strings.HasPrefix(x.By, "icmpv6 port-unreachable from ") || len(x.Drops) == 0 {
		t.Errorf("%+v", x)
	}
}

func TestTheNodeItselfIsTheClientWithoutAnAddress(t *testing.T) {
	l := newLab(t)
	l.nft(`table ip web { chain output { type nat hook output priority -100; ip daddr POD2 tcp dport 80 dnat to POD2:8080; }; }`)
	l.serve(2, 8080)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	a, err := Run(ctx, wire.ProbeRequest{Protocol: "tcp", Destination: l.to(l.addr(2, 10) + ":80")})
	if err != nil {
		t.Fatal(err)
	}
	x := a.Attempts[0]
	if a.Namespace != "host" || x.Source.Addr().String() != l.addr(2, 1) || x.Result != wire.ProbeConnected || len(x.Events) == 0 {
		t.Errorf("%s: %+v", a.Namespace, x)
	}
	l.clean()
}

func TestOnlyItsOwnPacketsAreTraced(t *testing.T) {
	l := newLab(t)
	l.nft(service)
	l.serve(2, 8080)
	l.serve(3, 8080)
	listener, err := nlsock.Listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTRACE)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	stop, stopped := make(chan struct{}), make(chan int)
	l.inPod(1, func() { // the same client connects to the same Service all the while
		ready := make(chan struct{})
		go func() {
			n := 0
			defer func() { stopped <- n }()
			for {
				c, err := net.DialTimeout("tcp", "10.96.0.25:80", time.Second)
				if err == nil {
					c.Close()
					n++
				}
				if n == 1 {
					close(ready)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		<-ready
	})
	a := l.probe(wire.ProbeRequest{Protocol: "tcp", Destination: l.to("10.96.0.25:80"), Count: 20})
	close(stop)
	<-stopped
	own := map[netip.AddrPort]bool{}
	for _, x := range a.Attempts {
		own[x.Source] = true
	}
	ours, others := 0, 0
	if _, err := listener.Drain(func(m nlsock.Message) error {
		e, err := decodeEvent(m.Data)
		if tuple, ok := e.tuple(); ok && strings.HasPrefix(e.table, TablePrefix) {
			if own[tuple.Src] {
				ours++
			} else {
				others++
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if ours < 20 || others != 0 {
		t.Errorf("%d events of the probe's packets, %d of others", ours, others)
	}
}

func TestAnEndOfTheContextLeavesNothing(t *testing.T) {
	l := newLab(t)
	l.nft(`table ip guard { chain forward { type filter hook forward priority 0; drop; }; }`)
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Run(ctx, wire.ProbeRequest{Protocol: "tcp", Source: l.client(), Destination: l.to(l.addr(2, 10) + ":80"), TimeoutMillis: 8000})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	l.clean()
}

func TestATableWithoutAnOwnerIsRefused(t *testing.T) {
	l := newLab(t)
	l.run("nft", "add table inet plain")
	if err := owned(t.Context(), "plain"); !errors.Is(err, errNoOwner) {
		t.Errorf("%v", err)
	}
	for _, e := range []error{unix.EOPNOTSUPP, unix.EINVAL} { // what kernels before 5.12 answer to the flag
		if err := explainTrace(e); !errors.Is(err, errNoOwner) {
			t.Errorf("%v: %v", e, err)
		}
	}
	if err := explainTrace(unix.EPERM); !errors.Is(err, node.ErrPermission) {
		t.Errorf("%v", err)
	}
}

func TestSCTP(t *testing.T) {
	l := newLab(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	if err == nil {
		unix.Close(fd)
		if x := attemptIn(l, "sctp", l.addr(2, 10)+":9", 1500); x.Result != wire.ProbeRefused {
			t.Errorf("%+v", x)
		}
		return
	}
	_, err = Run(t.Context(), wire.ProbeRequest{Protocol: "sctp", Source: l.client(), Destination: l.to(l.addr(2, 10) + ":9")})
	if !errors.Is(err, node.ErrNotSupported) {
		t.Errorf("%v", err)
	}
}
