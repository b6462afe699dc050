//go:build linux

// Command floor is what test/bench measures beside the agent: the bare reads of the kernel's state, without decoding. It
// also starts and measures the other programs.
//
//	floor legacy TABLE...
//	floor nft [FAMILY TABLE CHAIN]... [FAMILY]    the rules of these chains; the headers of all chains of a family
//	floor measure OUTPUT PROGRAM...               run a program with its output in a file, and print what it took
//
// It is small on purpose. A process starts with the memory of the one that starts it, and the kernel counts that as its
// own, so what starts the measured programs has to be smaller than they are.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("what is to be read?")
	}
	switch args[0] {
	case "legacy":
		for _, table := range args[1:] {
			if err := readTable(table); err != nil {
				return fmt.Errorf("table %s: %w", table, err)
			}
		}
		return nil
	case "nft":
		return readChains(args[1:])
	case "measure":
		return measure(args[1:])
	}
	return fmt.Errorf("unknown kind %q", args[0])
}
