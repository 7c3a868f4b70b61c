"""How long our training step and our AutoAttack take, beside the loop as published.

    python benchmarks/speed.py --data-root FOLDER      (FOLDER holds cifar-10-batches-py)

Every variant lives in a process of its own, since the way memory is kept is set for a whole
process (`frlib.run.cost.settle`). They take turns, round by round, so that a slow spell of the
machine meets all of them; ratios are taken within a round. The raw seconds go to
benchmarks/cpu.json (or cuda.json) after every round; `frlib.publish.speed_tables` makes tables.
"""

import argparse
import copy
import dataclasses
import multiprocessing
import sys
import time
from pathlib import Path
from unittest.mock import patch

import published
import torch
import torch.nn.functional as F
from pyautoattack import AutoAttack
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from frlib import data, evaluate, fast, methods, models, train
from frlib.publish.speed_tables import named, ratios, spread
from frlib.run import config, cost
from frlib.run.files import pack_flags, read_json, write_json
from frlib.run.places import resolve
from frlib.run.provenance import provenance

HERE = Path(__file__).resolve().parent
MODELS = {"train": ("resnet18-16", "resnet18-32", "resnet18"),
          "autoattack": ("resnet8-16", "resnet18-16")}
OURS = ("ours", "default")  # in float32, and in the precision that a run takes by default
VARIANTS = ("published", "channels-last", "tensors", *OURS)  # of the training step
SIDES = ("published", "ours")  # of AutoAttack
ATTACK_BATCH = 250  # images per AutoAttack batch, the default of pyautoattack
SIDE, PRODUCTS = 2048, 10  # of the matrices, and how many products are timed
KINDS = {"convolutions": ("conv", "mm"), "ReLU": ("relu", "threshold_backward", "clamp_min"),
         "additions": ("aten::add",)}  # of operations, by what is in torch's names of them


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    settle(given, fast=False)
    try:
        content = read_json(given.out) if given.out.is_file() else {}
        for part, rounds in (("train", training_rounds), ("autoattack", autoattack_rounds)):
            if given.only in (None, part):
                content[part] = {"provenance": provenance(given.device), "models": {}}
                for name in given.models or MODELS[part]:
                    for entry in rounds(name, given):
                        content[part]["models"][name] = entry
                        write_json(given.out, content)
                print(f"{part}: raw numbers in {given.out}", flush=True)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-root", help="folder of the official CIFAR-10; without it, scikit-learn's digits")
    add("--dataset", choices=("cifar10", "digits"), help="default: cifar10 if --data-root is given")
    add("--only", choices=("train", "autoattack"), help="measure this part, keep the other")
    add("--models", nargs="+", choices=list(models.ARCHITECTURES),
        help="default: three sizes of ResNet-18; for AutoAttack, resnet8-16 and resnet18-16")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--threads", type=int, default=2, help="of torch on the CPU (default 2)")
    add("--rounds", type=int, default=7, help="of the training step (default 7)")
    add("--steps", type=int, default=4, help="training steps timed in a round (default 4)")
    add("--batch-size", type=int, default=128, help="of the training step (default 128)")
    add("--images", type=int, default=64, help="test images for AutoAttack (default 64)")
    add("--attack-rounds", type=int, default=2, help="of AutoAttack (default 2)")
    add("--preset", default=str(HERE / "robust.yaml"), help="how the attacked networks are trained")
    add("--runs-dir", default="runs/benchmark", help="where they are kept (runs/benchmark)")
    add("--out", type=Path, help="result file (benchmarks/cpu.json or benchmarks/cuda.json)")
    given = parser.parse_args(arguments)
    for name in ("threads", "rounds", "steps", "images", "attack_rounds"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if given.batch_size < 2:
        parser.error("--batch-size must be at least 2, for BatchNorm")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU")
    given.dataset = given.dataset or ("cifar10" if given.data_root else "digits")
    given.data_root = given.data_root or "data"
    given.out = given.out or HERE / f"{given.device}.json"
    return given


# ---- the training step

def training_rounds(name: str, given):
    """Measure the variants of one network's training step; gives the results after every round."""
    settings = config.Config(method="at", model=name, dataset=given.dataset, device=given.device,
                             batch_size=given.batch_size)
    split = data.load(given.dataset, resolve(given.data_root), "train")
    split = split.take(given.steps * given.batch_size)
    if len(split) < given.steps * given.batch_size:
        raise ValueError(f"{given.steps} steps of {given.batch_size} images: {given.dataset} has "
                         f"only {len(split)}")
    model = models.create(name, num_classes=len(split.classes))
    entry = {"setting": {"dataset": given.dataset, "data": split.checksum,
                         "timed_steps": given.steps,
                         "tf32": given.device == "cuda" and torch.backends.cudnn.allow_tf32,
                         **train.precision(settings, given.device),
                         **settings.group("train")},
             **flops_per_step(model, split, settings), "product_gflops": [], "product_bfloat16": [],
             "seconds": {variant: [] for variant in VARIANTS},
             "attack_seconds": {variant: [] for variant in OURS}}
    loops = {variant: Worker(training_loop, variant, name, settings, given) for variant in VARIANTS}
    for variant, loop in loops.items():  # not timed: the first pass compiles and warms up
        *_, peak = loop("epoch")
        if variant in OURS:
            loop("attack")
        if given.device == "cuda":
            entry.setdefault("peak_mib", {})[variant] = peak / 2**20
    if given.device == "cpu":
        entry["attack_shares"] = loops["default"]("shares")
    for turn in range(given.rounds):
        entry["product_gflops"].append(product_rate(given.device))
        if fast.has_bfloat16(given.device):
            entry["product_bfloat16"].append(product_rate(given.device, torch.bfloat16))
        for variant in _in_turn(VARIANTS, turn):
            seconds, *_ = loops[variant]("epoch")
            entry["seconds"][variant].append(seconds / given.steps)
            if variant in OURS:
                seconds, *_ = loops[variant]("attack")
                entry["attack_seconds"][variant].append(seconds / given.steps)
        last = ", ".join(f"{v} {entry['seconds'][v][-1]:.3f} s" for v in VARIANTS)
        print(f"{name}, step, round {turn + 1}/{given.rounds}: {last}; product "
              f"{entry['product_gflops'][-1]:.1f} GFLOP/s", flush=True)
        yield entry
    for variant in VARIANTS:
        _print_ratio(f"{name}, {named(variant, entry)}", entry["seconds"]["published"],
                     entry["seconds"][variant])


def training_loop(variant: str, name: str, settings, given):
    """What a worker does when asked for an "epoch", its "attack" alone, or the attack's "shares".

    Of the first two it gives seconds, the result and the peak of memory; of the last,
    `attack_shares`.
    """
    settle(given, fast=variant in OURS)
    split = data.load(given.dataset, resolve(given.data_root), "train")
    split = split.take(given.steps * given.batch_size).to(given.device)
    torch.manual_seed(0)  # the same weights for every variant
    model = models.create(name, num_classes=len(split.classes)).to(given.device)
    passes = {"epoch": epoch_of(variant, model, split, settings)}
    if variant in OURS:
        passes["attack"] = attack_of(variant, model, split, settings)

    def answer(asked: str):
        if asked == "shares":
            return attack_shares(passes["attack"])
        return (*timed(passes[asked], given.device), cost.peak_bytes(given.device))

    return answer


def epoch_of(variant: str, model, split, settings):
    """A function that trains `model` itself for one pass over `split`, the way of `variant`.

    "published": benchmarks/published.py. "channels-last": the same with the weights laid out so.
    "tensors": our loop with its fast paths off, so only the loading differs. "ours": as it is, in
    float32. "default": in the precision that a run has by default, see `frlib.train.precision`.
    """
    device, settings = split.labels.device.type, settings_of(variant, settings)
    if variant in ("channels-last", *OURS):
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum,
                                weight_decay=settings.weight_decay)
    if variant in ("tensors", *OURS):
        generator = torch.Generator(device).manual_seed(0)
        frozen = train.fast_copy(model, settings, device)  # once for a whole training
        return lambda: train.train_epoch(model, optimizer, split, generator, settings, 0, frozen)
    batches = published.loader(split, settings.batch_size)
    return lambda: published.train_epoch(model, optimizer, batches, device, eps=settings.eps,
                                         step_size=settings.step_size, steps=settings.steps)


def settings_of(variant: str, settings):
    """The settings with the fast paths and the precision of `variant`."""
    return dataclasses.replace(settings, fast=variant in OURS,
                               precision="auto" if variant == "default" else "float32")


def attack_of(variant: str, model, split, settings):
    """A function that attacks `split` once as `train.train_epoch` does, and updates no weight."""
    device, settings = split.labels.device.type, settings_of(variant, settings)
    method, generator = methods.METHODS.find("at"), torch.Generator(device).manual_seed(0)
    frozen = train.fast_copy(model, settings, device)

    @evaluate.full_precision()
    def attack():
        for x, y in data.batches(split, settings.batch_size, generator, flip=settings.flip):
            method.attack(frozen.refresh(model), x, y, settings, generator)

    return attack


def attack_shares(attack) -> dict[str, float]:
    """The shares of attack()'s time on the CPU that each of KINDS takes, and "other"; sum 1."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:  # or torch 2.11 warns
        attack()
    times = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in seen.key_averages():
        kind = next((kind for kind, words in KINDS.items()
                     if any(word in event.key for word in words)), "other")
        times[kind] += event.self_cpu_time_total
    return {kind: time / sum(times.values()) for kind, time in times.items()}


def flops_per_step(model, split, settings) -> dict[str, int]:
    """The operations that one training step needs, and its attack alone, by torch's own counter.

    Each step of the attack: a forward pass, and the gradient with respect to the images alone.
    Then the update: a forward pass, and a backward pass for the weights. A multiply-add is two
    operations; only convolutions and matrix products count.
    """
    model, batch = copy.deepcopy(model), split.take(settings.batch_size)
    x = batch.x.requires_grad_()
    with FlopCounterMode(display=False) as ascent:
        loss = F.cross_entropy(model.eval()(x.clone()), batch.labels)  # the counter takes no leaf
        torch.autograd.grad(loss, x)
    with FlopCounterMode(display=False) as update:
        F.cross_entropy(model.train()(x.detach()), batch.labels).backward()
    attack = settings.steps * ascent.get_total_flops()
    return {"flops_per_step": attack + update.get_total_flops(), "flops_of_attack": attack}


def product_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of this machine's product of two 2048 x 2048 matrices."""
    a, b = torch.rand(2, SIDE, SIDE, device=device).to(dtype)
    torch.mm(a, b)
    seconds, _ = timed(lambda: [torch.mm(a, b) for _ in range(PRODUCTS)][-1], device)
    return PRODUCTS * 2 * SIDE**3 / seconds / 1e9


# ---- AutoAttack

def autoattack_rounds(name: str, given):
    """Measure both AutoAttacks, stage by stage, on one robust network; gives results every round.

    A stage gets the images that the stages before it left standing, on each side its own.
    """
    settings, path = robust_run(name, given)
    model, test = robust_model(name, path, given)
    clean = evaluate.correct(model, test.x, test.labels, batch_size=ATTACK_BATCH)
    stages = evaluate.STAGES
    entry = {"setting": {"dataset": given.dataset, "data": test.checksum, "images": given.images,
                         "batch": ATTACK_BATCH, "training": settings.group("train")},
             "clean": int(clean.sum()),
             "seconds": {stage: {side: [] for side in SIDES} for stage in stages},
             "standing": {stage: {side: [] for side in SIDES} for stage in stages},
             "differing": {stage: [] for stage in stages},
             "flags": {stage: {} for stage in stages}}
    sides = {side: Worker(attacker, side, name, settings.eps, path, given) for side in SIDES}
    for turn in range(given.attack_rounds):
        standing = {side: torch.ones(given.images, dtype=torch.bool) for side in SIDES}
        for stage in stages:
            for side in _in_turn(SIDES, turn):
                seconds, flags = sides[side](standing[side].tolist(), stage)
                flags = torch.tensor(flags)
                standing[side] = flags
                entry["seconds"][stage][side].append(seconds)
                entry["standing"][stage][side].append(int(flags.sum()))
                entry["flags"][stage][side] = pack_flags(flags)  # of the last round
            entry["differing"][stage].append(int((standing["ours"] != standing["published"]).sum()))
            last = ", ".join(f"{side} {entry['seconds'][stage][side][-1]:.1f} s and "
                             f"{entry['standing'][stage][side][-1]} standing" for side in SIDES)
            print(f"{name}, {stage}, round {turn + 1}/{given.attack_rounds}: {last}", flush=True)
        yield entry
    total = {side: [sum(stages) for stages in zip(*(entry["seconds"][stage][side]
                                                    for stage in stages), strict=True)]
             for side in SIDES}
    _print_ratio(f"{name}, AutoAttack", total["published"], total["ours"])


def attacker(side: str, name: str, eps: float, path, given):
    """What a worker does when asked: one stage on the standing images; gives seconds, flags."""
    settle(given, fast=side == "ours")
    model, test = robust_model(name, path, given)
    run = {"published": stock_stage, "ours": our_stage}[side]

    def attack(standing: list[bool], stage: str):
        if not any(standing):
            return 0.0, standing
        here = torch.tensor(standing, device=given.device).nonzero()[:, 0]
        x, y = test.x[here], test.labels[here]
        seconds, held = timed(lambda: run(model, x, y, stage, eps), given.device)
        flags = torch.zeros(len(standing), dtype=torch.bool)
        flags[here.cpu()] = held.cpu()
        return seconds, flags.tolist()

    return attack


def stock_stage(model, x, y, stage: str, eps: float):
    """One stage of the standard version by pyautoattack as it comes: what stands, bool (N,)."""
    adversary = AutoAttack(model.eval(), norm="Linf", eps=eps, version="standard", seed=0,
                           device=x.device)
    adversary.attacks_to_run = [stage]
    _, predicted = adversary.run_standard_evaluation(x, y, batch_size=ATTACK_BATCH)
    return predicted == y


def our_stage(model, x, y, stage: str, eps: float):
    """One stage by `evaluate.autoattack`, told that there is no other: what stands, bool (N,)."""
    with patch.object(evaluate, "STAGES", (stage,)):
        return evaluate.autoattack(model, x, y, eps=eps, batch_size=ATTACK_BATCH, seed=0).robust


def robust_run(name: str, given):
    """(settings, checkpoint): adversarially trained by the preset, now or by an earlier call."""
    settings = config.load(given.preset, method="at", model=name, dataset=given.dataset,
                           data_root=given.data_root, runs_dir=given.runs_dir,
                           device=given.device, threads=given.threads)
    split = data.load(given.dataset, resolve(given.data_root), "train")
    settings = dataclasses.replace(settings, train_size=min(settings.train_size, len(split)))
    print(f"{name}: adversarial training, unless it is in {given.runs_dir}", flush=True)
    return settings, train.train(settings).checkpoint("best")


def robust_model(name: str, path, given):
    """(network, test images): what is attacked."""
    test = data.load(given.dataset, resolve(given.data_root), "test")
    test = test.take(given.images).to(given.device)
    model = models.create(name, num_classes=len(test.classes))
    return models.load_checkpoint(model, path).to(given.device).eval(), test


# ---- processes and time

def settle(given, *, fast: bool):
    """Set up this process; TF32 for convolutions and products or for neither, to compare rates."""
    cost.settle(given.threads, fast=fast)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32


class Worker:
    """A process that builds a function once, `build(*given)`, and then calls it when asked."""

    def __init__(self, build, *given):
        fresh = multiprocessing.get_context("spawn")
        self.pipe, other = fresh.Pipe()
        fresh.Process(target=_serve, args=(other, build, given), daemon=True).start()
        other.close()

    def __call__(self, *words):
        try:
            self.pipe.send(words)
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            raise RuntimeError("a worker process ended; its error stands above") from None


def _serve(pipe, build, given):
    work = build(*given)
    while True:
        try:
            words = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        pipe.send(work(*words))


def timed(work, device: str):
    """(seconds, result) of work(), with everything that it queued on a GPU done."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, result


def _in_turn(names: tuple, turn: int) -> tuple:
    """The names from another one on each round, so that none always runs first."""
    first = turn % len(names)
    return names[first:] + names[:first]


def _print_ratio(title, reference, seconds):
    if all(seconds):
        print("{}: {:.2f} [{:.2f}, {:.2f}] times as fast as published".format(
            title, *spread(ratios(reference, seconds))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
