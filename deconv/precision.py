"""Number formats of training: float32, or bfloat16 products where the hardware has them.

Only the learned layers' products are rounded: the atlas estimator, the losses, the
weights themselves and every prediction stay float32.
"""

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def product_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the number format of matrix products; ``auto`` is bfloat16 where it is native."""
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def native_precisions(device: torch.device) -> list[Precision]:
    """Return the precisions that the device multiplies at full speed."""
    return ["float32", "bfloat16"] if _has_bfloat16(device) else ["float32"]


def products_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """Return a context in which matrix products take this format."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16"))
