package walk

import (
	"net/netip"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

func TestTCPSegmentsOfAFlow(t *testing.T) {
	const established = 3
	for name, c := range map[string]struct {
		flags  uint8
		state  uint8
		closed bool
		reply  bool
		want   tcpStep
	}{
		"the SYN again":                            {flagSYN, tcpSynSent, false, false, tcpGoesOn},
		"an ACK before the answer":                 {flagACK, tcpSynSent, false, false, tcpInvalid},
		"the answer":                               {flagSYN | flagACK, tcpSynSent, false, true, tcpGoesOn},
		"an answer from the opener":                {flagSYN | flagACK, established, false, false, tcpInvalid},
		"data":                                     {flagACK, established, false, false, tcpGoesOn},
		"no flag at all":                           {0, established, false, false, tcpInvalid},
		"SYN and FIN":                              {flagSYN | flagFIN, established, false, false, tcpInvalid},
		"an ACK when the connection is closed":     {flagACK, tcpClose, true, false, tcpGoesOn},
		"an ACK in TIME_WAIT":                      {flagACK, tcpTimeWait, true, false, tcpGoesOn},
		"a SYN in TIME_WAIT":                       {flagSYN, tcpTimeWait, true, false, tcpReopens},
		"a SYN in TIME_WAIT from the other side":   {flagSYN, tcpTimeWait, true, true, tcpReopens},
		"a SYN when a reset has closed":            {flagSYN, tcpClose, false, false, tcpMayReopen},
		"a SYN from the other side when closed":    {flagSYN, tcpClose, true, true, tcpInvalid},
		"a reset":                                  {flagRST | flagACK, established, false, true, tcpGoesOn},
		"a FIN before the connection is there":     {flagFIN | flagACK, tcpSynSent, false, false, tcpInvalid},
		"a SYN in the middle of a live connection": {flagSYN, established, false, false, tcpGoesOn},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := skb.New(skb.TCP, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"))
			if err != nil {
				t.Fatal(err)
			}
			p.SetTCPFlags(c.flags, 0xff)
			if got := stepTCP(&skb.Conn{TCPState: c.state, TCPClosed: c.closed}, p, c.reply); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}
