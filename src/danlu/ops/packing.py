"""Weights in 8 or 4 bits, laid out for the kernels: what each number on disk becomes, and back."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from danlu.core.errors import ConfigError
from danlu.core.i18n import tr
from danlu.ops.kernels import Matrix, pointer

__all__ = ["GROUP", "LANES", "Packed", "large_pages", "pack_int4", "pack_int8", "pack_int8_codes", "together", "unpack"]

LANES = 16  # rows that are computed side by side
GROUP = 32  # columns that share a scale
_LINE, _LARGE = 64, 2**21  # bytes of a cache line, of a large page
_ROWS_AT_ONCE = 256  # what is worked on stays in the cache of a core
_SHRINK = (1.0, 0.92, 0.84)  # how much of a group's range 4 bits are spread over, at first
_ON_A_GRID = tuple(15 / steps for steps in range(15, 6, -1))  # a range of fewer steps than 15, as GGUF's Q4_0 leaves it
_KINDS = {"int8_row": 0, "int8_group": 1, "int4_group": 2}


class Packed(NamedTuple):
    """A [rows, columns] matrix in codes. Layouts, with R = rows / 16 (rounded up; padding is 0) and C = columns / 32:

    codes: uint8 [R, C, 8, 16, 4] of code + 128 (8 bit), or [R, C, 4, 16, 4] with columns c and c + 16 of a group in
    one byte (4 bit). scales: float32 [R · 16] ("int8_row"), else float16 [R, C, 16]; offsets: float16 [R, C, 16] or none.
    The value of a code is code · scale + offset.
    """

    kind: Literal["int8_row", "int8_group", "int4_group"]
    rows: int
    columns: int
    codes: Tensor
    scales: Tensor
    offsets: Tensor | None = None

    @property
    def padded_rows(self) -> int:
        return self.codes.shape[0] * LANES

    @property
    def bytes(self) -> int:
        """What a pass over the matrix reads."""
        tensors = (self.codes, self.scales, self.offsets)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)

    def struct(self) -> Matrix:
        """For the kernels; valid while this object lives."""
        return Matrix(
            self.padded_rows, self.columns, _KINDS[self.kind], pointer(self.codes), pointer(self.scales), pointer(self.offsets)
        )  # fmt: skip


def pack_int8(weight: Tensor) -> Packed:
    """Symmetric 8 bit with a scale for each group of 32 columns, as GGUF's Q8_0. weight: [N, K], K a multiple of 32."""

    def quantise(groups: Tensor) -> tuple[Tensor, Tensor, None]:
        scales = (groups.abs().amax(-1) / 127).half()
        codes = _divided(groups, scales.float()).round().clamp(-127, 127)
        return (codes + 128).to(torch.uint8), scales, None

    return _pack("int8_group", weight, quantise)


def pack_int8_codes(codes: Tensor, scales: Tensor) -> Packed:
    """Codes that are int8 already, with a scale for each row, unchanged. codes: int8 [N, K]; scales: float [N]."""
    packed = _pack("int8_row", codes, lambda groups: ((groups + 128).to(torch.uint8), None, None))
    padded = torch.zeros(packed.padded_rows, dtype=torch.float32)
    padded[: len(scales)] = scales.float()
    return packed._replace(scales=padded)


def pack_int4(weight: Tensor) -> Packed:
    """4 bit with a scale and an offset for each group of 32 columns, as GGUF's Q4_1. weight: [N, K], K a multiple of 32.

    Codes are rounded over the whole range of a group and over parts of it; then scale and offset are the least-squares
    fit to those codes, and the best of the tries is kept. Weights that were of this kind before keep their codes.
    """
    return _pack("int4_group", weight, _quantise_int4)


def large_pages(size: int) -> Tensor:
    """uint8 [size] zeros, in pages of 2 MB where the system has them, beginning with one; given back with the tensor."""
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
        room = mmap.mmap(-1, size + _LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without them: small pages are as right, only slower
            room.madvise(mmap.MADV_HUGEPAGE)
    else:
        room = mmap.mmap(-1, size + _LARGE)
    whole = torch.frombuffer(room, dtype=torch.uint8)
    return whole[-whole.data_ptr() % _LARGE :][:size]


def together(matrices: Sequence[Packed]) -> list[Packed]:
    """The same matrices, one behind the other in memory, in large pages where the system has them.

    A pass reads all of it in this order: with pages of 2 MB instead of 4 KB the processor looks up far fewer addresses,
    and fetches ahead across matrices.
    """
    tensors = [tensor for one in matrices for tensor in (one.codes, one.scales, one.offsets) if tensor is not None]
    sizes = [-(-tensor.nbytes // _LINE) * _LINE for tensor in tensors]
    whole, at = large_pages(sum(sizes)), 0
    moved = []
    for tensor, size in zip(tensors, sizes, strict=True):
        place = whole[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        moved.append(place.copy_(tensor))
        at += size
    left = iter(moved)
    return [
        one._replace(codes=next(left), scales=next(left), offsets=None if one.offsets is None else next(left))
        for one in matrices
    ]


def unpack(packed: Packed) -> Tensor:
    """float32 [rows, columns]."""
    blocks, groups = packed.codes.shape[:2]
    codes = packed.codes
    if packed.kind == "int4_group":
        codes = torch.cat((codes & 15, codes >> 4), dim=2)
    # [R, C, 8, 16, 4] -> [R, 16, C, 8 · 4]
    values = codes.permute(0, 3, 1, 2, 4).reshape(blocks, LANES, groups, GROUP).float()
    if packed.kind == "int8_row":
        values = (values - 128) * packed.scales.view(blocks, LANES, 1, 1)
    else:
        if packed.kind == "int8_group":
            values = values - 128
        values = values * packed.scales.float().transpose(1, 2)[..., None]
        if packed.offsets is not None:
            values = values + packed.offsets.float().transpose(1, 2)[..., None]
    return values.reshape(blocks * LANES, -1)[: packed.rows]


def _quantise_int4(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[n, C, 32] -> codes uint8 [n, C, 32], scales and offsets float16 [n, C]."""
    low, high = groups.amin(-1), groups.amax(-1)
    middle = (low + high) / 2
    best: tuple[Tensor, Tensor, Tensor] | None = None
    least = torch.empty(0)
    for share in _ON_A_GRID if _is_on_a_grid(groups) else _SHRINK:
        scale, offset = (high - low) * (share / 15), middle + (low - middle) * min(share, 1.0)
        codes = _divided(groups - offset[..., None], scale).round_().clamp_(0, 15)
        if share < 1.0:
            scale, offset = _fit(codes, groups)
        scale, offset = scale.half(), offset.half()
        error = (codes * scale.float()[..., None] + offset.float()[..., None] - groups).square_().sum(-1)
        if best is None:
            best, least = (codes.to(torch.uint8), scale, offset), error
        else:
            better = error < least
            least = torch.where(better, error, least)
            best = (
                torch.where(better[..., None], codes.to(torch.uint8), best[0]),
                torch.where(better, scale, best[1]),
                torch.where(better, offset, best[2]),
            )
        if bool((least <= 1e-9 * groups.square().sum(-1)).all()):
            break  # nothing was lost
    assert best is not None
    return best


def _is_on_a_grid(groups: Tensor) -> bool:
    """Weights that were 4 bits before: the first groups hold at most 16 numbers each."""
    first = groups.reshape(-1, GROUP)[:64].sort(-1).values
    return bool(((first[:, 1:] - first[:, :-1]) > 1e-7 * first.abs().amax(-1, keepdim=True)).sum(-1).max() < 16)


def _fit(codes: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of groups ≈ codes · scale + offset: [..., 32] twice -> [...] twice."""
    mean_code, mean = codes.mean(-1), groups.mean(-1)
    spread = (codes * codes).mean(-1) - mean_code * mean_code
    scale = torch.where(spread > 0, ((codes * groups).mean(-1) - mean_code * mean) / spread.clamp_min(1e-12), 0.0)
    return scale, mean - scale * mean_code


def _divided(groups: Tensor, scale: Tensor) -> Tensor:
    """groups [..., 32] / scale [...]; 0 where a group is all alike."""
    return groups * torch.where(scale > 0, 1 / scale, 0.0)[..., None]


def _pack(
    kind: Literal["int8_row", "int8_group", "int4_group"],
    weight: Tensor,
    quantise: Callable[[Tensor], tuple[Tensor, Tensor | None, Tensor | None]],
) -> Packed:
    """Quantise some rows at a time, and lay the codes out."""
    rows, columns = weight.shape
    if columns % GROUP:
        raise ConfigError(
            tr(f"a matrix of {columns} columns cannot be packed", f"{columns} 列的矩阵无法打包"),
            tr(f"packing needs a multiple of {GROUP}", f"列数须是 {GROUP} 的倍数"),
        )
    blocks, count = -(-rows // LANES), columns // GROUP
    fours = 4 if kind == "int4_group" else 8
    codes = _aligned(blocks * count * fours * LANES * 4).view(blocks, count, fours, LANES, 4)
    scales = torch.zeros(blocks, count, LANES, dtype=torch.float16)
    offsets = torch.zeros(blocks, count, LANES, dtype=torch.float16) if kind == "int4_group" else None
    for first, part in _chunks(weight, blocks * LANES):
        own, scale, offset = quantise(part.view(len(part), count, GROUP))
        to = slice(first // LANES, (first + len(part)) // LANES)
        laid = own.view(-1, LANES, count, 8, 4).permute(0, 2, 3, 1, 4)  # [R, C, 8, 16, 4]
        codes[to] = laid[:, :, :4] | (laid[:, :, 4:] << 4) if fours == 4 else laid
        if scale is not None:
            scales[to] = scale.view(-1, LANES, count).transpose(1, 2)
        if offset is not None and offsets is not None:
            offsets[to] = offset.view(-1, LANES, count).transpose(1, 2)
    return Packed(kind, rows, columns, codes, scales, offsets)


def _chunks(weight: Tensor, padded: int) -> Iterator[tuple[int, Tensor]]:
    """Rows in float32, from which row on; the last ones filled up with zeros to a whole number of lanes."""
    for first in range(0, padded, _ROWS_AT_ONCE):
        part = weight[first : first + _ROWS_AT_ONCE].float()
        missing = min(padded, first + _ROWS_AT_ONCE) - first - len(part)
        yield first, torch.cat((part, part.new_zeros(missing, part.shape[1]))) if missing else part.contiguous()


def _aligned(size: int) -> Tensor:
    """uint8 [size] that begins at a multiple of 64 bytes: a register is loaded in one piece."""
    room = torch.empty(size + 63, dtype=torch.uint8)
    return room[-room.data_ptr() % 64 :][:size]
