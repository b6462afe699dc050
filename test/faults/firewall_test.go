package faults

// firewallFaults are rules of others, on the path or in the way of connection tracking.
var firewallFaults = []fault{
	{
		name: "FORWARD drops", want: "forward-policy-drop", hence: []string{"stopped-after-translation"}, node: 1,
		cause: shell("iptables -P FORWARD DROP"), repair: shell("iptables -P FORWARD ACCEPT"),
		real:  fails(clientPod, clusterIP),
		proof: []string{"policy drop", "stopped-after-translation"},
	},
	{
		name: "FORWARD drops, legacy", want: "forward-policy-drop", node: 2,
		cause:  shell("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER"),
		repair: shell("iptables -P FORWARD ACCEPT; iptables -D FORWARD -j DOCKER-USER; iptables -X DOCKER-USER"),
		real:   fails(clientPod, clusterIP),
		proof:  []string{"policy drop", "Docker has rules on the node"},
	},
	{
		name: "firewalld drops", want: "foreign-drop", node: 3,
		cause:  shell(`nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; ip daddr 10.244.0.0/16 counter drop; }; }'`),
		repair: shell("nft delete table inet firewalld"),
		real:   fails(clientPod, clusterIP),
		proof:  []string{"firewalld", "handle", "packets so far"},
	},
	{
		name: "ufw rejects", want: "foreign-reject", node: 2,
		cause:  shell("iptables -N ufw-user-forward; iptables -I FORWARD -j ufw-user-forward; iptables -A ufw-user-forward -d 10.244.0.0/16 -p tcp -m tcp --dport 8080 -j REJECT"),
		repair: shell("iptables -D FORWARD -j ufw-user-forward; iptables -F ufw-user-forward; iptables -X ufw-user-forward"),
		real:   fails(clientPod, clusterIP),
		proof:  []string{"a rule of ufw", "-A ufw-user-forward", "packets so far"},
	},
	{
		name: "a network policy", want: "network-policy-drop", node: 1,
		cause:  shell("iptables -N cali-tw-cali1; iptables -I FORWARD -j cali-tw-cali1; iptables -A cali-tw-cali1 -d 10.244.0.0/16 -p tcp -m tcp --dport 8080 -j DROP"),
		repair: shell("iptables -D FORWARD -j cali-tw-cali1; iptables -F cali-tw-cali1; iptables -X cali-tw-cali1"),
		real:   fails(clientPod, clusterIP),
		proof:  []string{"Calico", "-A cali-tw-cali1"},
	},
	{
		name: "a mark is cleared", want: "mark-collision", hence: []string{"not-masqueraded", "reply-not-translated"}, node: 1,
		cause:  shell("iptables -t mangle -A FORWARD -j MARK --set-xmark 0x0/0xffff"),
		repair: shell("iptables -t mangle -D FORWARD -j MARK --set-xmark 0x0/0xffff"),
		real:   nodePortFails(outside, 30080),
		proof:  []string{"0x0/0xffff", "not-masqueraded", "kube-proxy's bit is 0x4000"},
	},
	{
		name: "NOTRACK", want: "notrack-on-path", hence: []string{"no-translation"}, node: 1,
		cause:  shell("for c in PREROUTING OUTPUT; do iptables -t raw -A $c -d 10.96.0.25 -j CT --notrack; done"),
		repair: shell("for c in PREROUTING OUTPUT; do iptables -t raw -D $c -d 10.96.0.25 -j CT --notrack; done"),
		real:   fails(clientPod, clusterIP),
		proof:  []string{"notrack", "no-translation"},
	},
}
