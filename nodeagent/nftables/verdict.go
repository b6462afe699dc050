package nftables

import (
	"fmt"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
)

// Verdict codes (enum nft_verdicts, and the NF_ codes of include/uapi/linux/netfilter.h, whose upper 16 bits carry a
// queue number).
const (
	verdictContinue = -1
	verdictBreak    = -2
	verdictJump     = -3
	verdictGoto     = -4
	verdictReturn   = -5

	nfStolen  = 2
	nfQueue   = 3
	nfMask    = 0xff
	nfBypass  = 0x00008000
	nfQueueAt = 16
)

// Verdict is what a rule decides, as it stands in an immediate or a map.
type Verdict struct {
	// Code is the kernel's number.
	Code int32
	// Chain is the target of a jump or goto. It may be a chain without name of its own (a binding).
	Chain string
}

// String returns the verdict as nft prints it.
func (v Verdict) String() string {
	switch v.Code {
	case verdictContinue:
		return "continue"
	case verdictBreak:
		return "break"
	case verdictJump:
		return "jump " + v.Chain
	case verdictGoto:
		return "goto " + v.Chain
	case verdictReturn:
		return "return"
	}
	switch v.Code & nfMask {
	case nfDrop:
		return "drop"
	case nfAccept:
		return "accept"
	case nfStolen:
		return "stolen"
	case nfQueue:
		return "queue"
	}
	return fmt.Sprintf("verdict %d", v.Code)
}

// code returns the rule.Code of v; ok is false for a code that no kernel has.
func (v Verdict) code() (c rule.Code, ok bool) {
	switch v.Code {
	case verdictContinue, verdictBreak:
		return rule.Continue, true
	case verdictJump:
		return rule.Jump, true
	case verdictGoto:
		return rule.Goto, true
	case verdictReturn:
		return rule.Return, true
	}
	switch v.Code & nfMask {
	case nfDrop:
		return rule.Drop, true
	case nfAccept:
		return rule.Accept, true
	case nfStolen:
		return rule.Stolen, true
	case nfQueue:
		return rule.Queue, true
	}
	return rule.Continue, false
}
