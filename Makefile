# The two commands of the README are `make demo` and `make test`. Everything else is a part of them.

VERSION   ?= v0.1.0
GO        ?= go
BINDIR    ?= $(shell $(GO) env GOPATH)/bin
MODULE     = github.com/kubectl-svctrace/kubectl-svctrace
IMAGE     ?= kubectl-svctrace/svctrace-agent:$(VERSION)
OUT       ?= build
LDFLAGS    = -s -w -X $(MODULE)/nodeagent/command.Version=$(VERSION) -X $(MODULE)/plugin/cli.Version=$(VERSION)
TOOL       = $(GO) tool -modfile=$(CURDIR)/test/tools/go.mod
MODULES    = . test/lab test/e2e test/bench test/faults test/intent

# What the lab and the tests need from Debian: package:file that tells whether it is there.
DEBIAN = containerd:/usr/bin/containerd runc:/usr/sbin/runc containernetworking-plugins:/usr/lib/cni/bridge \
         iptables:/usr/sbin/iptables-legacy nftables:/usr/sbin/nft ipset:/usr/sbin/ipset conntrack:/usr/sbin/conntrack \
         iproute2:/bin/ip busybox-static:/bin/busybox gcc:/usr/bin/gcc libc6-dev:/usr/include/stdlib.h \
         util-linux:/usr/bin/unshare procps:/sbin/sysctl
# And what the virtual machine needs beside it.
DEBIAN_VM = qemu-system-x86:/usr/bin/qemu-system-x86_64 kmod:/sbin/depmod wireguard-tools:/usr/bin/wg

.PHONY: help deps vm-deps build install image demo test unit oracle-test lab-test intent-test faults e2e vm-test bench-test check tested bench bench-trace oracle clean

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

deps: ## Install what is missing from Debian
vm-deps: DEBIAN += $(DEBIAN_VM)
deps vm-deps:
	@missing=""; for d in $(DEBIAN); do [ -e "$${d#*:}" ] || missing="$$missing $${d%%:*}"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "missing:$$missing (run 'apt-get install$$missing' as root)"; exit 1; fi; \
	  echo "installing$$missing"; apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi

build: ## Build the plugin and the agent into build/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(OUT)/ ./cmd/kubectl-svctrace ./cmd/svctrace-agent

install: build ## Install the plugin where kubectl finds it (GOPATH/bin)
	install -D $(OUT)/kubectl-svctrace $(BINDIR)/kubectl-svctrace
	@case ":$$PATH:" in *":$(BINDIR):"*) ;; *) echo "note: $(BINDIR) is not in PATH, where kubectl looks for plugins";; esac

image: build ## Make the agent's image as an OCI archive, build/svctrace-agent.tar
	cd test/lab && $(GO) run ./cmd/lab image --binary $(abspath $(OUT))/svctrace-agent --name $(IMAGE) -o $(abspath $(OUT))/svctrace-agent.tar

demo: deps build ## Boot a real cluster and trace a Service in it (DEMO_EXIT=1: leave when done)
	cd test/lab && $(GO) build -o $(abspath $(OUT))/lab ./cmd/lab
	@test/demo.sh $(OUT)

# Those who build and run the programs have -count=1: go's cache of results does not see what such programs are made of.
test: deps unit oracle-test lab-test intent-test faults e2e vm-test bench-test ## Run all tests

unit: ## Run the unit tests
	$(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v -e /test/oracle -e /test/vm)
	$(GO) test -run FollowTheEngine ./test/oracle/faults

oracle-test: ## Run the oracle as CI does
	$(GO) test -race -count=1 -timeout 40m ./test/oracle
	$(GO) test -count=1 -timeout 40m ./test/oracle/faults

lab-test: ## Run the lab's own tests
	cd test/lab && $(GO) run ./cmd/lab build && $(GO) test -race -timeout 20m ./...

e2e: ## Run the plugin against the lab
	cd test/e2e && $(GO) test -race -count=1 -timeout 40m ./...

vm-test: vm-deps ## Run what takes another kernel (tunnels, an older release) in a virtual machine
	$(GO) test -race -count=1 -timeout 30m ./test/vm/...

bench-test: ## Run the benchmark on small states, for its correctness
	cd test/bench && $(GO) test -race -count=1 -timeout 20m ./...

faults: ## Cause every fault of a node in a lab, and require its finding
	cd test/faults && $(GO) test -race -count=1 -timeout 30m ./...

intent-test: ## Hold what is expected against kube-proxy's own code
	cd test/intent && $(GO) test -race -timeout 20m ./...

check: tested ## gofmt, vet, staticcheck, and a test in each package
	@out="$$(gofmt -l cmd nodeagent plugin test)"; if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	@for m in $(MODULES); do echo "vet $$m"; (cd $$m && $(GO) vet ./...) || exit 1; done
	@for m in $(MODULES); do echo "staticcheck $$m"; (cd $$m && $(TOOL) staticcheck ./...) || exit 1; done

tested: ## List the packages that have no test, and fail when there is one
	@untested="$$(for m in $(MODULES); do (cd $$m && $(GO) list -find -tags labkube \
	  -f '{{if not (or .TestGoFiles .XTestGoFiles)}}{{.ImportPath}}{{end}}' ./...) || echo "$$m cannot be listed"; done)"; \
	if [ -n "$$untested" ]; then echo "no test in:"; echo "$$untested"; exit 1; fi

# A run sends some 50 to 60 times ORACLE_PACKETS: each generator sends its own, and then every construct is to be decisive.
oracle: ## Compare the engine with the kernel on some N packets (default 100000)
	ORACLE_PACKETS=$$(( $(or $(N),100000) / 50 + 1 )) $(GO) test -count=1 -timeout 24h -v -run RandomCases ./test/oracle

bench: deps ## Measure speed and memory against dumps and bare reads (half an hour); writes docs/speed.md
	cd test/bench && $(GO) run . -o ../../docs/speed.md $(BENCH)

bench-trace: deps ## Measure a whole trace beside `kubectl run --rm -i` of the same image, in turns, in the lab
	cd test/e2e && $(GO) test -run '^$$' -bench KubectlRun -benchtime 15x -timeout 20m .

clean: ## Remove build/
	rm -rf $(OUT)
