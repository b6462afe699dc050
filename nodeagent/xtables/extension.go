package xtables

import (
	"slices"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/rule"
	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/skb"
)

// Kind tells matches from targets.
type Kind string

// The kinds.
const (
	Match  Kind = "match"
	Target Kind = "target"
)

// Modelled tells how far an extension is evaluated.
type Modelled string

// The degrees.
const (
	// Yes: exactly as the kernel does, as far as the packet and the state are known.
	Yes Modelled = "yes"
	// Depends: something outside the state decides (a rate, a quota, the time, a payload): the evaluation forks on it.
	Depends Modelled = "depends"
	// Unknown: not modelled: the evaluation forks and says so.
	Unknown Modelled = "unknown"
)

// Extension is a match or target and how far it is modelled.
type Extension struct {
	Name string
	Kind Kind
	// Family is 0 for both families.
	Family skb.Family
	// Revisions are the revisions that are known, in ascending order.
	Revisions []uint8
	Modelled  Modelled
	Note      string
}

// effect tells what a module can change, for whoever wants to skip a rule that changes nothing.
type effect uint8

const (
	// changes: the module changes the packet, its path, or what later rules see.
	changes effect = iota
	// inert: it does not.
	inert
)

// module is one extension: all revisions of a name.
type module struct {
	name     string
	family   skb.Family
	modelled Modelled
	note     string
	// tracks is true when loading a rule with it makes the kernel track connections (nf_ct_netns_get in its checkentry).
	tracks bool
	// effect is what evaluation can change. Matches that only keep their own counts are inert.
	effect    effect
	revisions []revision
}

// revision is one layout of an extension's parameters.
type revision struct {
	rev uint8
	// only restricts the revision to one family; 0 stands for all that the module has.
	only skb.Family
	// size is the number of bytes that are read.
	size   int
	match  func(*call) (bool, error)
	target func(*call) (rule.Result, error)
	text   func(*writer, []byte)
}

type entry struct {
	*module
	*revision
}

// The modules of each kind, in groups of those that stand in one file.
var (
	matchModules = modules{commentMatches, transportMatches, icmpMatches, conntrackMatches, connectionMatches, markMatches,
		addressMatches, chanceMatches, rateMatches, recentMatches, headerFieldMatches, ownerMatches, deviceMatches, payloadMatches,
		hashMatches, socketMatches, timeMatches, setMatches, ipv6Matches, opaqueMatches}
	targetModules = modules{natTargets, rejectTargets, markTargets, ctTargets, logTargets, mangleTargets, takeTargets,
		hashTargets, socketTargets, setTargets, opaqueTargets}
)

type modules [][]module

// all gives all modules, in order.
func (ms modules) all(yield func(*module) bool) {
	for _, group := range ms {
		for i := range group {
			if !yield(&group[i]) {
				return
			}
		}
	}
}

// find finds a revision of a module for a family.
func (ms modules) find(name string, rev uint8, f skb.Family) (entry, bool) {
	for m := range ms.all {
		if m.name != name || m.family != 0 && m.family != f {
			continue
		}
		for i := range m.revisions {
			if r := &m.revisions[i]; r.rev == rev && (r.only == 0 || r.only == f) {
				return entry{m, r}, true
			}
		}
	}
	return entry{}, false
}

// Extensions lists every extension that the package knows of, matches before targets, by name and family.
func Extensions() []Extension {
	var out []Extension
	add := func(kind Kind, of modules) {
		first := len(out)
		for m := range of.all {
			e := Extension{Name: m.name, Kind: kind, Family: m.family, Modelled: m.modelled, Note: m.note}
			for _, r := range m.revisions {
				e.Revisions = append(e.Revisions, r.rev)
			}
			slices.Sort(e.Revisions)
			out = append(out, e)
		}
		slices.SortFunc(out[first:], func(a, b Extension) int {
			if a.Name != b.Name {
				if a.Name < b.Name {
					return -1
				}
				return 1
			}
			return int(a.Family) - int(b.Family)
		})
	}
	add(Match, matchModules)
	add(Target, targetModules)
	return out
}

// findMatch finds a match by name and revision; ok is false when it is not known, or when its parameters are too short.
func findMatch(name string, rev uint8, f skb.Family, info []byte) (entry, bool) {
	e, ok := matchModules.find(name, rev, f)
	return e, ok && len(info) >= e.size
}

func findTarget(name string, rev uint8, f skb.Family, info []byte) (entry, bool) {
	e, ok := targetModules.find(name, rev, f)
	return e, ok && len(info) >= e.size
}

func anyRevision(of modules, name string, f func(*module) bool) bool {
	for m := range of.all {
		if m.name == name && f(m) {
			return true
		}
	}
	return false
}

// MatchUsesConntrack reports whether the kernel starts connection tracking in the namespace when a rule with this match
// is loaded (nf_ct_netns_get in the match's checkentry).
func MatchUsesConntrack(name string, _ uint8, info []byte) bool {
	if name == "statistic" || name == "comment" || name == "tcp" || name == "udp" {
		return false // the common ones, quickly
	}
	return anyRevision(matchModules, name, func(m *module) bool { return m.tracks })
}

// TargetUsesConntrack reports the same of a target.
func TargetUsesConntrack(name string, rev uint8, info []byte) bool {
	if name == "" || name == "ERROR" {
		return false
	}
	if name == "CT" || name == "NOTRACK" {
		return ctTargetTracks(name, rev, info)
	}
	return anyRevision(targetModules, name, func(m *module) bool { return m.tracks })
}

// MatchPure reports whether evaluating the match changes nothing that a later evaluation for the same packet sees. A
// match that is not known counts as pure: what it changes cannot be followed anyway.
func MatchPure(name string, rev uint8, info []byte) bool {
	switch name {
	case "connlimit":
		return false
	case "recent":
		return !recentWrites(info)
	case "connlabel":
		return !connlabelWrites(info)
	case "socket":
		return len(info) == 0 || rev < 3 || info[0]&socketRestoreMark == 0
	}
	return true
}

// TargetHasEffect reports whether the target can change the packet, its path, or what later rules see. LOG, NFLOG and
// AUDIT cannot; a target that is not known can.
func TargetHasEffect(name string, _ uint8, _ []byte) bool {
	known := false
	for m := range targetModules.all {
		if m.name == name {
			known = true
			if m.effect == changes {
				return true
			}
		}
	}
	return !known
}
