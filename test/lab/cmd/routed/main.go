// Command routed is a CNI plugin (specification 1.0.0) that connects a pod as Calico does: the pod's eth0 has nothing but
// a /32 and a /128, its gateway is 169.254.1.1, which is nobody's (the node answers by proxy ARP), and the link-local
// address that all of the node's ends share; the node has one route for each pod, and no bridge.
//
// Addresses come from the IPAM plugin that the configuration names.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// supported are the versions of the specification whose results look like this plugin's.
const supported = `{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}`

// configuration is what the runtime gives on standard input.
type configuration struct {
	CNIVersion string `json:"cniVersion"`
	// MTU is the pod's; 0 leaves the kernel's default.
	MTU  int `json:"mtu"`
	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

// failure is how a plugin reports an error (CNI specification 1.0.0, section 5).
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Message    string `json:"msg"`
}

// pluginFailed is the first error code that is a plugin's own to use.
const pluginFailed = 100

func main() {
	if err := run(os.Getenv("CNI_COMMAND")); err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(failure{CNIVersion: "1.0.0", Code: pluginFailed, Message: err.Error()})
		os.Exit(1)
	}
}

func run(command string) error {
	if command == "VERSION" {
		fmt.Println(supported)
		return nil
	}
	c, input, err := readConfiguration(os.Stdin)
	if err != nil {
		return err
	}
	p := pod{container: os.Getenv("CNI_CONTAINERID"), netns: os.Getenv("CNI_NETNS"), name: os.Getenv("CNI_IFNAME"), mtu: c.MTU}
	if p.container == "" || p.name == "" {
		return errors.New("CNI_CONTAINERID and CNI_IFNAME must be set")
	}
	pool := ipam{plugin: c.IPAM.Type, input: input}
	switch command {
	case "ADD":
		return add(c, p, pool)
	case "DEL":
		return errors.Join(p.disconnect(), pool.release())
	case "CHECK":
		return nil
	}
	return fmt.Errorf("unknown CNI_COMMAND %q", command)
}

func add(c configuration, p pod, pool ipam) error {
	addrs, err := pool.allocate()
	if err != nil {
		return err
	}
	r, err := p.connect(addrs)
	if err != nil {
		return errors.Join(err, p.disconnect(), pool.release())
	}
	r.CNIVersion = c.CNIVersion
	return json.NewEncoder(os.Stdout).Encode(r)
}
