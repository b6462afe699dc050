// Package wire is the conversation between the plugin and the agent in a node's pod: length-delimited JSON on the
// agent's standard input and output.
//
// A frame is 4 bytes of length, big-endian, then that many bytes of JSON. Upon the first Request the agent sends a Hello:
// what it wrote before anybody attached would be lost. Then it answers each Request, in order, with one Answer of the
// same ID. It exits when its standard input closes.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/trace"
)

// Version is the version of this conversation; both sides refuse another one.
const Version = 1

// MaxFrame bounds one frame, in bytes.
const MaxFrame = 64 << 20

// Hello is the agent's first frame.
type Hello struct {
	// Version is the agent's wire version.
	Version int `json:"version"`
	// Build is the agent's own version, for people.
	Build string `json:"build"`
	// Kernel is the node's kernel release, as uname gives it.
	Kernel string `json:"kernel"`
}

// Request asks for one thing: exactly one of the pointers is set.
type Request struct {
	ID       int              `json:"id"`
	Describe *DescribeRequest `json:"describe,omitempty"`
	Walk     *WalkRequest     `json:"walk,omitempty"`
	Flows    *FlowsRequest    `json:"flows,omitempty"`
	Affinity *AffinityRequest `json:"affinity,omitempty"`
	Probe    *ProbeRequest    `json:"probe,omitempty"`
	Facts    *FactsRequest    `json:"facts,omitempty"`
}

// Answer answers the request with the same ID: Error, or what was asked for.
type Answer struct {
	ID       int             `json:"id"`
	Error    *Error          `json:"error,omitempty"`
	Describe *DescribeAnswer `json:"describe,omitempty"`
	Walk     *trace.Trace    `json:"walk,omitempty"`
	Flows    *FlowsAnswer    `json:"flows,omitempty"`
	Affinity *AffinityAnswer `json:"affinity,omitempty"`
	Probe    *ProbeAnswer    `json:"probe,omitempty"`
	Facts    *FactsAnswer    `json:"facts,omitempty"`
	// Micros is the time the agent took for this answer, in microseconds.
	Micros int64 `json:"micros"`
}

// Error is a failure of one request.
type Error struct {
	// Code is one of the Code constants.
	Code string `json:"code"`
	// Message says what could not be done, in one sentence.
	Message string `json:"message"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// The codes of an Error.
const (
	// CodeBadRequest: the request makes no sense; the plugin is at fault.
	CodeBadRequest = "bad-request"
	// CodeUnreadable: the node's state could not be read.
	CodeUnreadable = "unreadable"
	// CodePermission: the agent lacks a capability to read the state.
	CodePermission = "permission"
)

// DescribeRequest asks what translates Services on the node, and which addresses it has.
type DescribeRequest struct{}

// DescribeAnswer says what was found on the node.
type DescribeAnswer struct {
	Dataplanes []Dataplane `json:"dataplanes"`
	// Interfaces are the node's interfaces with their addresses.
	Interfaces []Interface `json:"interfaces"`
	// Conntrack is the fill of the connection tracking table.
	ConntrackCount int `json:"conntrackCount"`
	ConntrackMax   int `json:"conntrackMax"`
}

// Dataplane is one mechanism found in the kernel that translates Services.
type Dataplane struct {
	// Name is kube-proxy or a name the state shows.
	Name string `json:"name"`
	// Mode is "iptables (nft)", "iptables (legacy)", "nftables" or "ipvs".
	Mode string `json:"mode"`
	// Family is ipv4 or ipv6.
	Family string `json:"family"`
	// Evidence is what in the kernel's state shows it.
	Evidence string `json:"evidence"`
	// Active is false for leftovers: chains that are there but that no hook reaches.
	Active bool `json:"active"`
}

// Interface is a network interface of the node.
type Interface struct {
	Name      string         `json:"name"`
	Index     int            `json:"index"`
	Up        bool           `json:"up"`
	Addresses []netip.Prefix `json:"addresses"`
}

// WalkRequest asks for the walk of one packet.
type WalkRequest struct {
	// Protocol is tcp, udp, sctp, icmp or icmpv6.
	Protocol string `json:"protocol"`
	// Source and Destination; a source port of 0 lets the agent take one of the ephemeral range. A zero source address
	// means the address that the node itself would use.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// In is the interface it arrives on; empty: OUTPUT when the source is the node's own address, else the interface of
	// the route back to the source.
	In string `json:"in,omitempty"`
	// Mark is the packet's mark.
	Mark trace.Mark `json:"mark"`
	// Node is put into the hops as the node's name.
	Node string `json:"node,omitempty"`
	// Follow lets the walk go on in the namespaces of pods on the node, to the socket at the end.
	Follow bool `json:"follow,omitempty"`
	// FromAddress starts the walk as a process in the namespace on the node that has the source address.
	FromAddress bool `json:"fromAddress,omitempty"`
	// Reply makes the packet the first answer to a flow: a SYN-ACK for TCP.
	Reply bool `json:"reply,omitempty"`
	// Assume are connection tracking entries to be taken as there, besides those that are: what an earlier walk of the same
	// journey made on this node (trace.Outcome.Tracked).
	Assume []trace.Tracked `json:"assume,omitempty"`
	// Arrives names the address of this node that the packet was sent to by its last hop; In is then the interface with
	// that address. It is used when In is empty.
	Arrives netip.Addr `json:"arrives,omitzero"`
	// Tunnel is the outer packet that the packet arrives in, nil when it comes as it is. The outer packet is walked first.
	Tunnel *trace.Tunnel `json:"tunnel,omitempty"`
	// Sender is who sends a packet that starts in a process; nil when that is not known. Rules may tell senders apart.
	Sender *Sender `json:"sender,omitempty"`
}

// Sender is the container that a packet starts in. Its process on the node decides as which user and group it sends; where
// none is found, what the pod's specification demands.
type Sender struct {
	// ContainerID is that of the pod's status, "containerd://…"; empty when there is none.
	ContainerID string `json:"containerID,omitempty"`
	// Container is its name, for people.
	Container string `json:"container,omitempty"`
	// User and Group are runAsUser and runAsGroup, nil where the specification leaves them to the image.
	User  *uint32 `json:"user,omitempty"`
	Group *uint32 `json:"group,omitempty"`
}

// FlowsRequest asks for conntrack entries whose original direction goes to one of the destinations.
type FlowsRequest struct {
	Protocol     string           `json:"protocol"`
	Destinations []netip.AddrPort `json:"destinations"`
	// Limit bounds the answer; 0 means 1000.
	Limit int `json:"limit"`
}

// FlowsAnswer holds the flows found.
type FlowsAnswer struct {
	Flows []Flow `json:"flows"`
	// Truncated is true when there were more than Limit.
	Truncated bool `json:"truncated"`
	// Total is the number of flows that matched, also when truncated.
	Total int `json:"total"`
	// Chosen tells how the flows were chosen among all, each way once; absent when none were asked for.
	Chosen []FlowChoice `json:"chosen,omitempty"`
}

// FlowChoice is how flows were chosen among all. The answer is the same; the time is not.
type FlowChoice string

// The ways. Whichever it is, what is said of a flow the kernel said by netlink.
const (
	// ChosenInMemory: their tuples were read in kernel memory, and then the kernel was asked about each.
	ChosenInMemory FlowChoice = "memory"
	// ChosenByFilter: the kernel sent those flows alone.
	ChosenByFilter FlowChoice = "filter"
	// ChosenByPort: the kernel sent all flows to the port, of which the agent chose.
	ChosenByPort FlowChoice = "port"
)

// Flow is one conntrack entry.
type Flow struct {
	Protocol string `json:"protocol"`
	// Source and Destination of the original direction: client and Service address.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	// ReplySource is where replies come from: the endpoint when translated.
	ReplySource netip.AddrPort `json:"replySource"`
	// ReplyDestination is where replies go: the masquerade address when the source was translated.
	ReplyDestination netip.AddrPort `json:"replyDestination"`
	// State is the TCP state in conntrack's words (ESTABLISHED, SYN_SENT …), empty for others.
	State string `json:"state,omitempty"`
	// Unreplied is true when no reply was seen.
	Unreplied bool `json:"unreplied"`
	// TimeoutSeconds is the time until the entry expires.
	TimeoutSeconds int `json:"timeoutSeconds"`
	// AgeSeconds is the time since the entry was made; nil when the kernel did not note it (nf_conntrack_timestamp is off).
	AgeSeconds *int64     `json:"ageSeconds,omitempty"`
	Mark       trace.Mark `json:"mark,omitempty"`
	Zone       uint16     `json:"zone,omitempty"`
}

// Write sends v as one frame.
func Write(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a frame: %w", err)
	}
	if len(b) > MaxFrame {
		return fmt.Errorf("a frame of %d bytes exceeds %d", len(b), MaxFrame)
	}
	frame := make([]byte, 4, 4+len(b))
	binary.BigEndian.PutUint32(frame, uint32(len(b)))
	if _, err := w.Write(append(frame, b...)); err != nil {
		return fmt.Errorf("sending a frame: %w", err)
	}
	return nil
}

// Read receives one frame into v. It returns io.EOF when the other side closed between frames.
func Read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return io.EOF
		}
		return fmt.Errorf("receiving a frame's length: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("a frame of %d bytes exceeds %d: this is not the agent's conversation", n, MaxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("receiving a frame of %d bytes: %w", n, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decoding a frame: %w", err)
	}
	return nil
}
