package nftables

import "testing"

func TestCoverageNamesEveryExpressionThatIsDecoded(t *testing.T) {
	listed := map[string]bool{}
	for _, e := range Expressions() {
		if listed[e.Name] {
			t.Errorf("%s is listed twice", e.Name)
		}
		listed[e.Name] = true
		_, decoded := decoders[e.Name]
		// secmark only appears as an object.
		if !decoded && e.Modelled != NotModelled && e.Name != "secmark" {
			t.Errorf("%s is listed as modelled, and nothing decodes it", e.Name)
		}
	}
	for name := range decoders {
		if !listed[name] {
			t.Errorf("%s is decoded, and is not in the list", name)
		}
	}
}
