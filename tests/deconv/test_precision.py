"""The number format of training follows the hardware unless it is stated."""

from pathlib import Path

import pytest
import torch

from deconv.losses import LossConfig, training_values
from deconv.model import ModelConfig, TwoStageNetwork
from deconv.precision import native_precisions, product_dtype

CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")


def test_stated_precision_is_taken():
    assert product_dtype("float32", CPU) is torch.float32
    assert product_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.skipif(not CPUINFO.exists(), reason="no /proc/cpuinfo to compare with")
def test_auto_is_bfloat16_where_the_processor_multiplies_it():
    native = bool({"avx512_bf16", "amx_bf16"} & set(CPUINFO.read_text().split()))
    assert (product_dtype("auto", CPU) is torch.bfloat16) == native
    assert ("bfloat16" in native_precisions(CPU)) == native


@pytest.mark.parametrize("atlas_start", [True, False])
def test_gradients_agree_up_to_rounding(atlas, engine, atlas_start):
    batch = engine.batch(0, 64)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        config = ModelConfig(dropout=0, atlas_start=atlas_start)
        network = TwoStageNetwork(config, atlas, read_effect=2.5)
        values = training_values(network, batch, config=LossConfig(), called_from=0.5, dtype=dtype)
        values["loss"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    exact, rounded = gradients
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()
