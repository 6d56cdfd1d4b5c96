# kvmweb: `make run` serves the site, `make test` runs every test. `make help` lists the rest.
PYTHON = .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
.DEFAULT_GOAL = help
.PHONY: run test setup dev lint format bench help

run: ## Install what is missing, start libvirt and serve the site
	@deploy/setup run
	@exec deploy/with_libvirt $(PYTHON) manage.py serve

test: ## Install what is missing and run all tests; one file: make test TESTS=tests/spec
	@deploy/setup test
	@$(PYTHON) -m pytest $(TESTS)

setup: ## Only install what `make run` needs
	@deploy/setup run

dev: ## Serve the site, and restart or rebuild whatever changes
	@deploy/setup lint
	@deploy/setup run
	@npm run --silent watch & watch=$$!; trap 'kill $$watch' EXIT; \
	  KVMWEB_DEBUG=1 $(PYTHON) -m watchfiles --filter python "deploy/with_libvirt $(PYTHON) manage.py serve" kvmweb

lint: ## Check everything that can be checked without running it
	@deploy/setup lint
	@failed=; try() { echo "--> $$*"; "$$@" || failed="$$failed, $$1 $$2"; }; \
	try ruff check .; \
	try ruff format --check .; \
	try mypy kvmweb; \
	try lint-imports; \
	try djhtml --check --tabwidth 2 templates; \
	try npm run --silent lint; \
	try $(PYTHON) manage.py check; \
	try $(PYTHON) manage.py makemigrations --check --dry-run; \
	[ -z "$$failed" ] || { echo "Not clean:$${failed#,}"; exit 1; }

format: ## Write all code the way `make lint` wants it
	@deploy/setup lint
	ruff check --fix .
	ruff format .
	djhtml --tabwidth 2 templates
	npm run --silent format

bench: ## Measure what the README claims about speed (takes minutes)
	@deploy/setup test
	@for bench in bench/*.py; do echo "== $$bench"; $(PYTHON) $$bench || exit 1; done

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)
