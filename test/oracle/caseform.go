//go:build linux

package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// Case is one set of rules and the packets that pass it.
type Case struct {
	// Name says where the case comes from: a generator with seed and number, or a file.
	Name string
	// Steps load the rules, in order.
	Steps []Step
	// Shots are the packets, in the order they are sent.
	Shots []Shot
	// AnswersMayDie is true when the rules may drop the ICMP error or reset that a refusal sends: then a refused packet may
	// look like a dropped one.
	AnswersMayDie bool
	// Decided is true when the engine must not leave anything undetermined: everything in the case is modelled.
	Decided bool
	// Certain is true when the engine must give one outcome, without chance or condition.
	Certain bool
	// Tries is how often a recorded case runs, so that frequencies can be held against probabilities; 0 is once.
	Tries int
}

// Step is one run of a tool.
type Step struct {
	// Tool is one of the keys of tools, or "sysctl".
	Tool string
	// Input is the tool's standard input.
	Input string
}

// Shot is a packet that opens a flow, and how far the flow goes on.
type Shot struct {
	// From is the interface at whose far end it starts, or "local" for a process of the node.
	From     string
	Proto    uint8
	Src, Dst netip.AddrPort
	// Then is 0 for the opening packet alone, 1 for its answer too, 2 for a further packet after that; a TCP connection is
	// closed by 3 to 5, and 6 opens it anew.
	Then int
	// Exact gives the engine the packet's bytes, not only its addresses.
	Exact bool
	// To is the interface at whose far end the frame is addressed, or "bridge", where From is a bridge's port; empty for the
	// port itself.
	To string
	shape
	// Want are the fates that the kernel gave when the case was recorded, one of which it must give; empty when none were.
	Want []string
}

// mentions tells whether a step's input has the text.
func (c *Case) mentions(text string) bool {
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return strings.Contains(s.Input, text) })
}

// bridged tells whether the case's node has a bridge.
func (c *Case) bridged() bool { return c.mentions("type bridge") }

var protoNames = map[uint8]string{protoTCP: "tcp", protoUDP: "udp", protoSCTP: "sctp", protoICMP: "icmp", protoICMPv6: "icmpv6",
	protoESP: "esp", protoAH: "ah", protoIPComp: "ipcomp", protoDCCP: "dccp", protoMH: "mh"}

// String writes a shot as a line of a case file.
func (s Shot) String() string {
	line := fmt.Sprintf("packet %s %s %s %s", s.From, protoNames[s.Proto], s.Src, s.Dst)
	if s.Then > 0 {
		line += fmt.Sprintf(" then %d", s.Then)
	}
	if s.Exact {
		line += " exact"
	}
	if s.To != "" {
		line += " to " + s.To
	}
	if len(s.headers) > 0 {
		line += " with " + strings.Join(s.headers, ",")
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"flags", int(s.flags)}, {"mss", int(s.mss)}, {"tos", int(s.tos)}, {"ttl", int(s.ttl)}} {
		if n.value != 0 {
			line += fmt.Sprintf(" %s %d", n.name, n.value)
		}
	}
	if s.cut {
		line += " cut"
	}
	for i, w := range s.Want {
		sep := " | "
		if i == 0 {
			sep = " -> "
		}
		line += sep + w
	}
	return line
}

// Format writes a case as a file: a comment, the packets, and each step as a section.
func (c *Case) Format() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", c.Name)
	if c.AnswersMayDie {
		b.WriteString("answers may die\n")
	}
	if c.Decided {
		b.WriteString("decided\n")
	}
	if c.Certain {
		b.WriteString("certain\n")
	}
	if c.Tries > 0 {
		fmt.Fprintf(&b, "tries %d\n", c.Tries)
	}
	for _, s := range c.Shots {
		fmt.Fprintln(&b, s)
	}
	a := &txtar.Archive{Comment: []byte(b.String())}
	for _, s := range c.Steps {
		a.Files = append(a.Files, txtar.File{Name: s.Tool, Data: []byte(s.Input)})
	}
	return txtar.Format(a)
}

// ParseCase reads what Format writes. Lines that begin with # are comments.
func ParseCase(name string, text []byte) (*Case, error) {
	a := txtar.Parse(text)
	c := &Case{Name: name}
	for i, line := range strings.Split(string(a.Comment), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case line == "answers may die":
			c.AnswersMayDie = true
		case line == "decided":
			c.Decided = true
		case line == "certain":
			c.Certain = true
		case strings.HasPrefix(line, "tries "):
			var err error
			if c.Tries, err = strconv.Atoi(strings.TrimPrefix(line, "tries ")); err != nil {
				return nil, fmt.Errorf("%s line %d: %w", name, i+1, err)
			}
		case strings.HasPrefix(line, "packet "):
			s, err := parseShot(line)
			if err != nil {
				return nil, fmt.Errorf("%s line %d: %w", name, i+1, err)
			}
			c.Shots = append(c.Shots, s)
		default:
			return nil, fmt.Errorf("%s line %d: %q is not understood", name, i+1, line)
		}
	}
	for _, f := range a.Files {
		if _, ok := tools[f.Name]; !ok && f.Name != "sysctl" && f.Name != "listen" && f.Name != "nfacct" {
			return nil, fmt.Errorf("%s: no tool is called %q", name, f.Name)
		}
		c.Steps = append(c.Steps, Step{f.Name, string(f.Data)})
	}
	return c, nil
}

func parseShot(line string) (s Shot, err error) {
	what, want, _ := strings.Cut(line, " -> ")
	if want != "" {
		for w := range strings.SplitSeq(want, " | ") {
			s.Want = append(s.Want, strings.TrimSpace(w))
		}
	}
	f := strings.Fields(what)
	if len(f) < 5 {
		return s, fmt.Errorf("%q is not: packet FROM PROTO SOURCE DESTINATION …", what)
	}
	s.From = f[1]
	if s.From != "local" && !slices.Contains(ports, s.From) {
		return s, fmt.Errorf("%q is neither an interface nor local", s.From)
	}
	for n, name := range protoNames {
		if name == f[2] {
			s.Proto = n
		}
	}
	if s.Proto == 0 {
		return s, fmt.Errorf("unknown protocol %q", f[2])
	}
	if s.Src, err = netip.ParseAddrPort(f[3]); err != nil {
		return s, err
	}
	if s.Dst, err = netip.ParseAddrPort(f[4]); err != nil {
		return s, err
	}
	return s, s.parseRest(f[5:])
}

// parseRest reads what stands behind a shot's addresses.
func (s *Shot) parseRest(f []string) error {
	for i := 0; i < len(f); i++ {
		switch f[i] {
		case "exact":
			s.Exact = true
			continue
		case "cut":
			s.cut = true
			continue
		}
		if i+1 == len(f) {
			return fmt.Errorf("%q needs a value, or is not known", f[i])
		}
		word, value := f[i], f[i+1]
		i++
		switch word {
		case "to":
			s.To = value
			continue
		case "with":
			s.headers = strings.Split(value, ",")
			continue
		}
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return fmt.Errorf("%s %s: %w", word, value, err)
		}
		switch word {
		case "then":
			s.Then = int(n)
		case "flags":
			s.flags = byte(n)
		case "mss":
			s.mss = uint16(n)
		case "tos":
			s.tos = byte(n)
		case "ttl":
			s.ttl = byte(n)
		default:
			return fmt.Errorf("%q is not known", word)
		}
	}
	return nil
}
