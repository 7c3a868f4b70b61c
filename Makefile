# make book | test | site | pdf | small | mini | ablations | resnet18 | paper | publish
# make overfit | cifar100-subset | tiny-imagenet-40 | test-gpu | test-slow | test-oldest | clean
# REDO=1 with a preset: train and judge all again; what was there is moved aside and kept
# LOCKED=1 with any of them: the exact releases of constraints.txt, behind most committed results
PYTHON ?= python3
DATA ?= data
JOBS ?= 2
CHROMIUM ?= chromium
# text for YAML, in brackets, since Snakemake drops outer quotes, then for the shell: a folder may
# be called 2024_01 or my data
QUOTED = '["$(subst ','\'',$(subst ",\",$(subst \,\\,$(DATA))))"]'
RUN = .venv/bin/python -m
SNAKEMAKE = $(RUN) snakemake -j$(JOBS) --rerun-incomplete --nolock --quiet rules \
	$(if $(REDO),--forcerun train judge numbers) --config $(if $(REDO),redo=1) data=$(QUOTED)
# the packages' own scripts hold the place of .venv: a moved project starts them by their modules
JUPYTER_BOOK = .venv/bin/python -c "from jupyter_book.cli.main import main; main()"
# nothing if .venv was made in this folder, else a word that makes it anew
MOVED = $(shell [ "$$(cat .venv/ready 2> /dev/null)" = "$$(pwd -P)" ] || echo moved)
# the notebooks as they are, from nothing: their runs go to a fresh folder
NBVAL = rm -rf _build/nbval && FRLIB_ROOT="$(CURDIR)/_build/nbval" TQDM_DISABLE=1 \
	$(RUN) pytest -q --nbval-lax -p no:cacheprovider notebooks

.PHONY: book site pdf small mini resnet18 paper ablations overfit cifar100-subset \
	tiny-imagenet-40 test unit notebooks test-gpu test-slow test-oldest publish clean moved

book: .venv/ready            ## the smoke preset on embedded data, then the book in _build/html
	$(SNAKEMAKE) preset=smoke

site: book                   ## every page of the built book, in a Chromium without network
	FRLIB_SITE="$(CURDIR)/_build/html" $(RUN) pytest -q tests/test_site.py

pdf: book                    ## the whole book on paper, _build/book.pdf, printed by Chromium
	$(JUPYTER_BOOK) build . --builder custom --custom-builder singlehtml
	cp _build/singlehtml/book/intro.html _build/singlehtml/book.html  # its links start from there
	"$(CHROMIUM)" --headless --no-sandbox --no-pdf-header-footer --print-to-pdf=_build/book.pdf \
		"file://$(CURDIR)/_build/singlehtml/book.html"

small mini resnet18 paper: .venv/ready  ## the same with another preset: make mini DATA=folder
	$(SNAKEMAKE) preset=$@

ablations: .venv/ready       ## the choices of the book's ledger, one by one, at PRESET (mini)
	$(SNAKEMAKE) preset="$(or $(PRESET),mini)" -- ablations

overfit cifar100-subset tiny-imagenet-40: .venv/ready  ## their results, without pages
	$(SNAKEMAKE) preset=$@ -- results

test: .venv/ready            ## lint, then side by side: unit tests, notebooks at their defaults
	$(RUN) ruff check .
	$(MAKE) --no-print-directory -j2 unit notebooks

unit: .venv/ready
	$(RUN) pytest -q

notebooks: .venv/ready
	$(NBVAL)

test-gpu: .venv/ready        ## the tests marked gpu and the notebooks, on a GPU; fails without one
	.venv/bin/python -c "import torch, sys; sys.exit(not torch.cuda.is_available() and 'no GPU here')"
	$(RUN) pytest -q -m gpu
	$(NBVAL)

test-slow: .venv/ready       ## 20 kills, many runs at once, Slurm, JupyterLab in a browser
	$(RUN) pytest -q -s -m slow

test-oldest: .venv-oldest/ready  ## the unit tests on the oldest releases that requirements.txt allows
	.venv-oldest/bin/python -m pytest -q

publish: .venv/ready         ## copy the results of PRESET into results/, to be committed
	$(RUN) frlib publish --preset "$(or $(PRESET),$(error name the preset: make publish PRESET=mini))"

# PIP_CONSTRAINT stands above a machine's own pip.conf, which may cap what LOCKED=1 asks for
.venv/ready: requirements.txt pyproject.toml $(MOVED) $(if $(LOCKED),constraints.txt .venv/locked)
	"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	"$(PYTHON)" -m venv .venv
	$(if $(LOCKED),PIP_CONSTRAINT=constraints.txt )$(RUN) pip install --quiet -r requirements.txt
	$(RUN) pip install --quiet --no-deps -e .
	pwd -P > $@

.venv/locked:                ## an environment that was made without LOCKED=1 is made anew
	mkdir -p .venv && touch $@

# "name>=2.1,<3  # why" in requirements.txt becomes "name==2.1"
.venv-oldest/ready: requirements.txt pyproject.toml
	"$(PYTHON)" -m venv .venv-oldest
	sed -n 's/^\([A-Za-z0-9-]*\)[=>]=\([^, ]*\).*/\1==\2/p' requirements.txt > .venv-oldest/pins.txt
	.venv-oldest/bin/python -m pip install --quiet -r .venv-oldest/pins.txt
	.venv-oldest/bin/python -m pip install --quiet --no-deps -e .
	touch $@

clean:                       ## what the pipeline made, but not the runs
	rm -rf _build book/executed book/generated .snakemake
