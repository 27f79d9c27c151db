"""Compares the memory that a stage needs at least with the memory of this machine, before the stage takes any.

Each value of params.yaml has a bound of its own, but several large values together can need more than any machine has.
The sizes are computed from the parameters alone. They count only what a stage certainly holds at the same time, so that
no stage is refused that could run.
"""

import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from duvae.config import ImageNetworks, Params, SyntheticDataset, SyntheticSource, TextNetworks
from duvae.errors import UserError

SPECIALS = 4
"""Number of special words, which every vocabulary of a text has in addition to its words."""


def host_memory() -> int:
    """Memory of this machine in bytes, including the space to which it can move memory (swap).

    A smaller limit of a container or of the shell (`ulimit -v`) counts instead.
    """
    import resource

    swap = 0
    if (information := Path("/proc/meminfo")).exists():
        lines = dict(line.split(":", 1) for line in information.read_text(encoding="ascii").splitlines())
        swap = int(lines.get("SwapTotal", "0 kB").split()[0]) * 1024
    known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + swap]
    if (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) != resource.RLIM_INFINITY:
        known.append(limit)
    container = Path("/sys/fs/cgroup/memory.max")
    if container.exists() and (text := container.read_text(encoding="ascii").strip()).isdecimal():
        known.append(int(text) + swap)

    return min(known)


def training_memory() -> int:
    """Memory of the device that trainings use, in bytes: the GPU's, if there is one, or else the machine's."""
    import torch

    on_gpu = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0

    return max(host_memory(), on_gpu)


def synthetic_needs(source: SyntheticSource) -> dict[str, int]:
    """Sizes in bytes of what the generator of synthetic sentences holds at the same time, by description."""
    words, hidden, embedding = source.words, source.hidden, source.embedding
    most = max(source.train, source.valid, source.test, source.further or 0)
    weights = (words + SPECIALS) * embedding + 4 * hidden * (embedding + hidden) + words * (hidden + 2)

    return {
        f"the generator's weights (words {words:,}, hidden {hidden:,}, embedding {embedding:,})": 8 * weights,
        # The probabilities and their sums exist at the same time, and for all sentences of a draw at once.
        f"the probabilities of the next word ({most:,} sentences, words {words:,})": 2 * 8 * most * words,
        f"the words and their random numbers ({most:,} sentences, length {source.length:,})": 2
        * 8
        * most
        * source.length,
    }


def training_needs(params: Params, setting: str, dataset: str, words: int, examples: int) -> dict[str, int]:
    """Sizes in bytes of what a training holds at the same time, by description.

    Args:
        params: All parameters of params.yaml.
        setting: Name of the setting.
        dataset: Name of the data set.
        words: Size of the vocabulary, with the special words.
        examples: Number of training examples.
    """
    networks, optimisation = params.dataset(dataset).networks, params.optimisation(setting, dataset)
    batch = min(optimisation.batch, examples)
    # The weights and their gradients. Adam also keeps two moments of each gradient.
    copies = 4 if optimisation.optimiser == "adam" else 2
    if isinstance(networks, TextNetworks):
        # The networks read one word at a time at least. Sentences may be that short.
        named = f"words {words:,}, hidden {networks.hidden:,}, embedding {networks.embedding:,}"
        activations = f"the states of the networks (batch {batch:,}, hidden {networks.hidden:,})"
        states = batch * networks.hidden
    else:
        named = f"size {networks.size:,}, width {networks.width:,}, {len(networks.kernels)} kernels"
        activations = (
            f"the outputs of the decoder's layers (batch {batch:,}, size {networks.size:,}, width {networks.width:,})"
        )
        states = batch * networks.size**2 * networks.width * len(networks.kernels)

    return {
        f"the weights and their gradients ({named}, latent {networks.latent:,})": 4 * copies * weights(networks, words),
        activations: 4 * states,
    }


def weights(networks: TextNetworks | ImageNetworks, words: int) -> int:
    """Number of weights that the encoder and the decoder have at least. Biases and small layers are left out."""
    latent = networks.latent
    if isinstance(networks, TextNetworks):
        hidden, embedding = networks.hidden, networks.embedding
        encoder = words * embedding + 4 * hidden * (embedding + hidden)
        return encoder + words * embedding + 4 * hidden * (embedding + latent + hidden) + words * hidden
    width, channels = networks.width, networks.channels
    encoder = sum(9 * each * (before + each) for before, each in pairwise([1, *channels]))
    blocks = [*networks.kernels[1:], *networks.kernels[1:-1]]
    decoder = sum(width * width + (width // 2) ** 2 * ((kernel**2 + 1) // 2) for kernel in blocks)

    return encoder + decoder + latent * networks.feature_maps * networks.size**2


def require(needs: Mapping[str, int], memory: int, where: str, work: str) -> None:
    """Checks that sizes together fit into the memory.

    Args:
        needs: Sizes in bytes, by description.
        memory: Memory of the machine or of its GPU in bytes.
        where: Key of params.yaml that has the values.
        work: What needs the memory, for the message.

    Raises:
        UserError: If they do not fit; the message names the values and the sizes.
    """
    total = sum(needs.values())
    if total > memory:
        parts = "; ".join(f"{gigabytes(size)} for {name}" for name, size in needs.items())
        raise UserError(
            f"params.yaml: {where}: expected values with which {work} fits into {gigabytes(memory)}, the memory of this"
            f" machine; found values that need at least {gigabytes(total)}: {parts}. Lower them, or use a machine with"
            " more memory."
        )


def gigabytes(size: int) -> str:
    """A number of bytes as text, such as `1.5 GiB`."""
    return f"{size / 2**30:,.1f} GiB"


def require_for_prepare(params: Params, dataset: str) -> None:
    """Checks that synthetic sentences can be drawn in the memory of this machine.

    Raises:
        UserError: If they cannot.
    """
    chosen = params.dataset(dataset)
    if isinstance(chosen, SyntheticDataset):
        require(synthetic_needs(chosen.source), host_memory(), f"datasets.{dataset}.source", "the drawing of sentences")


def require_for_training(params: Params, setting: str, dataset: str, root: Path = Path()) -> None:
    """Checks that a training can run in the memory of this machine. Does nothing if the data set is not prepared.

    Raises:
        UserError: If it cannot.
    """
    folder = root / "data/prepared" / dataset
    try:
        words = (folder / "vocabulary.txt").read_bytes().count(b"\n")
        examples = json.loads((folder / "summary.json").read_bytes())["splits"]["train"]["documents"]
    except (OSError, ValueError, KeyError, TypeError):  # the training names what is wrong with these files
        return
    needs = training_needs(params, setting, dataset, words, examples)
    require(needs, training_memory(), f"datasets.{dataset}", f"a training of {setting}")
