// Package tunnels holds walks through tunnels against a kernel that has them, in a virtual machine: between two nodes with a
// pod each, the outer packet that the walk describes is compared with the one that arrives, and its end with what a real
// connection does.
package tunnels
