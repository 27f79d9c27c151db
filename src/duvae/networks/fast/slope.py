r"""Computes the gradient of the text decoder's log p(x|z) with respect to z, and the gradient of this gradient.

Stochastic variational inference (see `duvae.refinement.SVI`) takes steps along
$g(z, \theta) = \nabla_z \log p_\theta(x|z)$, where $\theta$ are the parameters of the decoder. Training differentiates
these steps. Computing g takes a forward pass and a backward pass.

Let v be a vector, and $v \cdot g$ its product with g. Second derivatives are symmetric. So the gradient of $v \cdot g$
with respect to z and $\theta$ is the derivative of $\nabla_{z,\theta} \log p_\theta(x|z)$ when z moves along v. To
compute this derivative, the module differentiates every value of the forward pass and of the backward pass along v
(Pearlmutter 1994). The result is exact, and takes little more time than a finite difference of two gradients. The
method does not need the second derivative of PyTorch's LSTM, which PyTorch lacks on a GPU.

In the names of variables, the suffix `_v` marks the directional derivative of a value along v. The prefix `d_` marks
the derivative of log p with respect to a value. The tensors of the LSTM have the feature dimensions before the batch
dimension, so that the values of each gate form one block of memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from duvae.networks.fast.elementwise import tanh_
from duvae.networks.fast.tokens import expectation, expectation_along


class LSTMSlope(torch.autograd.Function):
    r"""Computes $\nabla_z \sum_t \log p(x_t | x_{<t}, z)$ of `LSTMDecoder`, and the gradient of this gradient.

    $\partial a$ is the derivative of log p with respect to a. i, f, g and o are the four gates. The prime marks the
    derivative of a gate with respect to its input, such as $i' = i (1 - i)$. k is the dropout mask of the outputs, and
    $p_t$ are the softmax probabilities of the words. Then

    $$c_t = f_t c_{t-1} + i_t g_t, \quad h_t = o_t \tanh c_t,$$
    $$\partial h_t = k_t (W_{x_t} - p_t W) + R^T \partial G_{t+1}, \quad
      \partial c_t = K_t \partial h_t + f_{t+1} \partial c_{t+1}, \quad
      \partial G_t = A_t (\partial c_t, \partial c_t, \partial c_t, \partial h_t),$$

    where $G_t$ are the inputs of the four gates, $A_t = (g i', c_{t-1} f', i g', o' \tanh c_t)$, and
    $K_t = o_t (1 - \tanh^2 c_t)$. W are the weights of the map to the vocabulary, and R the recurrent weights.

    Args:
        z: Latent codes, shape (batch, latent).
        words: Embeddings of the input words, after dropout, shape (length, batch, embedding).
        kept: Dropout factors of the LSTM outputs, shape (length, batch, hidden); None if all factors are 1.
        targets: Ids of the target words, shape (batch, length).
        initial: Weights of the map from z to the first cell state, shape (hidden, latent).
        weight: Input weights of the LSTM, shape (gates, inputs).
        recurrent: Recurrent weights R of the LSTM, shape (gates, hidden).
        bias: Sum of both biases of the LSTM, shape (gates,).
        vocabulary: Weights W of the map to the vocabulary, shape (words, hidden).
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Float[Tensor, "batch latent"],
        words: Float[Tensor, "length batch embedding"],
        kept: Float[Tensor, "length batch hidden"] | None,
        targets: Int[Tensor, "batch length"],
        initial: Float[Tensor, "hidden latent"],
        weight: Float[Tensor, "gates inputs"],
        recurrent: Float[Tensor, "gates hidden"],
        bias: Float[Tensor, "gates"],
        vocabulary: Float[Tensor, "words hidden"],
    ) -> Float[Tensor, "batch latent"]:
        length, batch, width = words.shape
        hidden = recurrent.shape[1]
        # The weights of gate g are doubled. As tanh x = 2 sigmoid(2x) - 1, one call of sigmoid then computes all gates.
        doubled = torch.cat([weight, recurrent, bias[:, None]], 1)
        doubled.view(4, hidden, -1)[2] *= 2
        by_word, by_z, by_hidden, constant = doubled.split([width, len(initial.T), hidden, 1], 1)
        inputs = torch.addmm(constant, by_z, z.T).expand(length, -1, -1)
        flat = torch.baddbmm(inputs, by_word.expand(length, -1, -1), words.transpose(1, 2))
        gates = flat.view(length, 4, hidden, batch)
        by_hidden = by_hidden.contiguous()
        cells = recurrent.new_empty(length + 1, hidden, batch)
        hiddens = torch.empty_like(cells)
        torch.mm(initial, z.T, out=cells[0])
        torch.tanh(cells[0], out=hiddens[0])
        h, c = hiddens[0], cells[0]
        parts = (part.unbind() for part in (flat, *gates.unbind(1), cells[1:], hiddens[1:]))
        for gate, i, f, s, o, cell, new in zip(*parts, strict=True):
            gate.addmm_(by_hidden, h).sigmoid_()
            c = torch.mul(f, c, out=cell).addcmul_(i, s, value=2).sub_(i)
            h = torch.tanh(c, out=new).mul_(o)

        rows = masked(hiddens[1:], kept)
        expected, *softmax = expectation(rows, vocabulary)
        d_hidden = unmasked(vocabulary[targets.T.flatten()] - expected, kept, hiddens[1:])
        d_cell, d_gates = torch.zeros_like(d_hidden), torch.zeros_like(gates)
        _, along, to_cell, _ = factors(gates, cells)
        d_first, d_first_cell = backwards(recurrent, gates[:, 1], to_cell, along, d_hidden, d_cell, d_gates)
        d_start = d_first_cell + d_first - d_first * hiddens[0].square()
        ctx.save_for_backward(
            z, words, kept, targets, initial, weight, recurrent, vocabulary,
            gates, cells, hiddens, expected, *softmax, d_hidden, d_cell, d_first, d_start,
        )  # fmt: skip

        return (weight[:, width:].T @ d_gates.sum(0).flatten(0, 1) + initial.T @ d_start).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Float[Tensor, "batch latent"]) -> tuple[Tensor | None, ...]:
        (
            z, words, kept, targets, initial, weight, recurrent, vocabulary,
            gates, cells, hiddens, expected, powers, total, d_hidden, d_cell, d_first, d_start,
        ) = ctx.saved_tensors  # fmt: skip
        width, hidden = words.shape[2], recurrent.shape[1]
        i, f, s, o = gates.unbind(1)
        slopes, along, to_cell, tanhs = factors(gates, cells)
        # First, differentiate the forward pass of the LSTM along v.
        by_z = weight[:, width:] @ v.T
        gates_v, cells_v, hiddens_v = torch.empty_like(gates), torch.empty_like(cells), torch.empty_like(cells)
        product = torch.empty_like(gates[0])
        of_i, of_f, of_g, of_o = product
        torch.mm(initial, v.T, out=cells_v[0])
        first = 1 - hiddens[0].square()
        torch.mul(first, cells_v[0], out=hiddens_v[0])
        h, c = hiddens_v[0], cells_v[0]
        parts = (a.unbind() for a in (gates_v.flatten(1, 2), gates_v, along, f, to_cell, cells_v[1:], hiddens_v[1:]))
        for flat, gate, a, forget, k, cell, new in zip(*parts, strict=True):
            torch.addmm(by_z, recurrent, h, out=flat)
            torch.mul(a, gate, out=product)
            c = torch.mul(forget, c, out=cell).add_(of_i).add_(of_f).add_(of_g)
            h = torch.addcmul(of_o, k, c, out=new)

        # Second, differentiate the softmax along v.
        rows, rows_v = masked(hiddens[1:], kept), masked(hiddens_v[1:], kept)
        expected_v, d_vocabulary = expectation_along(rows, rows_v, vocabulary, expected, powers, total)
        d_vocabulary.index_add_(0, targets.T.flatten(), rows_v)
        # Third, differentiate the backward pass of the LSTM along v.
        d_hidden_v = unmasked(expected_v.neg_(), kept, hiddens[1:])
        sigmoids_v = slopes * gates_v
        sigmoids_v[:, 2] *= 2
        i_v, f_v, s_v, o_v = sigmoids_v.unbind(1)
        flat_tanh = 1 - tanhs.square()
        tanhs_v = flat_tanh * cells_v[1:]
        to_cell_v = o_v * flat_tanh - 2 * o * tanhs * tanhs_v
        slopes_v = sigmoids_v.addcmul(gates, sigmoids_v, value=-2)
        d_gates_v = torch.empty_like(gates)
        beside = ((2 * s - 1, 2 * s_v), (cells[:-1], cells_v[:-1]), (4 * i, 4 * i_v), (tanhs, tanhs_v))
        for n, (value, change) in enumerate(beside):
            torch.mul(slopes_v[:, n], value, out=d_gates_v[:, n]).addcmul_(slopes[:, n], change)
            d_gates_v[:, n] *= d_hidden if n == 3 else d_cell
        d_cell_v = d_hidden * to_cell_v
        d_cell_v[:-1].addcmul_(d_cell[1:], f_v[1:])
        d_first_v, d_first_cell_v = backwards(recurrent, f, to_cell, along, d_hidden_v, d_cell_v, d_gates_v)
        d_start_v = d_first_cell_v + d_cell[0] * f_v[0] + d_first_v * first - 2 * d_first * hiddens[0] * hiddens_v[0]

        # Last, sum over time and batch, which gives the gradients with respect to the weights.
        d_gates = along  # from here on `along` is not needed: its memory becomes `d_gates`
        d_gates[:, :3] *= d_cell[:, None]
        d_gates[:, 3] *= d_hidden
        flat_v = d_gates_v.flatten(1, 2)
        summed, summed_v = d_gates.sum(0).flatten(0, 1), flat_v.sum(0)
        wide, wide_v = (gate.transpose(0, 1).flatten(1) for gate in (d_gates.flatten(1, 2), flat_v))
        before, before_v = (part[:-1].transpose(1, 2).reshape(-1, hidden) for part in (hiddens, hiddens_v))
        d_weight = torch.cat([wide_v @ words.flatten(0, 1), summed_v @ z + summed @ v], 1)

        return (
            (weight[:, width:].T @ summed_v + initial.T @ d_start_v).T,
            torch.matmul(weight[:, :width].T, flat_v).transpose(1, 2),
            None,
            None,
            d_start_v @ z + d_start @ v,
            d_weight,
            (wide_v @ before).addmm_(wide, before_v),
            summed_v.sum(1),
            d_vocabulary,
        )


def masked(
    states: Float[Tensor, "length hidden batch"], kept: Float[Tensor, "length batch hidden"] | None
) -> Float[Tensor, "rows hidden"]:
    """Applies dropout to the LSTM outputs, and returns one row for each word of each sentence.

    Args:
        states: Hidden states of the LSTM, shape (length, hidden, batch).
        kept: Dropout factors, shape (length, batch, hidden); None if all factors are 1.
    """
    rows = states.transpose(1, 2)

    return (rows if kept is None else rows * kept).reshape(-1, states.shape[1])


def unmasked(
    rows: Float[Tensor, "rows hidden"],
    kept: Float[Tensor, "length batch hidden"] | None,
    like: Float[Tensor, "length hidden batch"],
) -> Float[Tensor, "length hidden batch"]:
    """Applies the transpose of the linear map `masked`. The result has the shape of the argument `states` of `masked`.

    Args:
        rows: One row for each word of each sentence, shape (rows, hidden).
        kept: Dropout factors, shape (length, batch, hidden); None if all factors are 1.
        like: A tensor that has the shape of the result, (length, hidden, batch).
    """
    states = rows.view(len(like), -1, like.shape[1])

    return (states if kept is None else states * kept).transpose(1, 2).contiguous()


def factors(
    gates: Float[Tensor, "length 4 hidden batch"], cells: Float[Tensor, "steps hidden batch"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Computes four tensors that the formulas of `LSTMSlope` need.

    Args:
        gates: Gates of all steps after their sigmoid, shape (length, 4, hidden, batch). The third gate g is stored as
            sigmoid(2 x) instead of tanh x, where x is the input of this gate.
        cells: Cell states, starting with the first one $c_0$, shape (length + 1, hidden, batch).

    Returns:
        The derivatives $\sigma (1 - \sigma)$ of the four sigmoids, the factors A, the factors K, and $\tanh c_t$.
    """
    i, _, s, o = gates.unbind(1)
    tanhs = tanh_(cells[1:].clone())
    slopes = torch.addcmul(gates, gates, gates, value=-1)
    along = torch.empty_like(gates)
    for n, value in enumerate((2 * s - 1, cells[:-1], 4 * i, tanhs)):
        torch.mul(slopes[:, n], value, out=along[:, n])

    return slopes, along, o - o * tanhs.square(), tanhs


def backwards(
    recurrent: Tensor,
    f: Float[Tensor, "length hidden batch"],
    to_cell: Float[Tensor, "length hidden batch"],
    along: Float[Tensor, "length 4 hidden batch"],
    d_hidden: Float[Tensor, "length hidden batch"],
    d_cell: Float[Tensor, "length hidden batch"],
    d_gates: Float[Tensor, "length 4 hidden batch"],
) -> tuple[Tensor, Tensor]:
    r"""Runs the backward pass of `LSTMSlope` through time.

    The results $\partial h$, $\partial c$ and $\partial G$ overwrite `d_hidden`, `d_cell` and `d_gates`.

    Args:
        recurrent: The recurrent weights R.
        f: The forget gates.
        to_cell: The factors K.
        along: The factors A.
        d_hidden: The term of $\partial h_t$ that comes from the softmax of step t. The function adds the term that
            comes from step t + 1.
        d_cell: Terms to add to the equation of $\partial c$; zeros if there are none.
        d_gates: Terms to add to the equation of $\partial G$; zeros if there are none.

    Returns:
        The derivatives of log p with respect to the first hidden state and to the first cell state.
    """
    later, cell = None, None
    three, last = d_gates.split([3, 1], 1)
    to_three, to_last = along.split([3, 1], 1)
    stacked = (d_hidden, d_cell, three, last, d_gates.flatten(1, 2), to_three, to_last, to_cell, f)
    for dh, dc, ifg, o, gates, a_ifg, a_o, k, forget in zip(*(part.unbind()[::-1] for part in stacked), strict=True):
        if later is not None and cell is not None:
            dh.addmm_(recurrent.T, later)
            dc.add_(cell)
        dc.addcmul_(dh, k)
        ifg.addcmul_(a_ifg, dc)
        o.addcmul_(a_o, dh)
        later, cell = gates, dc * forget
    assert later is not None
    assert cell is not None

    return recurrent.T @ later, cell


lstm_slope: Callable[..., Tensor] = LSTMSlope.apply
"""Function that computes the gradient of log p(x|z) with respect to z, shape (batch, latent).

Its arguments are those of `LSTMSlope`.
"""
