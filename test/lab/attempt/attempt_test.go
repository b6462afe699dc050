package attempt

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
)

// The client in an image and the test that reads it are built apart: what they say to each other is fixed.
func TestAttemptsAreWrittenAsTheyAreRead(t *testing.T) {
	for name, tc := range map[string]struct {
		attempt Attempt
		json    string
	}{
		"answered": {
			Attempt{
				Result: Answered, Established: true, Pod: "web-1", Node: "node1", Client: netip.MustParseAddrPort("10.244.1.9:40000"),
				Server: netip.MustParseAddrPort("10.244.2.2:8080"), Local: netip.MustParseAddrPort("[fd00::9]:40000"), Millis: 3,
			},
			`{"result":"answered","established":true,"pod":"web-1","node":"node1","client":"10.244.1.9:40000","server":"10.244.2.2:8080","local":"[fd00::9]:40000","ms":3}`,
		},
		"refused":    {Attempt{Result: Refused, Errno: "ECONNREFUSED", Detail: "connection refused"}, `{"result":"refused","errno":"ECONNREFUSED","detail":"connection refused","ms":0}`},
		"timed out":  {Attempt{Result: Timeout, Millis: 2000}, `{"result":"timeout","ms":2000}`},
		"no address": {Attempt{Result: Unreachable}, `{"result":"unreachable","ms":0}`},
		"cut off":    {Attempt{Result: Reset, Established: true}, `{"result":"reset","established":true,"ms":0}`},
		"other":      {Attempt{Result: Error, Detail: "404"}, `{"result":"error","detail":"404","ms":0}`},
	} {
		b, err := json.Marshal(tc.attempt)
		if err != nil || string(b) != tc.json {
			t.Errorf("%s: wrote %s, %v\nwant %s", name, b, err, tc.json)
		}
		var got Attempt
		if err := json.Unmarshal([]byte(tc.json), &got); err != nil || !reflect.DeepEqual(got, tc.attempt) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
}
