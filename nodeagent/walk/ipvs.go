package walk

import "net/netip"

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

// realServer is where IPVS translates the answers of its real servers (handle_response). Its connections are not read.
func (w *walk) realServer(b *branch, next func(*branch)) {
	src := b.p.Source()
	if _, known := b.p.SrcPort(); !known {
		src = netip.AddrPortFrom(src.Addr(), 0)
	}
	is, err := w.ns.RealServer(w.ctx, b.p.Proto(), src)
	if err != nil {
		w.fail(err)
		return
	}
	if !is {
		next(b)
		return
	}
	w.unmodelled(b, "IPVS connections of its real server "+b.p.Source().String(), next)
}
