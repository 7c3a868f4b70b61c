# make book | test | site | pdf | mini | ablations | cifar100-subset | resnet18 | paper | publish
# make test-gpu | test-slow | clean
PYTHON ?= python3
DATA ?= data
JOBS ?= 2
CHROMIUM ?= chromium
# text for YAML, in brackets, since Snakemake drops outer quotes, then for the shell: a folder may
# be called 2024_01 or my data
QUOTED = '["$(subst ','\'',$(subst ",\",$(subst \,\\,$(DATA))))"]'
RUN = .venv/bin/python -m
SNAKEMAKE = $(RUN) snakemake -j$(JOBS) --rerun-incomplete --nolock --quiet rules --config data=$(QUOTED)
# the notebooks as they are, from nothing: their runs go to a fresh folder
NBVAL = rm -rf _build/nbval && FRLIB_ROOT=$(CURDIR)/_build/nbval TQDM_DISABLE=1 \
	$(RUN) pytest -q --nbval-lax -p no:cacheprovider notebooks

.PHONY: book site pdf mini ablations cifar100-subset resnet18 paper test unit notebooks test-gpu \
	test-slow publish clean

book: .venv/ready            ## the smoke preset on embedded data, then the book in _build/html
	$(SNAKEMAKE) preset=smoke

site: book                   ## every page of the built book, in a Chromium without network
	FRLIB_SITE=$(CURDIR)/_build/html $(RUN) pytest -q tests/test_site.py

pdf: book                    ## the whole book on paper, _build/book.pdf, printed by Chromium
	.venv/bin/jupyter-book build . --builder custom --custom-builder singlehtml
	cp _build/singlehtml/book/intro.html _build/singlehtml/book.html  # its links start from there
	$(CHROMIUM) --headless --no-sandbox --no-pdf-header-footer --print-to-pdf=_build/book.pdf \
		file://$(CURDIR)/_build/singlehtml/book.html

mini resnet18 paper: .venv/ready  ## the same pipeline with another preset: make mini DATA=folder
	$(SNAKEMAKE) preset=$@

ablations: .venv/ready       ## the choices of the book's ledger, one by one, at PRESET (mini)
	$(SNAKEMAKE) preset=$(or $(PRESET),mini) -- ablations

cifar100-subset: .venv/ready ## a preset that has results but no pages of its own
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

publish: .venv/ready         ## copy the results of PRESET into results/, to be committed
	$(RUN) frlib publish --preset $(PRESET)

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet -r requirements.txt
	$(RUN) pip install --quiet --no-deps -e .
	touch $@

clean:                       ## what the pipeline made, but not the runs
	rm -rf _build book/executed book/generated .snakemake
