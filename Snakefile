# The pipeline: runs -> results -> executed notebooks -> generated tables -> book.
#
#   snakemake -n --config preset=mini data=data        the plan
#   snakemake -j2 --config preset=mini data=data       do it; what is done is not done again
#   snakemake --profile cluster/slurm.yaml --config preset=paper data=data       as Slurm jobs
#
# What is trained and judged stays: a job runs where a result is missing or its settings have
# changed, and then it refuses to replace it. To do all again (what was there is moved aside):
#   snakemake -j2 --config preset=mini data=data redo=1 --forcerun train judge numbers

import os
import sys
from pathlib import Path
from shlex import quote

from frlib.run import config as settings
from frlib.publish import all_pages
from frlib.run import evaluate_run, figures, presets, soundness
from frlib.run.labels import parse_label, run_label
from frlib.run.settings import PATHS

KNOWN = ("preset", "data", "runs", "plugin", "redo", "labels", "seeds")
if unknown := [key for key in config if key not in KNOWN]:
    raise ValueError(f"--config {', '.join(unknown)}: unknown; choose of {', '.join(KNOWN)}; what "
                     "decides a run stands in its preset")
if ("labels" in config) != ("seeds" in config):
    raise ValueError("--config labels and seeds: only together and for the target sweep, as "
                     "`python -m frlib sweep` gives them; else a preset lists its runs and seeds")


def given(name, default):
    """A name as --config has it: data=data, or data=["2024_01"], which stays text. "" for none.

    Without the brackets, Snakemake drops quotes and reads a number, which the settings refuse.
    """
    value = config.get(name, default)
    value = "" if value is None else value[0] if isinstance(value, list) and value else value
    return os.path.expanduser(value) if isinstance(value, str) else value


PRESET = given("preset", "smoke")
presets.refuse_called(PRESET)
PLUGIN = given("plugin", "")  # plugin=FILE: a reader's own methods, networks, data, attacks
SETTINGS = settings.load(PRESET, plugin=PLUGIN or None,
                         **{key: given(name, name) for key, name in PATHS.items()})
DATA, RUNS = SETTINGS.data_root, SETTINGS.runs_dir
settings.check_labels(SETTINGS)
NAME = SETTINGS.preset_name
PYTHON = quote(sys.executable)
# not by its script, which does not start once the project has moved
JUPYTER_BOOK = f"{PYTHON} -c 'from jupyter_book.cli.main import main; main()'"
ON_RESULTS = f"--runs-dir {quote(RUNS)}" + (f" --plugin {quote(PLUGIN)}" if PLUGIN else "")
COMMON = f"--preset {quote(str(PRESET))} --data-root {quote(str(DATA))} {ON_RESULTS}"
# not again by a retry, if the first attempt came to begin: it goes on with what that has left
REDO = "$(file={output:q}; [ {resources.attempt} -gt 1 ] && [ -e \"${{file%.json}}.redo\" ] || " \
    "echo --redo) " if config.get("redo") else ""
PAPERMILL = (
    "TQDM_DISABLE=1 {PYTHON} -m papermill --no-progress-bar --log-level WARNING {input.notebook} "
    "{output.notebook:q} -r preset {PRESET:q} -r data_root {DATA:q} -r runs_dir {RUNS:q} "
    "-p seed {SEED}"
) + (" -r plugin {PLUGIN:q}" if PLUGIN else "")
SEED = SETTINGS.seeds[0]  # the seed that the notebooks show
# without a number of threads in the preset, a job has the machine, and its GPU, to itself
THREADS = SETTINGS.threads or workflow.resource_settings.cores or SETTINGS.job_cpus
# what a job asks a cluster for; on one machine nobody is asked
ON_CPU = {"cpus_per_task": SETTINGS.threads or SETTINGS.job_cpus,
          "mem_mb": 1024 * SETTINGS.job_memory, "runtime": SETTINGS.job_minutes}
ATTEMPT = {"attempt": lambda wildcards, attempt: attempt}
ON_GPU = ON_CPU | ({"gpu": 1} if SETTINGS.job_gpus else {})
ON_GPUS = ON_GPU | ({"gpu": SETTINGS.job_gpus} if SETTINGS.job_gpus else {})  # a training
TRAIN = f"-m torch.distributed.run --standalone --nproc-per-node {SETTINGS.job_gpus} -m --" \
    if SETTINGS.job_gpus > 1 else "-m"
OMP = f"OMP_NUM_THREADS={SETTINGS.threads}" if SETTINGS.threads else ""
TRAINED = {page: [method for method in methods if method in SETTINGS.runs] for page, methods in {
    "01_train_baseline": ["natural", "at"],  # the trainings that a notebook shows, if they are
    "02_train_fr": ["at-fr"],                # the preset's
    "03_train_fr_swa": ["at", "at-fr"],
    "06_train_rivals": ["trades", "mart", "at-awp"],
}.items()}
REPORTS = ["04_attack_benchmark", "05_spectral_figures", "07_explore", "08_spectral_lens",
           "09_bring_your_own", "10_is_it_the_spectrum"]
NOTEBOOKS = [*TRAINED, *REPORTS]
LIBRARY = sorted(map(str, Path("frlib/publish").glob("*.py")))  # behind what a page shows
SWEEP = [f"{RUNS}/results/{NAME}/{label}/seed{seed}.json" for label in config.get("labels", [])
         for seed in config.get("seeds", SETTINGS.seeds)]  # of python -m frlib sweep
LABELS = [label for run in SETTINGS.runs for label in evaluate_run.siblings(run)]


def training_settings(label, seed):
    """What decides a run's numbers; another preset file, or a comment in it, does not."""
    method = parse_label(label)
    return settings.load(PRESET, seed=int(seed), **method).group("train")


def finished(label, seed=SEED):
    return f"{RUNS}/{NAME}/{run_label(label)}/seed{seed}/finished.json"


RESULTS, ABLATIONS = ([f"{RUNS}/results/{NAME}/{label}/seed{seed}.json"
                       for label in labels for seed in SETTINGS.seeds]
                      for labels in (LABELS, SETTINGS.ablations))
FIGURES = f"{RUNS}/results/{NAME}/figures/seed{SEED}.json"
LENS = f"{RUNS}/results/{NAME}/lens/seed{SEED}.json"
SOUNDNESS = f"{RUNS}/results/{NAME}/soundness/seed{SEED}.json"
MEASURES = {"figures": figures.figures_settings(SETTINGS), "lens": figures.lens_settings(SETTINGS),
            "soundness": soundness.settings(SETTINGS)}
GENERATED = [f"book/generated/{page}.md" for page in all_pages.PAGES]
# what else this machine has judged, as `make ablations` does: the pages are made anew for it
OTHERS = [f"{path} {path.stat().st_mtime_ns}" for path in
          sorted(Path(RUNS, "results", NAME).glob("*/seed*.json"))
          if str(path) not in [*RESULTS, FIGURES, LENS, SOUNDNESS]]
COMMITTED = sorted(map(str, Path("results").rglob("*.json")))
MEASURED = sorted(map(str, Path("benchmarks").glob("*.json")))


wildcard_constraints:
    label="(?!figures/|lens/|soundness/)[^/]+",
    seed="[0-9]+",


localrules: generated, book, results, ablations, sweep


rule book:
    input:
        notebooks=expand(f"{RUNS}/notebooks/{NAME}/{{page}}.ipynb", page=NOTEBOOKS),
        generated=GENERATED,
        prose=[p for p in map(str, Path("book").rglob("*"))
               if Path(p).is_file() and not p.startswith(("book/executed", "book/generated"))
               and "__pycache__" not in p],
        settings=["_config.yml", "_toc.yml"],
    output:
        "_build/html/index.html",
    params:
        preset=NAME,  # all presets share the page: another one makes it anew
    shell:
        "mkdir -p book/executed && cp {input.notebooks:q} book/executed/ && "
        "{JUPYTER_BOOK} build . -W --keep-going"


rule results:  # without the pages
    input:
        RESULTS,


rule ablations:  # one choice of the ledger changed in each; their results, without pages
    input:
        ABLATIONS,


rule sweep:
    input:
        SWEEP,


rule train:
    output:  # update: what is finished stays, also when the settings have changed; the job says so
        update(f"{RUNS}/{NAME}/{{label}}/seed{{seed}}/finished.json"),
    params:
        settings=lambda wildcards: training_settings(wildcards.label, wildcards.seed),
    log:
        f"{RUNS}/{NAME}/{{label}}/seed{{seed}}/train.log",
    threads: THREADS
    resources: **ON_GPUS, **ATTEMPT
    shell:
        "TQDM_DISABLE=1 {OMP} {PYTHON} {TRAIN} frlib train {COMMON} --run {wildcards.label:q} "
        "--seed {wildcards.seed} " + REDO + " 2> {log:q} || (tail -n 3 {log:q}; exit 1)"


rule judge:
    input:
        lambda wildcards: finished(wildcards.label, wildcards.seed),
    output:
        update(f"{RUNS}/results/{NAME}/{{label}}/seed{{seed}}.json"),
    params:
        settings=SETTINGS.group("judge"),
    log:
        f"{RUNS}/{NAME}/{{label}}/seed{{seed}}/judge.log",
    threads: THREADS
    resources: **ON_GPU, **ATTEMPT
    shell:
        "TQDM_DISABLE=1 {OMP} {PYTHON} -m frlib judge {COMMON} --run {wildcards.label:q} "
        "--seed {wildcards.seed} " + REDO + " 2> {log:q} || (tail -n 3 {log:q}; exit 1)"


rule numbers:  # of chapters 5, 8 and 10
    input:
        [finished(label) for label in LABELS],
    output:
        update(f"{RUNS}/results/{NAME}/{{chapter}}/seed{{seed}}.json"),
    params:
        settings=lambda wildcards: MEASURES[wildcards.chapter],
    log:
        f"{RUNS}/{NAME}/{{chapter}}/seed{{seed}}/numbers.log",
    wildcard_constraints:
        chapter="figures|lens|soundness",
    threads: THREADS
    resources: **ON_GPU, **ATTEMPT
    shell:
        "TQDM_DISABLE=1 {OMP} {PYTHON} -m frlib {wildcards.chapter} {COMMON} "
        "--seed {wildcards.seed} " + REDO + " 2> {log:q} || (tail -n 3 {log:q}; exit 1)"


rule training_page:
    input:
        notebook="notebooks/{page}.ipynb",
        runs=lambda wildcards: [finished(label) for label in TRAINED[wildcards.page]],
        results=RESULTS,  # its claims are judged by them, and all it trains is finished then
        library=LIBRARY,
        committed=COMMITTED,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/{{page}}.ipynb",
    params:  # one that shows a preset's own run reads it, and trains none
        others=OTHERS,
        methods=lambda wildcards: f"methods: [{', '.join(TRAINED[wildcards.page])}]",
    wildcard_constraints:
        page="|".join(TRAINED),
    resources: **ON_CPU
    shell:
        PAPERMILL + " -y {params.methods:q}"


rule benchmark:
    input:
        notebook="notebooks/04_attack_benchmark.ipynb",
        results=RESULTS,
        library=LIBRARY,
        committed=COMMITTED,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/04_attack_benchmark.ipynb",
    params:
        others=OTHERS,
    resources: **ON_CPU
    shell:
        PAPERMILL


rule figures:
    input:
        notebook="notebooks/05_spectral_figures.ipynb",
        numbers=FIGURES,
        results=RESULTS,
        library=LIBRARY,
        committed=COMMITTED,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/05_spectral_figures.ipynb",
    params:
        others=OTHERS,
    resources: **ON_GPU
    shell:
        PAPERMILL


rule explore:
    input:
        notebook="notebooks/07_explore.ipynb",
        runs=[finished(label) for label in LABELS],
        library=LIBRARY,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/07_explore.ipynb",
    resources: **ON_CPU
    shell:
        PAPERMILL


rule lens:
    input:
        notebook="notebooks/08_spectral_lens.ipynb",
        numbers=LENS,
        results=RESULTS,
        library=LIBRARY,
        committed=COMMITTED,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/08_spectral_lens.ipynb",
    params:
        others=OTHERS,
    resources: **ON_GPU
    shell:
        PAPERMILL


rule spectrum:
    input:
        notebook="notebooks/10_is_it_the_spectrum.ipynb",
        numbers=SOUNDNESS,
        results=RESULTS,
        library=LIBRARY,
        committed=COMMITTED,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/10_is_it_the_spectrum.ipynb",
    params:
        others=OTHERS,
    resources: **ON_GPU
    shell:
        PAPERMILL


rule own:  # trains and judges in a folder of its own
    input:
        notebook="notebooks/09_bring_your_own.ipynb",
        library=LIBRARY,
    output:
        notebook=f"{RUNS}/notebooks/{NAME}/09_bring_your_own.ipynb",
    resources: **ON_CPU
    shell:
        PAPERMILL


rule generated:
    input:
        RESULTS,
        FIGURES,
        LENS,
        SOUNDNESS,
        "book/claims.yml",
        LIBRARY,
        COMMITTED,
        MEASURED,
        list(presets.shipped().values()),
    output:
        GENERATED,
    params:
        preset=NAME,
        others=OTHERS,
    shell:
        "{PYTHON} -m frlib report --preset {PRESET:q} {ON_RESULTS}"
