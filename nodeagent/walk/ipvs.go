package walk

// virtualServer is where IPVS takes a packet that is for one of its virtual servers. What it does then is not modelled.
func (w *walk) virtualServer(b *branch, next func(*branch)) {
	p := b.p
	is, err := w.ns.VirtualServer(w.ctx, p.Proto(), p.Destination(), p.Mark)
	if err != nil {
		w.fail(err)
		return
	}
	if !is {
		next(b)
		return
	}
	w.unmodelled(b, "IPVS virtual server "+p.Destination().String(), next)
}
