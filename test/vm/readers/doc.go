// Package readers holds the agent's readers on Debian's older kernel, in a virtual machine: asked about the same packets and the
// same rules there and on the kernel that the tests run on, the agent must answer the same, by each way of reading hooks; and
// the readers' own tests, which compare with the kernel that they run on, must hold there too.
package readers
