package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/nearest"
)

// nearLabels are the labels of pods that a selector nearly matches.
type nearLabels struct {
	// keys are the selector's, in order; want and have are the wanted values and those of the pods, empty for a missing label.
	keys       []string
	want, have map[string]string
	// renamed maps a key of the selector to the key that the pods have in its place.
	renamed map[string]string
	pods    []string
}

// nearestLabels finds the pods that miss the selector by the least: the fewest labels that differ, and of those the
// values that are most alike. Pods that share nothing with it are not near.
func (s *scene) nearestLabels() (nearLabels, bool) {
	sel := s.api.Service.Spec.Selector
	keys := make([]string, 0, len(sel))
	for k := range sel {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	best, found := -1, nearLabels{}
	for i := range s.api.Pods {
		p := &s.api.Pods[i]
		if p.Namespace != s.api.Service.Namespace || ended(p) || p.DeletionTimestamp != nil {
			continue
		}
		cost, alike := 0, false
		renamed := map[string]string{}
		for _, k := range keys {
			v, ok := p.Labels[k]
			switch {
			case ok && v == sel[k]:
				alike = true
				continue
			case ok:
				alike = alike || len(nearest.Names(sel[k], []string{v})) > 0
				cost += 100 + nearest.Distance(sel[k], v)
			default:
				cost += 300
				for _, other := range labelKeys(p.Labels) {
					if p.Labels[other] == sel[k] && len(nearest.Names(lastPart(k), []string{lastPart(other)})) > 0 {
						renamed[k], alike = other, true
						cost -= 100
						break
					}
				}
			}
		}
		switch {
		case !alike || best >= 0 && cost > best:
			continue
		case cost == best:
			if sameLabels(found, p.Labels) {
				found.pods = append(found.pods, p.Name)
			}
			continue
		}
		best, found = cost, nearLabels{keys: keys, want: sel, have: map[string]string{}, renamed: renamed, pods: []string{p.Name}}
		for _, k := range keys {
			found.have[k] = p.Labels[k]
			if other, ok := renamed[k]; ok {
				found.have[other] = p.Labels[other]
			}
		}
	}
	return found, best >= 0
}

func sameLabels(n nearLabels, have map[string]string) bool {
	for k, v := range n.have {
		if have[k] != v {
			return false
		}
	}
	return true
}

func labelKeys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// lastPart is a label's key without its prefix: app.kubernetes.io/name and app are compared as name and app.
func lastPart(key string) string {
	return key[strings.LastIndexByte(key, '/')+1:]
}

func (n nearLabels) sentence() string {
	var differ []string
	for _, k := range n.keys {
		switch {
		case n.have[k] == n.want[k]:
		case n.renamed[k] != "":
			differ = append(differ, fmt.Sprintf("%s=%s instead of %s=%s", n.renamed[k], n.want[k], k, n.want[k]))
		case n.have[k] == "":
			differ = append(differ, "no label "+k)
		default:
			differ = append(differ, fmt.Sprintf("%s=%s instead of %s=%s", k, n.have[k], k, n.want[k]))
		}
	}
	who := "the nearest is pod " + n.pods[0]
	if more := len(n.pods) - 1; more > 0 {
		who += fmt.Sprintf(" (and %d alike)", more)
	}
	return who + ", with " + strings.Join(differ, " and ")
}

// selector is the selector that the nearest pods would match.
func (n nearLabels) selector() string {
	var out []string
	for _, k := range n.keys {
		switch {
		case n.renamed[k] != "":
			out = append(out, n.renamed[k]+"="+n.want[k])
		case n.have[k] != "":
			out = append(out, k+"="+n.have[k])
		}
	}
	return strings.Join(out, ",")
}

func (n nearLabels) evidence(namespace string) []Evidence {
	var out []Evidence
	for _, p := range n.pods {
		var parts []string
		for _, k := range labelKeys(n.have) {
			if n.have[k] != "" {
				parts = append(parts, k+"="+n.have[k])
			}
		}
		out = append(out, field("Pod", namespace, p, "metadata.labels", strings.Join(parts, ","), "pod %s has %s", p, strings.Join(parts, ",")))
	}
	return out
}
