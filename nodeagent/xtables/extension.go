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

type key struct {
	name   string
	rev    uint8
	family skb.Family
}

type entry struct {
	*module
	*revision
}

var (
	matchModules = slices.Concat(commentMatches, transportMatches, icmpMatches, conntrackMatches, connectionMatches, markMatches,
		addressMatches, chanceMatches, rateMatches, recentMatches, headerFieldMatches, ownerMatches, deviceMatches, payloadMatches,
		hashMatches, socketMatches, timeMatches, setMatches, ipv6Matches, opaqueMatches)
	targetModules = slices.Concat(natTargets, rejectTargets, markTargets, ctTargets, logTargets, mangleTargets, takeTargets,
		hashTargets, socketTargets, setTargets, opaqueTargets)
	matchIndex  = index(matchModules)
	targetIndex = index(targetModules)
)

func index(modules []module) map[key]entry {
	m := map[key]entry{}
	for i := range modules {
		mod := &modules[i]
		for j := range mod.revisions {
			for _, f := range []skb.Family{skb.IPv4, skb.IPv6} {
				only := mod.revisions[j].only
				if (mod.family == 0 || mod.family == f) && (only == 0 || only == f) {
					m[key{mod.name, mod.revisions[j].rev, f}] = entry{mod, &mod.revisions[j]}
				}
			}
		}
	}
	return m
}

// Extensions lists every extension that the package knows of, matches before targets, by name and family.
func Extensions() []Extension {
	var out []Extension
	add := func(kind Kind, modules []module) {
		first := len(out)
		for _, m := range modules {
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
	e, ok := matchIndex[key{name, rev, f}]
	return e, ok && len(info) >= e.size
}

func findTarget(name string, rev uint8, f skb.Family, info []byte) (entry, bool) {
	e, ok := targetIndex[key{name, rev, f}]
	return e, ok && len(info) >= e.size
}

func anyRevision(modules []module, name string, f func(*module) bool) bool {
	for i := range modules {
		if modules[i].name == name && f(&modules[i]) {
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
	for i := range targetModules {
		if targetModules[i].name == name {
			known = true
			if targetModules[i].effect == changes {
				return true
			}
		}
	}
	return !known
}
