# Everything is built from Go modules: Go, git and make are all a machine needs.
# Works with GNU make 3.81, the one macOS has.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
MANAGER_IMG ?= firebreak-manager:$(VERSION)
RECEIVER_IMG ?= firebreak-receiver:$(VERSION)
CONTAINER_TOOL ?= docker
KUBECTL ?= kubectl

LOCALBIN := $(CURDIR)/bin
CONTROLLER_GEN := $(LOCALBIN)/tools/controller-gen
KUSTOMIZE := $(LOCALBIN)/tools/kustomize
CRD_REF_DOCS := $(LOCALBIN)/tools/crd-ref-docs
GOLANGCI_LINT := $(LOCALBIN)/tools/golangci-lint

# The version is stamped here and not by Go, which would need a usable git.
GO_BUILD = go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

# With KUBEBUILDER_ASSETS set, etcd and kube-apiserver are taken from there.
ifdef KUBEBUILDER_ASSETS
TEST_BINARIES :=
DEV_BINARIES := kube-controller-manager kube-scheduler kubectl kwok
else
TEST_BINARIES := etcd kube-apiserver
DEV_BINARIES := etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok
endif

.PHONY: all
all: build

##@ General

.PHONY: help
help: ## Show this list (the default target).
	@awk 'BEGIN {FS = ":.*##"; print "Usage: make TARGET"} \
		/^[a-zA-Z_0-9-]+:.*##/ {printf "  %-17s%s\n", $$1, $$2} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)}' $(firstword $(MAKEFILE_LIST))

.DEFAULT_GOAL := help

##@ Try it

.PHONY: demo
demo: build controlplane ## From an alert to a closed incident, live, on a control plane of its own.
	$(GO_BUILD) -o bin/dev ./hack/dev
	$(GO_BUILD) -o bin/demo ./hack/demo
	bin/dev up
	bin/demo

.PHONY: dev-up
dev-up: build controlplane ## Start control plane, fake nodes, operator and receiver in the background (state: .dev/).
	$(GO_BUILD) -o bin/dev ./hack/dev
	bin/dev up

.PHONY: dev-down
dev-down: ## Stop everything dev-up started and remove .dev/.
	$(GO_BUILD) -o bin/dev ./hack/dev
	bin/dev down

##@ Development

.PHONY: manifests
manifests: controller-gen ## Generate the CustomResourceDefinitions (config/crd/bases) from api/.
	@mkdir -p config/crd/bases && touch bin/.manifests.started
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	@find config/crd/bases -name '*.yaml' ! -newer bin/.manifests.started -delete

.PHONY: generate
generate: controller-gen crd-ref-docs manifests ## Generate deep copies, apply configurations, api/README.md and config/playbooks/README.md.
	@touch bin/.generate.started
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt paths=./api/...
	@find api -name '*.go' -path '*/applyconfiguration/*' ! -newer bin/.generate.started -delete
	$(CRD_REF_DOCS) --source-path=api/v1alpha1 --config=hack/api-docs.yaml --renderer=markdown --output-path=api/README.md --log-level=ERROR
	go run ./hack/actiondocs

.PHONY: check-generated
check-generated: ## Fail when what is generated is not what api/ and internal/action say.
	@MAKE="$(MAKE)" hack/check-generated.sh

.PHONY: fmt
fmt: ## Format the code.
	go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: golangci-lint ## Run golangci-lint, with the Kubernetes API rules for api/.
	$(GOLANGCI_LINT) run

.PHONY: lint-fix
lint-fix: golangci-lint ## Run golangci-lint and let it repair what it can.
	$(GOLANGCI_LINT) run --fix

##@ Test

.PHONY: test
test: controlplane-test ## Run the tests on a real API server, with the race detector where a C compiler is.
	@hack/test.sh -timeout 40m ./...

.PHONY: test-long
test-long: controlplane-test ## Run the tests, those of faults at length (600 kills of the manager and more), and fuzz.
	@FIREBREAK_LONG=1 hack/test.sh -timeout 180m -count=1 ./...
	@hack/fuzz.sh

.PHONY: fuzz
fuzz: ## Fuzz each parser of what comes from outside for FUZZTIME (30s).
	@hack/fuzz.sh

.PHONY: bench
bench: controlplane ## Measure against the budgets of the design, beside this machine's raw write speed (BENCH=TestActions: only that).
	@FIREBREAK_BENCH=1 RACE=0 hack/test.sh -timeout 60m -count=1 -v -run '$(BENCH)' ./test/bench/...

##@ Build

.PHONY: build
build: ## Build bin/manager, bin/receiver and bin/kubectl-firebreak.
	@echo "Building Firebreak. The first time its libraries are compiled too, which takes some minutes."
	$(GO_BUILD) -o bin/manager ./cmd/manager
	$(GO_BUILD) -o bin/receiver ./cmd/receiver
	$(GO_BUILD) -o bin/kubectl-firebreak ./cmd/kubectl-firebreak

.PHONY: run
run: build ## Run the manager here against the current kubeconfig (without its own ServiceAccount: for a look only).
	bin/manager --leader-elect=false --metrics-bind-address=0

.PHONY: controlplane
controlplane: ## Build etcd, the Kubernetes control plane, kubectl and kwok into bin/k8s (once).
	@hack/controlplane/build.sh $(DEV_BINARIES)

.PHONY: controlplane-test
controlplane-test: ## Build only what the tests need: etcd and kube-apiserver (once).
	@[ -z "$(TEST_BINARIES)" ] || hack/controlplane/build.sh $(TEST_BINARIES)

.PHONY: tools
tools: controller-gen kustomize golangci-lint crd-ref-docs ## Build the pinned build tools into bin/tools (once).

.PHONY: controller-gen kustomize golangci-lint crd-ref-docs
controller-gen kustomize golangci-lint crd-ref-docs:
	@hack/tools/build.sh $@

.PHONY: docker-build
docker-build: ## Build the images MANAGER_IMG and RECEIVER_IMG.
	$(CONTAINER_TOOL) build --build-arg BINARY=manager --build-arg VERSION=$(VERSION) -t $(MANAGER_IMG) .
	$(CONTAINER_TOOL) build --build-arg BINARY=receiver --build-arg VERSION=$(VERSION) -t $(RECEIVER_IMG) .

.PHONY: docker-push
docker-push: ## Push both images.
	$(CONTAINER_TOOL) push $(MANAGER_IMG)
	$(CONTAINER_TOOL) push $(RECEIVER_IMG)

.PHONY: build-installer
build-installer: overlay ## Write dist/install.yaml: everything, with the images MANAGER_IMG and RECEIVER_IMG.
	$(KUSTOMIZE) build dist/overlay -o dist/install.yaml

# An overlay of its own, so that setting an image leaves no change in config/.
.PHONY: overlay
overlay: manifests kustomize
	@mkdir -p dist/overlay
	@printf 'resources: [../../config/default]\n' > dist/overlay/kustomization.yaml
	@cd dist/overlay && $(KUSTOMIZE) edit set image firebreak-manager=$(MANAGER_IMG) firebreak-receiver=$(RECEIVER_IMG)

##@ Deployment

.PHONY: install
install: manifests kustomize ## Install the CRDs into the current kubeconfig's cluster.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) apply --server-side -f -

.PHONY: uninstall
uninstall: kustomize ## Remove the CRDs, and with them every object of Firebreak.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: deploy
deploy: build-installer ## Install everything, with the images MANAGER_IMG and RECEIVER_IMG.
	$(KUBECTL) apply --server-side -f dist/install.yaml

.PHONY: undeploy
undeploy: kustomize ## Remove everything.
	$(KUSTOMIZE) build config/default | $(KUBECTL) delete --ignore-not-found -f -
