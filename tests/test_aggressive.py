"""Algorithm 1 of He et al. 2018: when the inner loop ends, who steps on which parameters, and when the loop stops."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from duvae.data.batches import batches
from duvae.metrics.encoding import encode
from duvae.metrics.geometry import mutual_information
from duvae.objectives import Loss
from duvae.regularizers import MeanBatchNorm
from duvae.training.aggressive import AggressiveLoop
from duvae.training.steps import Updates
from duvae.vae import VAE
from family import CPU, NAMES, batch, build, lively, state, training, updates


def around(optimiser: Optimizer, before: Callable[[], None], after: Callable[[], None] = lambda: None) -> None:
    """Calls `before` and `after` around each step of the optimiser. The project's own SGD has no hooks of PyTorch."""
    plain = optimiser.step

    def step() -> None:
        before()
        plain()
        after()

    optimiser.step = step  # type: ignore[assignment, method-assign]


class Scripted(Updates):
    """Returns losses from a list, and logs every call in order."""

    log: list[str]
    losses: list[float]

    @classmethod
    def of(cls, model: VAE, losses: list[float], lengths: list[int] | None = None) -> "Scripted":
        """Creates the object.

        Args:
            model: The model to step on.
            losses: Losses per word of the sentences.
            lengths: Lengths of the drawn sentences. None: all have the same length.
        """
        plain = updates(model)
        waiting = iter(lengths or [])
        scripted = cls(model, plain.encoder, plain.decoder, 5.0, lambda: batch(6, next(waiting, 6)))
        scripted.log, scripted.losses = [], list(losses)
        for optimiser, part in ((scripted.encoder, "encoder"), (scripted.decoder, "decoder")):
            around(optimiser, lambda part=part: scripted.log.append(part))  # type: ignore[misc]

        return scripted

    def gradients(self, x: Tensor, weight: float) -> Loss:
        self.log.append(f"gradients of {tuple(x.shape)}")
        per_word = self.losses.pop(0) if self.losses else 0.0
        loss = torch.full((len(x),), per_word * (x.shape[1] - 1))

        return Loss(loss, loss, torch.zeros(len(x)))


def inner(losses: list[float], window: int = 3, most: int = 20, lengths: list[int] | None = None) -> int:
    """Number of encoder steps that one outer step takes with these losses."""
    model, _ = build("agg_vae")
    loop = AggressiveLoop(window, most, patience=1)
    scripted = Scripted.of(model, losses, lengths)
    loop.step(scripted, batch(), 1.0)

    assert scripted.log.count("decoder") == 1
    assert scripted.log[-2:] == ["gradients of (6, 6)", "decoder"]
    assert scripted.log.count("encoder") == loop.encoder_steps
    assert scripted.log[:-2] == ["gradients of (6, 6)", "encoder"] * loop.encoder_steps or lengths

    return loop.encoder_steps


def test_the_inner_loop_goes_on_while_the_mean_loss_falls() -> None:
    """The first mean is compared with infinity, so there are always at least two windows."""
    assert inner([5.0] * 3 + [6.0] * 3) == 6
    assert inner([5.0] * 3 + [4.0] * 3 + [4.5] * 3) == 9
    assert inner([5.0] * 3 + [4.0] * 3 + [3.0] * 3 + [2.0, 2.0, 9.0]) == 12
    assert inner([9.0, 0.0, 0.0, 4.0, 4.0, 0.0, 3.0, 3.0, 3.0], most=9) == 9
    assert inner([5.0] * 100) == 20  # an equal mean already ends the loop
    assert inner([-float(n) for n in range(100)]) == 20


def test_the_inner_loop_ends_at_its_most_steps() -> None:
    assert inner([-float(n) for n in range(200)], window=15, most=99) == 99
    assert inner([1.0] * 15 + [2.0] * 15, window=15, most=99) == 30
    assert inner([-float(n) for n in range(100)], window=3, most=2) == 2


def test_the_loss_is_compared_per_word() -> None:
    """The losses per sentence would rise, because the drawn sentences get longer."""
    lengths = [6] * 2 + [12] * 3 + [24] * 3
    assert inner([5.0] * 3 + [4.0] * 3 + [3.0] * 3 + [3.5] * 3, lengths=lengths) == 12


def test_the_encoder_steps_on_the_batch_then_on_drawn_ones_and_the_decoder_on_the_batch() -> None:
    model, _ = build("agg_vae")
    scripted = Scripted.of(model, [5.0] * 2 + [6.0] * 2, [4, 5, 7])
    AggressiveLoop(2, 20, 1).step(scripted, batch(), 1.0)
    expected = [step for length in (6, 4, 5, 7) for step in (f"gradients of (6, {length})", "encoder")]

    assert scripted.log == [*expected, "gradients of (6, 6)", "decoder"]


@pytest.mark.parametrize("name", ["agg_vae", "du_vae"])
def test_inner_steps_move_the_encoder_alone_and_the_last_the_decoder_alone(name: str) -> None:
    """Includes an encoder whose scale is normalized again after each step."""
    model = lively(build(name)[0])
    loop_updates = updates(model)
    seen: list[tuple[str, dict[str, Tensor], dict[str, Tensor]]] = []
    for optimiser, part in ((loop_updates.encoder, "encoder"), (loop_updates.decoder, "decoder")):
        earlier: list[dict[str, Tensor]] = []

        def before(earlier: list[dict[str, Tensor]] = earlier) -> None:
            earlier.append(state(model))

        def after(earlier: list[dict[str, Tensor]] = earlier, part: str = part) -> None:
            seen.append((part, earlier[-1], state(model)))

        around(optimiser, before, after)
    loop = AggressiveLoop(2, 6, 1)
    loss = loop.step(loop_updates, batch(), 1.0)

    assert [part for part, _, _ in seen] == ["encoder"] * loop.encoder_steps + ["decoder"]
    assert 4 <= loop.encoder_steps <= 6
    for part, before, after in seen:
        moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
        assert moved == ({"decoder"} if part == "decoder" else {"encoder", "head"})
    norm = next((part for part in model.modules() if isinstance(part, MeanBatchNorm)), None)
    if norm is not None:
        assert float(norm.scale.detach().square().mean()) == pytest.approx(norm.gamma**2, rel=1e-6)
    assert loss.total.shape == (6,)


@pytest.mark.parametrize(
    ("patience", "information", "aggressive"),
    [
        (1, [0.5, 0.6, 0.59, 0.9], [True, True, False, False]),
        (1, [0.0, 0.5, 0.5], [True, True, True]),  # an equal value is no fall
        (1, [-0.1], [False]),
        (2, [0.5, 0.4, 0.6, 0.5, 0.6, 0.7], [True, True, True, False, False, False]),  # a new best resets no count
        (3, [0.5, 0.4, 0.4, 0.4], [True, True, True, False]),
        (3, [0.5, 0.4, 0.45, 0.5, 0.6, 0.55, 0.9], [True, True, True, True, True, False, False]),
    ],
)
def test_it_is_aggressive_until_mutual_information_has_stopped_rising(
    patience: int, information: list[float], aggressive: list[bool]
) -> None:
    loop = AggressiveLoop(2, 6, patience)
    modes = []
    for value in information:
        loop.epoch_ended(value)
        modes.append(loop.aggressive)

    assert modes == aggressive


def test_five_epochs_in_total_below_the_best_end_the_phase_on_images() -> None:
    """Each second epoch is a new best, so five epochs in a row without one never come."""
    loop = AggressiveLoop(10, 99, 5)
    for epoch in range(9):
        assert loop.aggressive
        loop.epoch_ended(1.0 + epoch / 10 if epoch % 2 == 0 else 0.5)
    assert loop.aggressive
    loop.epoch_ended(0.5)
    assert not loop.aggressive
    assert not loop.reads_information


def test_the_phase_ends_by_the_information_within_batches() -> None:
    """The loop gets the mean over batches of the information within a batch; the history has that of the whole set."""
    run = training("agg_vae", epochs=1)
    given: list[float | None] = []
    run.loop.epoch_ended = given.append  # type: ignore[method-assign]
    (row,) = run.run().history
    encoded = encode(run.model, run.valid, CPU, run.seed)
    assert encoded.variance is not None
    cut = batches(run.valid.lengths, 8, (run.seed, 0))
    parts = [mutual_information(encoded.mean[n], encoded.variance[n], encoded.z[n]) for n in cut]

    assert given == [pytest.approx(sum(len(n) * part for n, part in zip(cut, parts, strict=True)) / len(run.valid))]
    assert row["valid_mi"] == mutual_information(encoded.mean, encoded.variance, encoded.z)
    assert given[0] != row["valid_mi"]


def test_other_loops_get_no_information() -> None:
    run = training("vae", epochs=1)
    given: list[float | None] = []
    run.loop.epoch_ended = given.append  # type: ignore[method-assign]
    run.run()

    assert given == [None]


def test_without_a_mutual_information_it_stays_as_it_is() -> None:
    loop = AggressiveLoop(2, 6, 1)
    loop.epoch_ended(None)

    assert loop.aggressive


def test_afterwards_encoder_and_decoder_step_together() -> None:
    loop, model = AggressiveLoop(2, 6, 1), build("agg_vae")[0]
    loop.epoch_ended(-0.1)
    scripted = Scripted.of(model, [1.0])
    loop.step(scripted, batch(), 1.0)

    assert scripted.log == ["gradients of (6, 6)", "encoder", "decoder"]
    assert loop.encoder_steps == 0


def test_what_a_loop_remembers_comes_back() -> None:
    for name in NAMES:
        system = build(name)[1]
        loop, fresh = system.loop(), system.loop()
        loop.step(updates(lively(build(name)[0])), batch(), 1.0)
        loop.epoch_ended(0.3)
        loop.epoch_ended(0.2)
        saved = json.loads(json.dumps(loop.state()))
        fresh.restore(saved)

        assert fresh.state() == loop.state()
        if isinstance(loop, AggressiveLoop):
            assert not fresh.aggressive
            assert vars(fresh) == vars(loop)


def test_the_history_counts_the_encoders_steps() -> None:
    run = training("agg_vae", epochs=3)
    information = iter([0.5, 0.4, 0.9])
    ended = run.loop.epoch_ended
    run.loop.epoch_ended = lambda _: ended(next(information))  # type: ignore[method-assign]
    counted = [row["encoder_steps"] for row in run.run().history]
    steps = run.steps_per_epoch

    assert all(4 * steps <= count <= 6 * steps for count in counted[:2])
    assert counted[2] == 0
    assert run.loop.encoder_steps == sum(counted)
