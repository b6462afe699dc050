package diagnose

import "slices"

// Families lists every family of findings: first what the API shows, then what a node shows by itself, then what its
// walks and flows show. Causes come before their consequences.
func Families() []Family {
	return slices.Concat(apiFamilies(), nodeFamilies(), walkFamilies())
}

// apiFamilies need nothing but API objects.
func apiFamilies() []Family {
	return []Family{
		readinessFamily(), sliceFamily(), addressFamily(), deadNodeFamily(), loadBalancerFamily(), topologyFamily(), affinityFamily(), ownershipFamily(),
		untranslatableFamily(),
	}
}

// walkFamilies compare what a node's kernel does with what the API asks for.
func walkFamilies() []Family {
	return []Family{policyFamily(), endpointFamily(), fateFamily(), endsFamily(), queueFamily(), masqueradeFamily(), flowFamily(), probeFamily(), unknownFamily()}
}
