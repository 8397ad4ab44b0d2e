"""Checks of the int8 exercise."""

from types import ModuleType

import torch

SOLUTION = "danlu.ops.quant"


def _matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def check_a_row_by_hand(exercise: ModuleType) -> None:
    """The scale is the row's largest absolute value / 127; then divide by it and round.
    scale 是该行绝对值的最大值除以 127；用它去除，再四舍五入。
    """
    quantised, scale = exercise.quantise_rows(torch.tensor([[2.54, -1.0, 0.011]]))
    assert quantised.tolist() == [[127, -50, 1]], f"[2.54, -1.0, 0.011] -> {quantised.tolist()}, not [[127, -50, 1]]"
    assert abs(float(scale) - 0.02) < 1e-6, f"scale {float(scale):g}, not 0.02"


def check_dtypes_and_shapes(exercise: ModuleType) -> None:
    """int8 [out, in] to keep, float32 [out, 1] to multiply with: .to(torch.int8), keepdim=True.
    返回 int8 的 [out, in] 与 float32 的 [out, 1]：.to(torch.int8)、keepdim=True。
    """
    quantised, scale = exercise.quantise_rows(_matrix(4, 6).bfloat16())
    assert (quantised.dtype, tuple(quantised.shape)) == (torch.int8, (4, 6)), (quantised.dtype, quantised.shape)
    assert (scale.dtype, tuple(scale.shape)) == (torch.float32, (4, 1)), (scale.dtype, scale.shape)


def check_nothing_is_off_by_more_than_half_a_step(exercise: ModuleType) -> None:
    """Round, do not cut off: a bare .to(torch.int8) drops the fraction and may be off by a whole step.
    要四舍五入，不要截断：直接 .to(torch.int8) 会丢掉小数部分，误差可达一整步。
    """
    weight = _matrix(16, 64)
    quantised, scale = exercise.quantise_rows(weight)
    worst = ((exercise.dequantise(quantised, scale) - weight).abs() / scale).max()
    assert worst <= 0.5001, f"off by {worst:.2f} steps"


def check_an_outlier_harms_its_own_row_only(exercise: ModuleType) -> None:
    """One scale for the whole matrix lets a single large weight erase all others: take the maximum row by row.
    整个矩阵共用一个 scale，一个大权重就会抹掉其余所有权重：请逐行取最大值。
    """
    weight = _matrix(8, 64) * 0.02
    weight[3, 5] = 20.0
    restored = exercise.dequantise(*exercise.quantise_rows(weight))
    others = [row for row in range(8) if row != 3]
    error = (restored - weight)[others].norm() / weight[others].norm()
    assert error < 0.01, f"the other rows are off by {float(error):.0%}"


def check_a_row_of_zeros(exercise: ModuleType) -> None:
    """The largest value of a row of zeros is 0: keep the scale above 0 (clamp_min), since 0 / 0 is nan.
    全零的行最大值是 0：让 scale 保持大于 0（clamp_min），因为 0 / 0 是 nan。
    """
    quantised, scale = exercise.quantise_rows(torch.zeros(2, 3))
    assert (scale > 0).all(), f"scale {scale.flatten().tolist()}"
    assert (exercise.dequantise(quantised, scale) == 0).all()


def check_the_product(exercise: ModuleType) -> None:
    """The scale belongs to an output: (x @ quantised.T) · scale, column by column, in x's dtype.
    scale 属于输出：(x @ quantised.T) · scale，逐列相乘，结果与 x 的类型相同。
    """
    x, weight = _matrix(6, 32, 1).view(2, 3, 32), _matrix(5, 32, 2)
    quantised, scale = exercise.quantise_rows(weight)
    told = exercise.int8_linear(x, quantised, scale)
    wanted = x @ exercise.dequantise(quantised, scale).T
    assert told.shape == wanted.shape, f"shape {tuple(told.shape)}, not {tuple(wanted.shape)}"
    assert torch.allclose(told, wanted, atol=1e-4), f"off by {(told - wanted).abs().max():.3g}"
    low = exercise.int8_linear(x.bfloat16(), quantised, scale)
    assert low.dtype == torch.bfloat16, f"bfloat16 in, {low.dtype} out"


def check_the_product_is_close_to_the_float_one(exercise: ModuleType) -> None:
    """After rounding, a product of a random matrix stays within one per cent: compare with x @ weight.T.
    取整之后，随机矩阵的乘积误差应在百分之一以内：与 x @ weight.T 比较。
    """
    x, weight = _matrix(8, 256, 3), _matrix(64, 256, 4)
    told = exercise.int8_linear(x, *exercise.quantise_rows(weight))
    error = (told - x @ weight.T).norm() / (x @ weight.T).norm()
    assert error < 0.01, f"relative error {float(error):.2%}"
