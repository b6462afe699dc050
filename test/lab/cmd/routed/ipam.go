package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxConfiguration bounds what is read from standard input.
const maxConfiguration = 1 << 20

func readConfiguration(r io.Reader) (configuration, []byte, error) {
	var c configuration
	input, err := io.ReadAll(io.LimitReader(r, maxConfiguration))
	if err != nil {
		return c, nil, fmt.Errorf("read configuration: %w", err)
	}
	if err := json.Unmarshal(input, &c); err != nil {
		return c, nil, fmt.Errorf("read configuration: %w", err)
	}
	if c.IPAM.Type == "" || strings.ContainsRune(c.IPAM.Type, filepath.Separator) {
		return c, nil, fmt.Errorf("%q is not the name of an IPAM plugin", c.IPAM.Type)
	}
	return c, input, nil
}

// ipam is the plugin that gives addresses. It gets this plugin's input and environment, as the specification has it.
type ipam struct {
	plugin string
	input  []byte
}

// allocate asks for the pod's addresses.
func (i ipam) allocate() ([]netip.Addr, error) {
	out, err := i.call("ADD")
	if err != nil {
		return nil, err
	}
	var given struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &given); err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", i.plugin, err)
	}
	var addrs []netip.Addr
	for _, ip := range given.IPs {
		addrs = append(addrs, ip.Address.Addr())
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s gave no address", i.plugin)
	}
	return addrs, nil
}

// release gives back whatever the pod has.
func (i ipam) release() error {
	_, err := i.call("DEL")
	return err
}

func (i ipam) call(command string) ([]byte, error) {
	for dir := range strings.SplitSeq(os.Getenv("CNI_PATH"), ":") {
		file := filepath.Join(dir, i.plugin)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		cmd := exec.Command(file)
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+command)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(i.input), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w: %s", i.plugin, command, err, bytes.TrimSpace(out))
		}
		return out, nil
	}
	return nil, errors.New("IPAM plugin " + i.plugin + " is not in CNI_PATH")
}
