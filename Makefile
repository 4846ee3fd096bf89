# Short targets that call the go tool; `make` alone lists them.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PREFIX   ?= /usr/local
FUZZTIME ?= 10s
TESTFLAGS ?=
export CGO_ENABLED ?= 0

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

build: ## the program, one static binary: ./roost
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o roost ./cmd/roost

install: build ## the program into $(PREFIX)/bin
	install -D -m 0755 roost $(DESTDIR)$(PREFIX)/bin/roost

demo: build ## a server on loopback with sample mail, a certificate of its own and a printed login
	./roost demo

test: ## all tests; those that need another mail program say what to install
	go test -json $(TESTFLAGS) ./... | go run ./test/report

check: lint ## everything that must be green before a push (the race detector needs a C compiler)
	CGO_ENABLED=1 go test -race -shuffle=on -json ./... | go run ./test/report

lint: ## format, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	# A module of its own, so that the program has none of its dependencies.
	staticcheck=$$(go tool -n staticcheck) && cd test/oidc && go vet ./... && $$staticcheck ./...

vuln: ## what the Go vulnerability database knows of this tree and its modules; needs the network
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

# Not asked: G104, an error that nobody looks at (the commonest are a Close after another error
# and what a gone client cannot be told); G115, numbers that lose bits (parsers state their
# limits, and are fuzzed); G304 and G703, files with a name from elsewhere (the administrator's
# configuration: what clients name is reached by single components below a held directory);
# G706, text in the log (it quotes its fields). Tests and measurements are no targets.
gosec: ## what gosec would object to in the program
	go run github.com/securego/gosec/v2/cmd/gosec@v2.30.0 -quiet -nosec-require-rules -nosec-require-justification \
		-exclude=G104,G115,G304,G703,G706 -exclude-dir=bench -exclude-dir=test -exclude-dir=store/storetest ./...

fuzz: ## every fuzz target, FUZZTIME each (10s)
	bash test/fuzz.sh $(FUZZTIME)

bench: ## the server measured beside Dovecot; BENCH='-quick' and other flags; PROFILE=cpu|mem|trace OP=name
	go run ./bench $(if $(PROFILE),-profile $(PROFILE) -only $(OP)) $(BENCH)

release: ## static binaries for each processor and the changes since the last one, in dist/
	for arch in amd64 arm64 riscv64; do GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o dist/roost-linux-$$arch ./cmd/roost || exit 1; done
	awk 'FNR == 1 && NR > 1 {print ""} {print}' docs/changes/*.md >dist/CHANGES.md

compat: ## docs/compatibility.md, from the tests that run other programs; all of them must be installed
	go test -json ./test ./test/peers ./maildir/... | go run ./test/report -compat docs/compatibility.md

docs: ## what is made from the code: docs/config.md and docs/roost.md
	go generate ./...

.PHONY: help build install demo test check lint vuln gosec fuzz bench compat docs release
