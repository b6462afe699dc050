package xtables

// JumpTarget returns the offset of the first rule of the chain that the rule jumps or goes to; ok is false when its
// target is another.
func (r Rule) JumpTarget() (off uint32, ok bool) {
	v, ok := r.verdict()
	if !ok || v < 0 {
		return 0, false
	}
	return uint32(v), true
}
