// Package readers asks the agent about the same packets and the same rules on the kernel that the tests run on and, in a
// virtual machine, on Debian's older one: the answers must be the same, by each way of reading hooks.
package readers
