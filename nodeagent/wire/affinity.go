package wire

import "net/netip"

// AffinityRequest asks which clients the node keeps with which endpoints.
type AffinityRequest struct {
	// Lists are where the kernel may remember clients, one for each endpoint and service port.
	Lists []AffinityList `json:"lists"`
	// TimeoutSeconds is how long a client stays with its endpoint after its last connection.
	TimeoutSeconds int64 `json:"timeoutSeconds"`
	// Limit bounds the answer; 0 means 1000.
	Limit int `json:"limit"`
}

// AffinityList names where clients of one endpoint are remembered.
type AffinityList struct {
	Endpoint netip.AddrPort `json:"endpoint"`
	// Recent is the name of a list of the xt_recent match; Set that of a set in the table "kube-proxy" of the endpoint's
	// family. One of the two is there, depending on kube-proxy's mode, or none.
	Recent string `json:"recent,omitempty"`
	Set    string `json:"set,omitempty"`
}

// AffinityAnswer holds the clients found.
type AffinityAnswer struct {
	Entries []AffinityEntry `json:"entries"`
	// Total is how many there are, also beyond the limit.
	Total int `json:"total"`
}

// AffinityEntry is a client whose next connection goes to the same endpoint.
type AffinityEntry struct {
	Client   netip.Addr     `json:"client"`
	Endpoint netip.AddrPort `json:"endpoint"`
	// LeftSeconds is how long it is remembered, from when it was read and without another connection.
	LeftSeconds int64 `json:"leftSeconds"`
	// Where names the list or set.
	Where string `json:"where"`
}
