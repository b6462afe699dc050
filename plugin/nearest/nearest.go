// Package nearest finds what someone may have meant by a name that does not exist.
package nearest

import (
	"slices"
	"strings"
)

// Names picks the names that are near a wanted one: one contains the other, or few edits apart. At most five, nearest first.
func Names(want string, names []string) []string {
	type scored struct {
		name string
		far  int
	}
	var out []scored
	for _, n := range names {
		far := Distance(want, n)
		switch {
		case far <= max(1, len(want)/3):
		case len(want) >= 3 && strings.Contains(n, want), len(n) >= 3 && strings.Contains(want, n):
			far = len(want) + len(n)
		default:
			continue
		}
		out = append(out, scored{n, far})
	}
	slices.SortFunc(out, func(a, b scored) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var near []string
	for _, s := range out[:min(5, len(out))] {
		near = append(near, s.name)
	}
	return near
}

// Distance is the number of insertions, deletions, replacements and swaps of neighbours between two names
// (the optimal string alignment distance).
func Distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, cur := rows[(i+2)%3], rows[i%3], rows[(i+1)%3]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}
