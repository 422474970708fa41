"""The Triton backend of `models.lexicon.max_linear`, which defines what is computed and when it runs.

For 64 images of 197 tokens, 30,522 lexicons and width 768, the plain head multiplies 0.6 TFLOP once forward and twice
backward, and writes and reads 770 MB of logits and as much of their gradient several times. Here it is 0.6 TFLOP once,
8 MB of maxima and 4 MB of winners. Sparton (arXiv 2603.25011) reports up to 4.8 times the speed of the plain head,
forward and backward, for a kernel of this kind.

Design
- The max is fused into the product: a tile of logits stays in registers (float32) and is reduced before the next one.
- Lexicons are the rows of a tile and tokens its columns. A thread of the tensor cores' layout then holds many tokens of
  few lexicons, so most of the max needs no exchange between threads.
- A program reads the tokens of several items as one sequence, so no tile is padded at the end of an item (197 tokens
  would fill 77% of two tiles of 128). A tile that spans several items is reduced once per item.
- Programs that run at the same time share lexicons and items: `GROUP` parts of the batch take the same lexicons, then
  the next ones. The weights are read from memory about once, and the token states stay in the L2 cache.
- Each maximum is written by one program: no atomics, deterministic results.
- In the backward pass an item has at most one entry per lexicon, and after a ReLU few. Both gradients are weighted sums
  of rows, with entries sorted by target row; a program makes one row. It reads rows and writes gradients in the dtype
  of the model, so no converted copy is held from forward to backward.
- Loads use pointers, not Hopper's tensor descriptors: one kernel serves A100 and H100.

Not yet timed on a GPU. Results are tested in Triton's interpreter, compilation to the tensor cores of A100 and H100 as
well.
"""

import torch
import triton
import triton.language as tl

from models.errors import InputError

INTERPRETED = triton.knobs.runtime.interpret
"""Whether triton was imported with TRITON_INTERPRET=1: the kernels then run on the CPU, slowly, for tests."""

DTYPES = (torch.bfloat16, torch.float16, torch.float32)

TOKENS_PER_PROGRAM = 4096
"""Approximate: some 30 tiles, of which at most the last one is not full."""

MIN_PROGRAMS = 512
"""Lower bound of the number of programs, to keep 132 multiprocessors busy; overrides `TOKENS_PER_PROGRAM`."""

MAX_VALUES = 2**31
"""Upper bound of the size of a tensor, exclusive: offsets are 32-bit."""

MAX_BLOCK_D = 1024
"""Largest number of components of a gradient row that a program sums at once."""


def _tiles(lexicons: int, tokens: int, width: int, warps: int, stages: int) -> triton.Config:
    blocks = {"BLOCK_V": lexicons, "BLOCK_L": tokens, "BLOCK_D": width, "GROUP": 8}
    return triton.Config(blocks, num_warps=warps, num_stages=stages)


CONFIGS = [
    _tiles(128, 256, 64, warps=8, stages=3),  # H100, half precision: as cuBLAS
    _tiles(256, 128, 64, warps=8, stages=3),
    _tiles(128, 128, 64, warps=8, stages=4),
    _tiles(128, 128, 64, warps=4, stages=3),  # two per multiprocessor: one reduces while the other multiplies
    _tiles(128, 128, 32, warps=4, stages=4),  # A100
    _tiles(64, 256, 32, warps=4, stages=4),
    _tiles(128, 64, 64, warps=4, stages=4),  # texts
    _tiles(64, 64, 32, warps=4, stages=3),  # float32
]
if INTERPRETED:
    CONFIGS = [_tiles(16, 16, 16, warps=1, stages=1)]  # small, so that tests cross tiles


def max_product(hidden_BLD: torch.Tensor, weight_VD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest product of each item with each lexicon, float32 (B, V), and the first token that has it, int16 (B,
    V).

    Both inputs are bfloat16, float16 or float32 and are summed in float32 (float32 in TF32 if torch is set to it).
    Equal token states have bit-identical logits at any position of a tile. NaN is the highest value, as in torch.

    Raises InputError for another device or dtype, or a tensor with too many values.
    """
    _check(hidden_BLD, weight_VD)
    (size, tokens, width), lexicons = hidden_BLD.shape, len(weight_VD)
    highest_BV = hidden_BLD.new_empty(size, lexicons, dtype=torch.float32)
    winners_BV = torch.empty_like(highest_BV, dtype=torch.int16)
    hidden_BLD, weight_VD = hidden_BLD.contiguous(), weight_VD.contiguous()
    if INTERPRETED:  # the interpreter multiplies the bits of bfloat16 as integers
        hidden_BLD, weight_VD = hidden_BLD.float(), weight_VD.float()
    parts = max(triton.cdiv(size * tokens, TOKENS_PER_PROGRAM), triton.cdiv(MIN_PROGRAMS, triton.cdiv(lexicons, 128)))
    items = triton.cdiv(size, min(parts, size))
    with torch.cuda.device_of(hidden_BLD):
        _max_product[lambda config: (triton.cdiv(size, items) * triton.cdiv(lexicons, config["BLOCK_V"]),)](
            hidden_BLD,
            weight_VD,
            highest_BV,
            winners_BV,
            size,
            tokens,
            items,
            lexicons,
            triton.next_power_of_2(tokens),
            WIDTH=width,
            PRECISION="tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee",
        )
    return highest_BV, winners_BV


@triton.autotune(CONFIGS, key=["around", "lexicons", "WIDTH"], cache_results=True)
@triton.jit(do_not_specialize=["size", "tokens", "items", "around"])  # texts differ in length: one binary for all
def _max_product(
    hidden_BLD,
    weight_VD,
    highest_BV,
    winners_BV,
    size,
    tokens,
    items,  # of a program
    lexicons,
    around,  # tokens rounded up to a power of two: only a key of the autotuner
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Maxima of BLOCK_V lexicons over the tokens of `items` items."""
    parts, blocks = tl.cdiv(size, items), tl.cdiv(lexicons, BLOCK_V)
    group = tl.program_id(0) // (GROUP * blocks)
    within = tl.program_id(0) % (GROUP * blocks)
    grouped = tl.minimum(parts - group * GROUP, GROUP)
    first_item = (group * GROUP + within % grouped) * items
    lexicon_V = (within // grouped) * BLOCK_V + tl.arange(0, BLOCK_V)
    known_V = lexicon_V < lexicons

    end = tl.minimum(first_item + items, size) * tokens
    best_V = tl.full((BLOCK_V,), float("-inf"), tl.float32)
    winner_V = tl.zeros((BLOCK_V,), tl.int32)
    for start in range(first_item * tokens, end, BLOCK_L):
        column_L = tl.arange(0, BLOCK_L)
        token_L = start + column_L
        logits_VL = tl.zeros((BLOCK_V, BLOCK_L), tl.float32)
        for d in range(0, WIDTH, BLOCK_D):
            d_D = d + tl.arange(0, BLOCK_D)
            real_D = d_D < WIDTH
            part_VD = tl.load(
                weight_VD + lexicon_V[:, None] * WIDTH + d_D[None, :], known_V[:, None] & real_D[None, :], 0.0
            )
            part_DL = tl.load(
                hidden_BLD + token_L[None, :] * WIDTH + d_D[:, None], (token_L < end)[None, :] & real_D[:, None], 0.0
            )
            logits_VL = tl.dot(part_VD, part_DL, logits_VL, input_precision=PRECISION)
        stop = tl.minimum(start + BLOCK_L, end)
        for item in range(start // tokens, tl.cdiv(stop, tokens)):
            first = item * tokens - start
            inside_L = (column_L - first).to(tl.uint32) < tokens.to(
                tl.uint32
            )  # before its first token is negative: large
            highest_V = tl.reduce(tl.where(inside_L[None, :], logits_VL, float("-inf")), 1, _higher)
            column_VL = tl.where(inside_L[None, :] & (logits_VL == highest_V[:, None]), column_L[None, :], BLOCK_L)
            first_V = tl.minimum(tl.min(column_VL, 1) - first, tokens - 1)  # of a NaN, which equals none, the last
            better_V = (highest_V > best_V) | (highest_V != highest_V)  # of equals, the earlier tile's
            best_V = tl.where(better_V, highest_V, best_V)
            winner_V = tl.where(better_V, first_V, winner_V)
            if (item + 1) * tokens <= stop:
                tl.store(highest_BV + item * lexicons + lexicon_V, best_V, known_V)
                tl.store(winners_BV + item * lexicons + lexicon_V, winner_V.to(tl.int16), known_V)
                best_V = tl.full((BLOCK_V,), float("-inf"), tl.float32)
                winner_V = tl.zeros((BLOCK_V,), tl.int32)


@triton.jit
def _higher(one, other):
    return tl.maximum(one, other, propagate_nan=tl.PropagateNan.ALL)


def max_product_backward(
    gradient_BV: torch.Tensor, winners_BV: torch.Tensor, hidden_BLD: torch.Tensor, weight_VD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of hidden and weight, in their dtypes, from that of the maxima; summed in float32 in a fixed order.

    The cost is proportional to the number of non-zero entries of the gradient.
    """
    size, tokens, width = hidden_BLD.shape
    lexicons_N, items_N = gradient_BV.T.nonzero().T.contiguous()
    states_N = items_N * tokens + winners_BV[items_N, lexicons_N]
    values_N = gradient_BV[items_N, lexicons_N].float()
    of_lexicons_VD = _weighted_sums(lexicons_N, states_N, values_N, hidden_BLD.reshape(-1, width), len(weight_VD))
    order_N = states_N.argsort(stable=True)
    of_states = _weighted_sums(
        states_N[order_N], lexicons_N[order_N], values_N[order_N], weight_VD.contiguous(), size * tokens
    )
    return of_states.view_as(hidden_BLD), of_lexicons_VD


def _weighted_sums(into_N, from_N, values_N, rows_CD: torch.Tensor, count: int) -> torch.Tensor:
    """Result (count, D): row r sums values[n] * rows[from[n]] over all n with into[n] = r; `into` is sorted."""
    width = rows_CD.shape[1]
    starts = torch.searchsorted(into_N, torch.arange(count + 1, device=into_N.device))
    sums_RD = rows_CD.new_empty(count, width)
    block = min(triton.next_power_of_2(width), MAX_BLOCK_D)
    with torch.cuda.device_of(rows_CD):
        _sum_rows[(count, triton.cdiv(width, block))](
            starts, from_N, values_N, rows_CD, sums_RD, WIDTH=width, BLOCK_D=block, BLOCK_N=4
        )
    return sums_RD


@triton.jit
def _sum_rows(
    starts, from_N, values_N, rows_CD, sums_RD, WIDTH: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr
):
    """One row of the sums, with BLOCK_N loads in flight."""
    row = tl.program_id(0)
    d_D = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    real_D = d_D < WIDTH
    sum_D = tl.zeros((BLOCK_D,), tl.float32)
    end = tl.load(starts + row + 1)
    for start in range(tl.load(starts + row), end, BLOCK_N):
        entry_N = start + tl.arange(0, BLOCK_N)
        value_N = tl.load(values_N + entry_N, entry_N < end, 0.0)
        at_N = tl.load(from_N + entry_N, entry_N < end, 0)
        part_ND = tl.load(
            rows_CD + at_N[:, None] * WIDTH + d_D[None, :], (entry_N < end)[:, None] & real_D[None, :], 0.0
        )
        sum_D += tl.sum(value_N[:, None] * part_ND.to(tl.float32), 0)
    tl.store(sums_RD + row * WIDTH + d_D, sum_D.to(sums_RD.dtype.element_ty), real_D)


def _check(hidden_BLD: torch.Tensor, weight_VD: torch.Tensor) -> None:
    if not (hidden_BLD.is_cuda or INTERPRETED):
        raise InputError(
            f"lexicon head: the Triton kernels run on a GPU, not on {hidden_BLD.device}; expected backend 'tiled' there"
        )
    if hidden_BLD.dtype not in DTYPES or weight_VD.dtype != hidden_BLD.dtype:
        raise InputError(
            "lexicon head: the Triton kernels expect states and weights of one dtype, bfloat16, float16 or float32, "
            f"not {hidden_BLD.dtype} and {weight_VD.dtype}; convert them or use backend 'tiled'"
        )
    if max(hidden_BLD.numel(), weight_VD.numel(), len(hidden_BLD) * len(weight_VD)) >= MAX_VALUES:
        shapes = f"states {tuple(hidden_BLD.shape)}, weights {tuple(weight_VD.shape)}"
        raise InputError(f"lexicon head: {shapes}: expected fewer than 2^31 values; split the batch")
