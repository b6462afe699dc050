package survey

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// LocalPorts are the ports that a node's kernel takes for outgoing connections: net.ipv4.ip_local_port_range, without
// net.ipv4.ip_local_reserved_ports.
type LocalPorts struct {
	Range    PortRange
	Reserved []PortRange
}

// Ephemeral reports whether the kernel may take a port for an outgoing connection.
func (l LocalPorts) Ephemeral(port uint16) bool {
	if port < l.Range.First || port > l.Range.Last {
		return false
	}
	for _, r := range l.Reserved {
		if port >= r.First && port <= r.Last {
			return false
		}
	}
	return true
}
