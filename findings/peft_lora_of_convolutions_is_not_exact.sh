#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# peft 0.21.2 with torch 2.13.0: LoRA on convolutions whose padding is not of zeros, or that are dilated.
#
# Guess before the run: the adapter's own convolution copies the layer's settings; what it cannot do get_peft_model refuses, and
#   merge_and_unload changes no output by more than rounding.
# Seen: it copies kernel, stride and padding, not padding_mode: next to zeros' 1e-6, circular and reflect change by more than
#   .1 at the border when merged, and not inside, without a warning. With dilation get_peft_model succeeds and the first forward
#   raises RuntimeError on sizes. With groups it trains, and merging raises NotImplementedError.
# Matters here: range images of LiDARs are padded circularly, and merged networks are what is exported. train/ refuses
#   such layers before the training (adapters/lora.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# TORCH_INDEX as in the Makefile: PyTorch's index of CPU builds goes without CUDA.
[ -z "${TORCH_INDEX:-}" ] || "$folder/venv/bin/python" -m pip install -qq --index-url "$TORCH_INDEX" torch==2.13.0
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check torch==2.13.0 peft==0.21.2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import peft
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)


def change(**settings):
    """Return the largest change by merging: anywhere, and away from the border."""
    config = peft.LoraConfig(target_modules=["0"], r=2, init_lora_weights=False)
    network = peft.get_peft_model(nn.Sequential(nn.Conv2d(4, 8, 3, **{"padding": 1, **settings})), config).eval()
    x = torch.randn(1, 4, 16, 16)
    try:
        with torch.no_grad():
            off = (network(x) - network.merge_and_unload()(x)).abs()
    except (RuntimeError, NotImplementedError) as error:
        return type(error).__name__
    return float(off.max()), float(off[..., 1:-1, 1:-1].max())


seen = {"zeros": change(), "circular": change(padding_mode="circular"), "reflect": change(padding_mode="reflect"),
        "dilated": change(dilation=2, padding=2), "grouped": change(groups=2)}
print(seen)
assert seen["zeros"][0] < 1e-4 and seen["dilated"] == "RuntimeError" and seen["grouped"] == "NotImplementedError", "the behaviour has changed"
assert all(seen[mode][0] > 0.1 and seen[mode][1] < 1e-4 for mode in ("circular", "reflect")), "the behaviour has changed"
PYTHON
