//go:build linux

package readers

// node makes a node's interfaces and routes. Scenes are shell scripts that run in a network namespace of their own.
const node = `set -e
ip link set lo up
ip link add eth0 type veth peer name peer0 && ip link set eth0 up && ip link set peer0 up
ip addr add 10.250.0.11/24 dev eth0
ip link add pod0 type veth peer name peer1 && ip link set pod0 up && ip link set peer1 up
ip addr add 10.244.1.1/24 dev pod0
ip route add 10.244.2.0/24 via 10.250.0.12 && ip route add default via 10.250.0.1
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
`

// iptables are rules of a Service of two endpoints and one without, and what Docker and an operator might add. IPTABLES
// stands for the tool.
const iptables = `
ipset create allowed hash:ip,port && ipset add allowed 10.244.2.15,tcp:8080
IPTABLES-restore <<'RULES'
*nat
:KUBE-SERVICES -
:KUBE-SVC-WEB -
:KUBE-SEP-ONE -
:KUBE-SEP-TWO -
:KUBE-MARK-MASQ -
:KUBE-POSTROUTING -
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.25/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 30080 -j KUBE-SVC-WEB
-A KUBE-SVC-WEB ! -s 10.244.0.0/16 -d 10.96.0.25/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-WEB -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ONE
-A KUBE-SVC-WEB -j KUBE-SEP-TWO
-A KUBE-SEP-ONE -p tcp -m tcp -j DNAT --to-destination 10.244.1.10:8080
-A KUBE-SEP-TWO -p tcp -m tcp -j DNAT --to-destination 10.244.2.15:8080
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
-A INPUT -p udp -m multiport --dports 53,5353 -m conntrack --ctstate NEW -j DROP
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -d 10.244.2.15/32 -m set ! --match-set allowed dst,dst -j REJECT --reject-with icmp-port-unreachable
-A OUTPUT -d 10.96.0.26/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset
-A OUTPUT -m owner --uid-owner 1234 -j DROP
COMMIT
RULES
`

// nftables is the same as kube-proxy's mode of that name has it, in small.
const nftables = `
nft -f - <<'RULES'
table ip kube-proxy {
	set cluster-ips { type ipv4_addr; elements = { 10.96.0.25, 10.96.0.26 }; }
	map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.26 . tcp . 80 : goto reject-chain }; }
	map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.25 . tcp . 80 : goto service-web }; }
	map service-nodeports { type inet_proto . inet_service : verdict; elements = { tcp . 30080 : goto service-web }; }
	chain reject-chain { reject; }
	chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
	chain service-web {
		ip daddr 10.96.0.25 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
		numgen random mod 2 vmap { 0 : goto endpoint-one, 1 : goto endpoint-two }
	}
	chain endpoint-one { ip saddr 10.244.1.10 jump mark-for-masquerade; meta l4proto tcp dnat to 10.244.1.10:8080; }
	chain endpoint-two { meta l4proto tcp dnat to 10.244.2.15:8080; }
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
	}
	chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
	chain nat-postrouting { type nat hook postrouting priority srcnat; meta mark & 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random; }
	chain filter-output { type filter hook output priority -110; ct state new ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
	chain filter-input { type filter hook input priority -110; ct state new udp dport { 53, 5353 } drop; }
}
table inet others {
	chain early { type filter hook prerouting priority raw; iifname "eth0" ip ttl < 2 counter drop; }
	chain same-priority { type filter hook forward priority filter; policy accept; ct state invalid drop; ip daddr 10.244.2.15 tcp dport != 8080 reject; }
}
table netdev d {
	chain at-eth0 { type filter hook ingress device "eth0" priority 0; udp dport 7 drop; }
}
RULES
`

// packets are what the agent is asked about in each scene.
var packets = []string{
	"--from 10.244.1.10 --to 10.96.0.25:80 --in pod0",
	"--from 10.250.0.77 --to 10.250.0.11:30080 --in eth0",
	"--from 10.250.0.11 --to 10.96.0.25:80",
	"--from 10.250.0.11 --to 10.96.0.26:80",
	"--from 10.244.1.10 --to 10.244.2.15:9090 --in pod0",
	"--from 10.250.0.77 --to 10.250.0.11:53 --proto udp --in eth0",
	"--from 10.250.0.77 --to 10.250.0.11:7 --proto udp --in eth0",
	"--from 10.250.0.77 --to 10.244.1.10 --proto icmp --in eth0",
}
