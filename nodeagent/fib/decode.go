package fib

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/kubectl-svctrace/kubectl-svctrace/nodeagent/node"
)

// UnmarshalJSON reads a state and checks that it holds together: names of interfaces are unique and those of next hops are
// known, prefixes are whole and of one family, rules are in order and go forward.
func (s *State) UnmarshalJSON(b []byte) error {
	type plain State
	var p *plain
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("decoding a routing state: %w", err)
	}
	if p == nil {
		return fmt.Errorf("decoding a routing state: it is null")
	}
	s.Interfaces, s.Rules4, s.Rules6, s.Routes, s.CustomRules4 = p.Interfaces, p.Rules4, p.Rules6, p.Routes, p.CustomRules4
	s.All4, s.All6, s.Failed = p.All4, p.All6, p.Failed
	s.HashPolicy4, s.HashFields4, s.HashPolicy6, s.HashFields6 = p.HashPolicy4, p.HashFields4, p.HashPolicy6, p.HashFields6
	if err := s.check(); err != nil {
		return fmt.Errorf("decoding a routing state: %w", err)
	}
	return nil
}

func (s *State) check() error {
	names := map[string]bool{}
	for i := range s.Interfaces {
		l := &s.Interfaces[i]
		if l.Name == "" || names[l.Name] {
			return fmt.Errorf("interface %d has the name %q", i, l.Name)
		}
		names[l.Name] = true
		for _, a := range l.Addresses {
			if !sound(a.Prefix) || a.Peer.IsValid() && a.Peer.Is4() != a.Prefix.Addr().Is4() {
				return fmt.Errorf("interface %s has the address %s", l.Name, a.Prefix)
			}
		}
		for _, g := range l.Groups {
			if !g.Is4() || !g.IsMulticast() {
				return fmt.Errorf("interface %s has the group %s", l.Name, g)
			}
		}
	}
	for i := range s.Rules4 {
		if err := s.Rules4[i].check(s.Rules4[:i], true); err != nil {
			return err
		}
	}
	for i := range s.Rules6 {
		if err := s.Rules6[i].check(s.Rules6[:i], false); err != nil {
			return err
		}
	}
	for i := range s.Routes {
		if err := s.Routes[i].check(names); err != nil {
			return err
		}
	}
	return nil
}

// sound tells a prefix that is valid and has no zone.
func sound(p netip.Prefix) bool { return p.IsValid() && p.Addr().Zone() == "" && !p.Addr().Is4In6() }

func (r *Rule) check(before []Rule, v4 bool) error {
	for _, p := range []netip.Prefix{r.From, r.To} {
		if p != (netip.Prefix{}) && (!sound(p) || p.Addr().Is4() != v4) {
			return fmt.Errorf("policy rule %d is for %s", r.Priority, p)
		}
	}
	if r.Action == ActionGoto && r.Goto <= r.Priority {
		return fmt.Errorf("policy rule %d goes to %d", r.Priority, r.Goto)
	}
	if n := len(before); n > 0 && before[n-1].Priority > r.Priority {
		return fmt.Errorf("policy rule %d is behind rule %d", r.Priority, before[n-1].Priority)
	}
	return nil
}

func (r *Route) check(names map[string]bool) error {
	v4 := r.Dst.Addr().Is4()
	if !sound(r.Dst) {
		return fmt.Errorf("a route to %s", r.Dst)
	}
	if r.Src != (netip.Prefix{}) && (!sound(r.Src) || v4 || r.Src.Addr().Is4()) {
		return fmt.Errorf("the route to %s is from %s", r.Dst, r.Src)
	}
	if r.PrefSrc.IsValid() && r.PrefSrc.Is4() != v4 {
		return fmt.Errorf("the route to %s has the source %s", r.Dst, r.PrefSrc)
	}
	if len(r.Hops) == 0 && !(v4 && typeError(r.Type) != 0) {
		return fmt.Errorf("the route to %s has no next hop", r.Dst)
	}
	if r.Type < node.RouteUnicast || r.Type > node.RouteThrow || r.Pref > 3 {
		return fmt.Errorf("the route to %s has type %d and preference %d", r.Dst, r.Type, r.Pref)
	}
	for _, h := range r.Hops {
		if !names[h.Dev] || h.Weight < 0 || h.Gateway.IsValid() && h.Gateway.Is4() && !v4 {
			return fmt.Errorf("the route to %s has the next hop %+v", r.Dst, h)
		}
	}
	return nil
}
