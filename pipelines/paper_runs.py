"""Writes the estimates of docs/paper-runs.md: `python -m pipelines.paper_runs`.

The numbers are those of `rebuild --plan`: both come from `gpu_counts.yaml`, `gpu_rates.yaml` and
`default_durations.yaml`. A test compares the page with this module.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import yaml

from duvae import config
from duvae.config import Job, Params
from duvae.project.files import write_text
from duvae.registry import RECORDS
from pipelines.devices import Device
from pipelines.durations import DEFAULTS, counted_work, gpu_memory, gpu_times, step_time
from pipelines.gpu_times import Card, card, read
from pipelines.makespan import makespan
from pipelines.slots import Demand, demands, share
from pipelines.stage_graph import Stage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "paper-runs.md"
HEADING = "## Estimates for a GPU"
"""Heading of the section that this module writes."""

POSTERIORS = {"all other systems": "vae", "IAF+FB, IAF+BN, DU-IAF": "iaf_fb", "SA-VAE": "sa_vae"}
"""Names of systems with the same kind of posterior, and the system for which the NLL is counted."""

DATASETS = ("synthetic", "short_yelp", "yahoo", "yelp", "omniglot")
"""The data sets of the paper."""

MODEL, MEMORY, CORES = "NVIDIA H100 80GB HBM3", 81_559.0, 16
"""Name and memory in MiB of the GPU for which the hours are computed, and the cores of the machine per GPU."""

INTRODUCTION = """
**Nothing in this section was measured, and nothing has been run on a GPU.** `python -m pipelines.paper_runs` writes the
section from three files:

- `pipelines/gpu_counts.yaml` has the work of each system: kernels, operations of products, and bytes. `make counts`
  counts it on a simulated GPU, at the sizes of `params.yaml`. Run it again after a change of sizes or of training code.
- `pipelines/gpu_rates.yaml` has the speed of each card. Its peaks are NVIDIA's. The parts of the peaks that are
  reached, and the times of a kernel, are assumptions.
- `pipelines/default_durations.yaml` has the numbers of steps and examples.

For L kernels, F operations and M bytes, the GPU needs L · {kernel:g} µs + F / rate + M / bandwidth, and the processor
needs L · {launch:g} µs to start the kernels. Both work at the same time, so **the longer time counts**. An H100 is
assumed to compute {tf32:.0f} TFLOP/s in TF32 (training) and {ieee:.0f} TFLOP/s in float32 (evaluation), and to move
{bandwidth:.1f} TB/s. Two kernels for each word are assumed in an LSTM of cuDNN, both forwards and backwards.

The first table has the milliseconds of a training step, and the hours of a training with the greatest number of epochs,
each with the encoding of the validation examples. A training may end earlier, at the fifth decay of its learning rate.
A step of Agg-VAE includes its encoder steps, at the mean over a training. SA-VAE has at most 30 epochs on texts.
"""


def render(raw: Mapping[str, object]) -> str:
    """The section of the page.

    Args:
        raw: Content of params.yaml. The value of `run` does not matter.
    """
    kind = card(MODEL)
    introduction = INTRODUCTION.format(
        kernel=1e6 * kind.kernel,
        launch=1e6 * kind.launch,
        tf32=kind.rates["tf32"] / 1000,
        ieee=kind.rates["ieee"] / 1000,
        bandwidth=kind.bandwidth / 1000,
    )
    settings = raw["settings"]
    assert isinstance(settings, Mapping)
    block = {"datasets": list(DATASETS), "settings": list(settings), "seeds": [1]}
    every, paper = (config.parse({**raw, "run": run}) for run in (block, "paper"))
    parts = [introduction.strip(), steps(every, kind), likelihood(every, kind), runs(paper, kind)]

    return "\n\n".join([HEADING, *parts]) + "\n"


def firsts(params: Params) -> dict[tuple[str, str], Job]:
    """The job of the first setting of each system on each data set, by system and data set."""
    found: dict[tuple[str, str], Job] = {}
    for job in params.run_jobs():
        found.setdefault((params.setting(job.setting).system, job.dataset), job)

    return found


def steps(params: Params, kind: Card) -> str:
    """The table of training steps and trainings."""
    times, jobs = gpu_times(params, kind), firsts(params)

    def cell(system: str, dataset: str) -> str:
        job = jobs.get((system, dataset))
        work = None if job is None else counted_work(params, job)
        if job is None or work is None:
            return "–"
        step, training = step_time(params, job, work, kind), times[f"train@{job.name}"]

        return f"{short(1000 * step.seconds)} ms, {short(training.seconds / 3600)} h"

    rows = [[record.label, *(cell(system, name) for name in DATASETS)] for system, record in RECORDS.items()]

    return table(["system", *(f"`{name}`" for name in DATASETS)], rows)


def likelihood(params: Params, kind: Card) -> str:
    """The table of the NLL: milliseconds of an example, and hours of all test examples."""
    jobs, datasets = firsts(params), read(DEFAULTS)["datasets"]

    def cell(system: str, dataset: str) -> str:
        work = counted_work(params, jobs[system, dataset])
        assert work is not None
        seconds = work.nll(kind).seconds
        hours = datasets[dataset]["examples"] * seconds / 3600

        return f"{short(1000 * seconds)} ms, {short(hours)} h"

    rows = [[names, *(cell(system, name) for name in DATASETS)] for names, system in POSTERIORS.items()]

    return table(["NLL, 500 samples", *(f"`{name}`" for name in DATASETS)], rows)


def runs(params: Params, kind: Card) -> str:
    """The hours of `run: paper` on one GPU and on eight."""
    times, memory = gpu_times(params, kind), gpu_memory(params)
    stages: dict[str, Stage] = {}
    for job in params.jobs():
        train = f"train@{job.name}"
        stages[train] = Stage(train, (), (), False)
        stages |= {name: Stage(name, (train,), (), False) for name in (f"evaluate@{job.name}", f"samples@{job.name}")}
    tasks = demands(stages, {}, memory, times)
    counted = {f"train@{job.name}": work.memory[0] for job in params.jobs() if (work := counted_work(params, job))}
    largest = max(counted, key=lambda name: counted[name])
    seconds = {name: time.seconds for name, time in times.items()}
    longest = max(params.jobs(), key=lambda job: seconds[f"train@{job.name}"])
    rows = []
    for count in (1, 8):
        devices = [Device(f"GPU {n}", f"GPU-{n}", model=MODEL, memory=MEMORY) for n in range(count)]
        shared = share(devices, tasks, params.threads, cores=CORES * count)
        for slots in sorted({1, len(shared.devices) // count}):
            forced = share(devices, tasks, params.threads, slots)
            slower = {name: each * forced.slowdown for name, each in seconds.items()}
            shorter = [name for name in stages if not name.endswith(f"@{longest.name}")]
            hours = [makespan(stages, slower, len(forced.devices), names) / 3600 for names in (None, shorter)]
            rows.append([f"{count} H100", f"{slots}", *(f"{each:.0f}" for each in hours)])
    total = sum(seconds.values()) / 3600
    chain = seconds[f"train@{longest.name}"] / 3600
    sentences = (
        f"`run: paper` has {len(params.jobs())} trainings. Their {len(stages)} tasks take {total:.0f} hours, one after"
        f" the other. The longest training, `{longest.name}`, takes {chain:.0f} hours; no number of GPUs makes the run"
        f" shorter than that. The most memory is that of `{largest}`: {counted[largest] / 1024:.0f} GiB of tensors were"
        f" counted. A rebuild of everything chooses {chosen(tasks, params.threads)}. Probes, pages, and the measures of"
        " an evaluation besides the NLL are not counted. Hours from start to end:"
    )

    head = ["GPUs", "tasks per GPU", "hours", "hours without the longest training"]

    return f"{textwrap.fill(sentences, 120, break_on_hyphens=False)}\n\n{table(head, rows)}"


def chosen(tasks: list[Demand], threads: int) -> str:
    """The number of tasks on one GPU that a rebuild chooses, and the reason."""
    return share([Device("GPU 0", "0", model=MODEL, memory=MEMORY)], tasks, threads, cores=CORES).reason


def example(params: Params, dataset: str = "synthetic") -> str:
    """The line in which `--plan` gives the slots, for all trainings and evaluations of a data set on one GPU."""
    times, memory = gpu_times(params, card(MODEL)), gpu_memory(params)
    names = [f"{kind}@{job.name}" for job in params.jobs() if job.dataset == dataset for kind in ("train", "evaluate")]

    return f"slots: {chosen(demands(names, {}, memory, times), params.threads)}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]

    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def short(value: float) -> str:
    """A number with two digits, or with all digits before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def section(page: str, text: str) -> str:
    """Replaces the section with the heading `HEADING` of a page in Markdown by a text that begins with this heading."""
    before, _, after = page.partition(f"{HEADING}\n")
    _, mark, rest = after.partition("\n## ")

    return f"{before}{text}{mark}{rest}"


def main() -> None:
    """Writes the section into the page."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, section(page, render(raw)))


if __name__ == "__main__":
    main()
