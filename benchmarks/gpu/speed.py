"""Part 7: speed and memory of training, evaluation and sampling at the paper's sizes.

Two things can limit a computation on a GPU: the rate of its products, or the time to launch its kernels. So a rate is
compared with the rate of a large product in the same precision, and a time with the number of launches times the cost
of one launch. Both costs are measured on the same card (see `benchmarks.gpu.rates`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from benchmarks.gpu import models, rates
from benchmarks.gpu.check import Check
from benchmarks.gpu.clock import operations, started
from benchmarks.gpu.models import Size
from benchmarks.gpu.rates import Precision
from benchmarks.gpu.rows import Row, guarded
from duvae import devices
from duvae.data.batches import batches
from duvae.inference import generation
from duvae.metrics.encoding import BATCH, encode
from duvae.metrics.likelihood import importance_weighted_nll
from duvae.training.loop import Training

SHARE, LAUNCHES = 0.5, 1.3
"""Bounds: least share of the rate of a large product; greatest time of a step over launches times the cost of one."""

IDLE = 0.5
"""A step is limited by its launches if the GPU is busy for less than this share of its time."""

SAMPLES = 500
"""Number K of importance samples of the likelihood, as in the paper."""

EXAMPLES = {"yahoo": 8, "short_yelp": 64, "omniglot": 8}
"""Number of examples whose likelihood is measured."""

SENTENCES, IMAGES, LONGEST = 100, 64, 100
"""Numbers of generated sentences and images, and largest number of ids of a generated sentence."""


class Step(NamedTuple):
    """A training step to measure.

    Attributes:
        dataset: Name of the data set.
        system: Name of the system.
        precision: Precision of products.
        bounded: Whether the share of the rate has a bound.
    """

    dataset: str
    system: str
    precision: Precision
    bounded: bool = False


@dataclass
class Costs:
    """The rates and the costs of the card.

    Attributes:
        rate: Operations per second of a large product, by precision.
        launch: Seconds of a launch without a gradient.
        in_training: Seconds of a launch in a forward and a backward pass.
    """

    rate: dict[Precision, float]
    launch: float
    in_training: float


def run(check: Check) -> Iterator[Row]:
    """Yields the rows of training steps, of evaluation, and of sampling."""
    check.prepare()
    precisions: tuple[Precision, ...] = ("ieee", "tf32", "bfloat16")
    costs = Costs(
        {precision: rates.product_rate(check, precision) for precision in precisions},
        rates.launch_cost(check),
        rates.launch_cost_in_training(check),
    )
    for each in chosen(check):
        yield from guarded(f"{each.dataset}: step in {each.precision}", each.system, partial(step, check, costs, each))
    for dataset in EXAMPLES:
        yield from guarded(f"{dataset}: evaluation", "", partial(evaluation, check, costs, dataset))


def chosen(check: Check) -> Iterator[Step]:
    """Yields the training steps to measure. The precision of training in params.yaml is the one with a bound."""
    training = check.params.precision.training
    for precision in ("ieee", "tf32", "bfloat16"):
        yield Step("yahoo", "vae", precision, precision == training)
    for dataset in EXAMPLES:
        for system in ("vae", "du_vae", "du_iaf", "sa_vae"):
            if system in check.systems and (dataset, system) != ("yahoo", "vae"):
                yield Step(dataset, system, training)
    yield Step("omniglot", "vae", "bfloat16")


def step(check: Check, costs: Costs, each: Step) -> Iterator[Row]:
    """Measures a training step: its time, its memory, its rate and its launches."""
    size = check.size(each.dataset)
    call = step_call(check, each, size)
    name = f"{each.dataset}: step in {each.precision}"
    devices.set_products(check.device, "tf32" if each.precision == "tf32" else "ieee")
    try:
        seconds = check.clock.seconds(call)
        memory = check.clock.peak(call)
        work = check.clock.work(call)
        if size.kind == "text":
            count = size.text.step_operations() if each.system != "sa_vae" else None
        else:
            count = operations(call)
        alone = None
        if each.bounded:
            alone = check.clock.seconds(rates.products_of_step(check, size.text, each.precision), 0.3)
    finally:
        devices.set_products(check.device, "ieee")
    yield check.on_gpu(Row(name, 1e3 * seconds, "ms", remark=f"{size.batch} examples"))
    missing = "" if check.real else "a CPU has no memory of its own for tensors"
    yield Row(f"{name}, memory", memory, "MiB", missing=missing)
    if count is not None:
        yield share(check, name, count / seconds, costs.rate[each.precision], SHARE if each.bounded else None)
    if alone is not None:
        remark = f"with their own shapes; {alone / seconds:.2f} of the time of the step"
        yield check.on_gpu(Row(f"{name}, its products alone", 1e3 * alone, "ms", remark=remark))
    if work is None:
        yield Row(f"{name}, launches", None, missing="the profiler records no kernels here")
        return
    yield check.on_gpu(Row(f"{name}, launches", work.launches, "launches"))
    busy = None if work.busy is None else work.busy / seconds
    if busy is not None:
        yield check.on_gpu(Row(f"{name}, busy", busy, "share of the time"))
    ratio = seconds / (work.launches * costs.in_training)
    limited = busy is None or busy < IDLE
    yield check.on_gpu(
        Row(
            f"{name}, over launches times the cost of one",
            ratio,
            "x",
            LAUNCHES if limited else None,
            remark=f"{1e6 * costs.in_training:.3g} microseconds each" if limited else "not limited by launches",
        )
    )


def step_call(check: Check, each: Step, size: Size) -> Callable[[], Any]:
    """Returns a function that takes the next batch and does one training step with KL weight 1."""
    model = models.build(models.description(check.params, each.system, size, fewer=not check.real))
    training = models.training(
        check.params,
        model,
        each.system,
        size,
        check.device,
        count=4 * size.batch,
        epochs=1,
        fewer=not check.real,
        bfloat16=each.precision == "bfloat16",
    )
    training.order = batches(training.lengths, size.batch, (1, 1))
    training.model.train()

    return partial(one_step, training)


def one_step(training: Training) -> None:
    """Does one training step with a random batch."""
    training.loop.step(training.updates, training.draw(), 1.0)


def share(check: Check, name: str, rate: float, product: float, bound: float | None) -> Row:
    """Builds the row on the share of a rate in the rate of a large product."""
    remark = f"{1e-12 * rate:.3g} of {1e-12 * product:.3g} TFLOP/s"

    return check.on_gpu(Row(f"{name}, share of the product's rate", rate / product, "x", bound, ">=", remark=remark))


def evaluation(check: Check, costs: Costs, dataset: str) -> Iterator[Row]:
    """Measures the likelihood, the encoding and the sampling of a VAE, in the precision of evaluation."""
    size, device, clock = check.size(dataset), check.device, check.clock
    precision = check.params.precision.evaluation
    model = models.build(models.description(check.params, "vae", size)).to(device)
    count, samples = (EXAMPLES[dataset], SAMPLES) if check.real else (2, 5)
    split = models.bits(models.examples(size, count, seed=3))
    devices.set_products(device, precision)
    try:
        nll = partial(importance_weighted_nll, model, split, samples, device, 1)
        seconds, memory = clock.seconds(nll, 1.5), clock.peak(nll)
        needed = count * samples * size.text.sample_operations() if size.kind == "text" else operations(nll)
        many = models.bits(models.examples(size, BATCH if check.real else 8, seed=4))
        encoding = clock.seconds(partial(encode, model, many, device, 1))
        number = (SENTENCES if size.kind == "text" else IMAGES) if check.real else 2
        longest = LONGEST if check.real else 8
        sampling = partial(generation.prior, model, number, size.networks.latent, 1, longest=longest)
        sampled, count_of = clock.seconds(sampling, 1.0), started(sampling)
    finally:
        devices.set_products(device, "ieee")
    name = f"{dataset}: NLL in {precision}"
    yield check.on_gpu(Row(name, 1e3 * seconds / count, "ms per example", remark=f"K = {samples}"))
    yield Row(f"{name}, memory", memory, "MiB", missing="" if check.real else "a CPU has no memory of its own")
    yield share(check, name, needed / seconds, costs.rate[precision], SHARE if dataset == "yahoo" else None)
    yield check.on_gpu(Row(f"{dataset}: encoding", 1e3 * encoding / len(many), "ms per example", remark=f"{len(many)}"))
    what = f"{number} sentences of at most {longest} ids" if size.kind == "text" else f"{number} images"
    yield check.on_gpu(Row(f"{dataset}: sampling", sampled, "s", remark=what))
    ratio = sampled / (count_of * costs.launch)
    name = f"{dataset}: sampling, over operations times the cost of one"
    yield check.on_gpu(
        Row(name, ratio, "x", remark=f"{count_of:,} operations of {1e6 * costs.launch:.3g} microseconds")
    )
