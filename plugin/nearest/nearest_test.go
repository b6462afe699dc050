package nearest_test

import (
	"slices"
	"testing"

	"github.com/kubectl-svctrace/kubectl-svctrace/plugin/nearest"
)

func TestNames(t *testing.T) {
	names := []string{"web", "web-canary", "wbe", "frontend", "db", "webhook"}
	for want, near := range map[string][]string{
		"wep": {"web"}, "ewb": {"web"}, "fronted": {"frontend"}, "web": {"web", "wbe", "webhook", "web-canary"}, "zzz": nil,
	} {
		if got := nearest.Names(want, names); !slices.Equal(got, near) {
			t.Errorf("%s: %v, want %v", want, got, near)
		}
	}
}
