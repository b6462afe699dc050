// Package lab is a real Kubernetes cluster on one Linux machine, for tests and for looking around: etcd, the API
// server, controller manager, scheduler, kubelets and kube-proxies from their Go modules, with containerd, runc and the
// CNI plugins from Debian. Nodes are namespaces; nothing can leave the lab, and ending its first process ends all of it.
//
//	l := lab.New(t, lab.Options{Proxy: []lab.ProxyMode{lab.NFTables}})
//	web, err := l.Demo(ctx)
//	attempts, err := l.Node(1).Connect(ctx, web.ClusterIPs[0], lab.ConnectOptions{Count: 20})
//	fmt.Println(attempts.ByPod())
//
// The processes of a lab:
//
//	test or lab command
//	└ keeper      outside the lab's namespaces; removes what is left once the lab has ended
//	  └ init      process 1 of the lab: the switch, the control plane, and the nodes
//	    ├ etcd, kube-apiserver, …                   in the namespace cp
//	    └ node    joins the node's cgroups
//	      └ node init   process 1 of the node: containerd, kubelet, kube-proxy
//
// Keeper, init and node run this package's own code in the binary that imports it: importing the package makes a
// binary answer to the names of these roles (see roles.go). Needed are root, cgroup v1, and the programs that Missing
// looks for.
package lab
