# make book | test | mini | resnet18 | paper | test-gpu | publish | clean
PYTHON ?= python3
DATA ?= data
JOBS ?= 2
RUN = .venv/bin/python -m
SNAKEMAKE = $(RUN) snakemake -j$(JOBS) --rerun-incomplete --nolock --quiet rules --config data=$(DATA)

.PHONY: book mini resnet18 paper test test-gpu publish clean

book: .venv/ready            ## the smoke preset on embedded data, then the book in _build/html
	$(SNAKEMAKE) preset=smoke

mini resnet18 paper: .venv/ready  ## the same pipeline with another preset: make mini DATA=folder
	$(SNAKEMAKE) preset=$@

test: .venv/ready            ## lint, unit tests, notebooks at their defaults
	$(RUN) ruff check .
	$(RUN) pytest -q
	$(RUN) pytest -q --nbval-lax notebooks

test-gpu: .venv/ready        ## the same notebooks and the tests marked gpu; fails without a GPU
	$(RUN) pytest -q -m gpu
	FRLIB_DEVICE=cuda $(RUN) pytest -q --nbval-lax notebooks

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
