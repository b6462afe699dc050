//go:build linux

package netns

import "testing"

func TestPlacesAreApartUntilTheyArePlugged(t *testing.T) {
	a, b := New(t, "a"), New(t, "b")
	b.Listen(t, "0.0.0.0:8080")
	a.Sh(t, "ip link set lo up")
	if got := a.Connects("127.0.0.1:8080"); got != "refused" {
		t.Errorf("to a socket of another place: %s", got)
	}
	Plug(t, a, "eth0", b, "eth0")
	a.Sh(t, "ip addr add 10.0.0.1/24 dev eth0")
	b.Sh(t, "ip addr add 10.0.0.2/24 dev eth0")
	for to, want := range map[string]string{"10.0.0.2:8080": "connected", "10.0.0.2:8081": "refused", "10.0.0.3:8080": "silent"} {
		if got := a.Connects(to); got != want {
			t.Errorf("to %s: %s, want %s", to, got, want)
		}
		if want == "silent" {
			continue
		}
		if got := Fate(t, a.Walk(t, Start("10.0.0.1", to))); got != want {
			t.Errorf("walk to %s: %s, want %s", to, got, want)
		}
	}
}
