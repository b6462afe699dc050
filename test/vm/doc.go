// Package vm runs commands on Debian's kernel, in a virtual machine under software emulation: it needs no KVM and no more
// rights than its user has. It is for what the kernel that tests run on may lack: WireGuard, IPIP, Geneve, GRE, IPVS.
//
//	r, err := vm.Run(ctx, vm.Options{Modules: []string{"ip_vs"}, Command: []string{"ipvsadm", "-Ln"}})
//	fmt.Println(r.Status, r.Stdout)
//
// The machine sees the file system of its host, so programs, libraries and test binaries are there by the same paths. What it
// writes goes into its memory and is gone with it. It has a network of its own without any way out: its loopback, and what
// the command makes.
//
// Main runs the tests of a whole package so.
//
// The kernel is the one that apt would install. It is downloaded, not installed, once for each version, into svctrace-vm
// in the user's cache directory.
package vm
