"""Does bfloat16 cost robustness? Attacks and trainings in both precisions, judged in float32.

    python benchmarks/precision.py --data-root FOLDER      (FOLDER holds cifar-10-batches-py)

Three questions, each answered image by image. Attacks: the same networks, attacked by PGD in
float32 and in bfloat16 from the same starts. Inner: how far TRADES' own attack gets, by the number
of its first passes that stay in float32. Training: the same trainings in both, seed by seed. Where
the processor has no bfloat16 it is emulated (`Emulated`), and the file says so. Numbers go to
benchmarks/precision.json after every part; `frlib.publish.speed_tables` makes tables and a figure.
"""

import argparse
import itertools
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from frlib import attacks, data, evaluate, fast, losses, methods, models, train
from frlib.run import config, cost
from frlib.run.files import pack_flags, read_json, write_json
from frlib.run.places import resolve
from frlib.run.provenance import provenance

HERE = Path(__file__).resolve().parent
METHODS = ("at", "at-fr", "trades", "mart")
PRODUCTS = {torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default,
            torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
BATCH = 250  # images attacked at a time


class Emulated(TorchDispatchMode):
    """Products of bfloat16 operands as the instructions have them: added up in float32, rounded.

    torch's own emulation rounds the same way, and takes several times as long.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in PRODUCTS or not any(
                isinstance(arg, torch.Tensor) and arg.dtype == torch.bfloat16
                for arg in tree_leaves(args)):
            return function(*args, **kwargs)
        exact = tree_map_only(torch.Tensor, lambda t: t.float() if t.dtype == torch.bfloat16 else t,
                              args)
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, function(*exact, **kwargs))


def main(arguments: list[str] | None = None) -> int:
    given = _parse(arguments)
    cost.settle(given.threads)
    test = data.load(given.dataset, resolve(given.data_root), "test").take(given.images)
    x, y = test.to(given.device).x, test.labels.to(given.device)
    first = settings("at", given.seeds[0], "float32", given)
    networks = given.networks or [first.model]
    keys = ("model", "train_size", "epochs", "batch_size", "eps", "step_size", "steps")
    about = {"provenance": provenance(given.device),
             "bfloat16": "native" if fast.has_bfloat16(given.device) else "emulated",
             "setting": {**{key: getattr(first, key) for key in keys}, "dataset": given.dataset,
                         "images": len(y), "attack_steps": given.attack_steps,
                         "data": test.checksum}}
    try:
        content = read_json(given.out) if given.out.is_file() else {}
        for part, measure in (("attacks", partial(attacked, networks)), ("inner", inner),
                              ("training", trained)):
            if part in given.parts:
                content[part] = {**about, "found": {}}
                if part == "attacks":
                    content[part]["networks"] = networks
                for key, entry in measure(x, y, given):
                    content[part]["found"][key] = entry
                    write_json(given.out, content)
                    print(part, key, {k: v for k, v in entry.items() if k != "flags"}, flush=True)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"raw numbers in {given.out}")
    return 0


def _parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-root", help="folder of the official CIFAR-10; without it, scikit-learn's digits")
    add("--parts", nargs="+", default=("attacks", "inner", "training"),
        choices=("attacks", "inner", "training"), help="what to measure (default: all); the file "
        "keeps the other parts")
    add("--methods", nargs="+", choices=METHODS, default=METHODS, help="of the attacked networks")
    add("--networks", nargs="+", choices=list(models.ARCHITECTURES),
        help="to attack (default: --model alone)")
    add("--model", choices=list(models.ARCHITECTURES),
        help="default: the preset's, as the next two")
    add("--train-size", type=int, help="training images")
    add("--epochs", type=int, help="of a training")
    add("--seeds", type=int, nargs="+", default=(0, 1, 2), help="of the trainings (0 1 2)")
    add("--images", type=int, default=1000, help="test images attacked (default 1000)")
    add("--attack-steps", type=int, default=10, help="of the attack that judges (default 10)")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--threads", type=int, default=1, help="of torch on the CPU (default 1)")
    add("--preset", default=str(HERE / "precision.yaml"), help="settings of the trainings")
    add("--runs-dir", default="runs/precision", help="where trainings are kept (runs/precision)")
    add("--out", type=Path, help="benchmarks/precision.json, or precision-cuda.json there")
    given = parser.parse_args(arguments)
    for name in ("images", "attack_steps", "threads"):
        if getattr(given, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU")
    name = "precision.json" if given.device == "cpu" else "precision-cuda.json"
    given.out = given.out or HERE / name
    given.dataset = "cifar10" if given.data_root else "digits"
    given.data_root = given.data_root or "data"
    return given


def bfloat16(device: str):
    """A context for work in bfloat16 on this device."""
    return nullcontext() if fast.has_bfloat16(device) else Emulated()


def settings(method: str, seed: int, precision: str, given, model: str | None = None):
    """A training of its own for each precision: in one folder the second would be the first's."""
    return config.load(given.preset, method=method, seed=seed, model=model or given.model,
                       dataset=given.dataset, data_root=given.data_root, device=given.device,
                       train_size=given.train_size, epochs=given.epochs, threads=given.threads,
                       precision=precision, runs_dir=f"{given.runs_dir}/{precision}")


def network(method: str, seed: int, precision: str, given, model: str | None = None):
    """(network at the end of its training, settings); trained now, or by an earlier call."""
    own, half = settings(method, seed, precision, given, model), precision == "bfloat16"
    emulated = bfloat16(given.device) if half else nullcontext()  # it asks, so before the patch
    with patch.object(fast, "has_bfloat16", lambda device: half), emulated:
        run = train.train(own)
    classes = len(data.load(given.dataset, resolve(given.data_root), "test").classes)
    model = models.create(own.model, num_classes=classes)
    model = models.load_checkpoint(model, run.checkpoint("last"))
    return model.to(given.device).eval(), own


def attacked(networks, x, y, given):
    """("network, method", what both attacks reach) for each: PGD on the cross-entropy."""
    for name, method in itertools.product(networks, given.methods):
        model, own = network(method, given.seeds[0], "float32", given, name)
        exact = fast.freeze(model)
        step = {"eps": own.eps, "step_size": own.eps / 4, "steps": given.attack_steps}
        clean, flags, losses_, images = evaluate.correct(exact, x, y), {}, {}, {}
        for precision in fast.PRECISIONS:
            seen = path(model, x, y, precision=precision, **step)
            losses_[precision] = [mean(attacks.cross_entropy, exact, at, y) for at in seen]
            images[precision] = seen[-1]
            flags[precision] = clean & evaluate.correct(exact, seen[-1], y)
        one, other = (flags[precision] for precision in fast.PRECISIONS)
        yield f"{name}, {method}", {
            "clean": int(clean.sum()),
            "standing": {key: int(flag.sum()) for key, flag in flags.items()},
            "differing": int((one != other).sum()), "cross_entropy": losses_,
            "pixels": (images["float32"] != images["bfloat16"]).float().mean().item(),
            "flags": {key: pack_flags(flag) for key, flag in flags.items()}}


@evaluate.full_precision()
def path(model, x, y, *, precision: str, **given) -> list[torch.Tensor]:
    """The images at every step of PGD, from its start to its end; batches start from one seed."""
    frozen, found = fast.freeze(model, precision=precision), []
    generator = torch.Generator(x.device).manual_seed(0)
    with bfloat16(x.device.type) if precision == "bfloat16" else nullcontext():
        for bx, by in zip(x.split(BATCH), y.split(BATCH), strict=True):
            seen = []

            def watched(at, seen=seen):
                seen.append(at.detach())
                return frozen(at)

            seen.append(attacks.pgd(watched, bx, by, generator=generator, **given))
            found.append(seen)
    return [torch.cat(step) for step in zip(*found, strict=True)]


@torch.no_grad()
@evaluate.full_precision()
def mean(loss, model, x, y) -> float:
    """The mean of loss(logits, y) -> (N,) in float32."""
    return torch.cat([loss(model(bx), by) for bx, by in
                      zip(x.split(BATCH), y.split(BATCH), strict=True)]).mean().item()


def inner(x, y, given):
    """(steps, {first passes in float32: KL reached}) of TRADES' own attack on its own network."""
    model, own = network("trades", given.seeds[0], "float32", given)
    exact = fast.freeze(model)
    for steps in (3, 10):
        reached = {}
        for name, passes in {"all": None, "none": 0, "clean": 1, "first step": 2,
                             "two steps": 3}.items():
            precision = "float32" if passes is None else "bfloat16"
            frozen = fast.freeze(model, precision=precision, exact=passes or 0)
            generator, total = torch.Generator(x.device).manual_seed(0), 0.0
            step = config.load(given.preset, method="trades", steps=steps, eps=own.eps,
                               step_size=max(2.5 / steps, 1 / 4) * own.eps)
            half = bfloat16(x.device.type) if passes is not None else nullcontext()
            with evaluate.full_precision(), half:
                for bx, by in zip(x.split(BATCH), y.split(BATCH), strict=True):
                    frozen.passes = 0
                    x_adv = methods.pgd_on_kl(frozen, bx, by, step, generator)
                    with torch.no_grad():
                        total += losses.kl(exact(bx), exact(x_adv)).sum().item()
            reached[name] = total / len(y)
        yield str(steps), reached


def trained(x, y, given):
    """(seed, what both trainings reach): AT, judged in float32 by PGD from the same starts."""
    for seed in given.seeds:
        found, flags = {}, {}
        for precision in fast.PRECISIONS:
            model, own = network("at", seed, precision, given)
            exact, generator = fast.freeze(model), torch.Generator(x.device).manual_seed(0)
            clean = evaluate.correct(exact, x, y)
            flags[precision] = evaluate.robust(exact, x, y, lambda m, x, y: attacks.pgd(
                m, x, y, eps=own.eps, step_size=own.eps / 4, steps=given.attack_steps,  # noqa: B023
                generator=generator), batch_size=BATCH, clean=clean)  # noqa: B023
            found[precision] = {"clean": int(clean.sum()), "standing": int(flags[precision].sum())}
        yield str(seed), {**found, "flags": {key: pack_flags(flag) for key, flag in flags.items()}}


if __name__ == "__main__":
    sys.exit(main())
