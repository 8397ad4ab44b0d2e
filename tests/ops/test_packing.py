import pytest
import torch

from danlu.core.errors import ConfigError
from danlu.ops.packing import GROUP, LANES, pack_int4, pack_int8, pack_int8_codes, together, unpack

gguf = pytest.importorskip("gguf")


def matrix(rows: int = 40, columns: int = 96) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * 0.02


def test_int8_is_within_half_a_step_of_each_group():
    weight = matrix()
    steps = weight.view(40, -1, GROUP).abs().amax(-1, keepdim=True) / 127
    error = (unpack(pack_int8(weight)) - weight).view(40, -1, GROUP).abs()
    assert (error <= steps * 0.51 + weight.abs().max() * 2**-11).all()


def test_int8_equals_the_rounding_of_ggufs_q8_0():
    weight = matrix()
    theirs = gguf.quants.dequantize(
        gguf.quants.quantize(weight.numpy(), gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )
    # the same scale; a value half way between two codes may go either way
    difference = (unpack(pack_int8(weight)) - torch.from_numpy(theirs)).abs()
    assert (difference > 1e-6).float().mean() < 0.01
    assert difference.max() <= weight.abs().max() / 127 * 1.01


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_weights_of_gguf_files_are_packed_without_another_loss(kind):
    form = gguf.GGMLQuantizationType[kind]
    stored = torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(matrix(64, 128).numpy(), form), form))
    again = unpack(pack_int8(stored) if kind == "Q8_0" else pack_int4(stored))
    scale = stored.abs().max()
    assert ((again - stored).abs() <= scale * 1e-3).float().mean() > 0.99
    assert (again - stored).square().mean().sqrt() < stored.square().mean().sqrt() * 0.01


def test_int4_is_no_worse_than_plain_rounding_over_the_range():
    weight = matrix(64, 256)
    groups = weight.view(64, -1, GROUP)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    plain = (((groups - low) / (high - low) * 15).round() / 15 * (high - low) + low).view_as(weight)
    ours = (unpack(pack_int4(weight)) - weight).square().mean()
    assert ours < (plain - weight).square().mean() * 0.99


def test_packing_twice_changes_nothing():
    for pack in (pack_int8, pack_int4):
        once = pack(matrix())
        twice = pack(unpack(once))
        assert torch.equal(once.codes, twice.codes)
        assert torch.equal(once.scales, twice.scales)


def test_int8_codes_are_kept_as_they_are():
    codes = torch.randint(-127, 128, (20, 64), dtype=torch.int8)
    scales = torch.rand(20)
    packed = pack_int8_codes(codes, scales)
    assert torch.equal(unpack(packed), codes.float() * scales[:, None])
    assert packed.padded_rows == 32
    assert packed.padded_rows % LANES == 0


def test_a_group_of_zeros_and_one_of_equal_numbers():
    weight = torch.zeros(16, 64)
    weight[:, 32:] = 0.25
    for pack in (pack_int8, pack_int4):
        torch.testing.assert_close(unpack(pack(weight)), weight, atol=2e-4, rtol=1e-3)


def test_other_widths_are_refused():
    with pytest.raises(ConfigError, match="100"):
        pack_int8(torch.zeros(16, 100))


def test_size_is_what_a_pass_reads():
    packed = pack_int4(matrix(32, 64))
    assert packed.bytes == 32 * 64 // 2 + 2 * (32 * 64 // GROUP * 2)


def test_together_they_are_the_same_one_behind_the_other():
    several = [
        pack_int8(matrix(40, 96)),
        pack_int4(matrix(64, 128)),
        pack_int8_codes(torch.ones(20, 64, dtype=torch.int8), torch.rand(20)),
    ]
    moved = together(several)
    for before, after in zip(several, moved, strict=True):
        assert torch.equal(unpack(before), unpack(after))
        assert after.codes.data_ptr() % 64 == after.scales.data_ptr() % 64 == 0
    places = [one.codes.data_ptr() for one in moved]
    assert places == sorted(places)
    assert places[-1] - places[0] < sum(one.bytes for one in several) + 1024
