# SPDX-License-Identifier: Apache-2.0
"""A trained adapter to the folder that vehicles take: peft's files, card, temperatures, activation ranges."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch

from peft_dml_ros.core.adapter import CARD, CONFIG, RANGES, WEIGHTS, AdapterCard, load_adapter
from peft_dml_ros.core.adapter_domain import DOMAIN, AdapterDomain, Spread
from peft_dml_ros.core.bundle import ADAPTERS, Bundle, load_bundle
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import BundleError, DataError
from peft_dml_ros.core.verified_files import CALIBRATION, sha256
from peft_dml_tools.atomic_files import write_json
from peft_dml_train.adapters.base_weights import READABLE, is_halved

log = logging.getLogger(__name__)
MODEL_CARD: Final = "ADAPTER_CARD.md"
MOST_LISTED: Final = 8
LARGEST_BYTES: Final = 1_200_000  #: What an adapter may weigh: a fleet gets it over the air


def write_adapter(
    source: Path,
    folder: Path,
    bundle: Bundle,
    name: str,
    *,
    description: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write an adapter's folder from peft's files, atomically.

    Raises BundleError: it does not fit the base, or is larger than `LARGEST_BYTES`.

    Args:
        source: Folder with `adapter_config.json` and `adapter_model.safetensors`.
        folder: The adapter; replaced as a whole.
        bundle: Its base.
        name: Of the adapter.
        description: A line for people.
        provenance: Data, frames, seeds, command.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    base = str(bundle.manifest.base["sha256"])
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".adapter-") as temporary:
        work = Path(temporary) / name
        work.mkdir()
        config = json.loads((source / CONFIG).read_text()) | {"base_model_name_or_path": f"sha256:{base}"}
        (work / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        weights = safetensors.torch.load_file(source / WEIGHTS)
        halved = {n: v.half() if is_halved(v) else v for n, v in weights.items()}
        safetensors.torch.save_file(halved, work / WEIGHTS, {"format": "pt"})
        (work / WEIGHTS).chmod(READABLE)
        if (size := (work / WEIGHTS).stat().st_size) > LARGEST_BYTES:
            log.warning("adapter %s weighs %.2f MB, more than %.1f", name, size / 1e6, LARGEST_BYTES / 1e6)
        card = AdapterCard(
            name=name, description=description, base=base, base_name=bundle.manifest.name, rank=config["r"],
            alpha=config["lora_alpha"], files={}, provenance=dict(provenance or {}),
        )  # fmt: skip
        write_card(work, card)
        load_adapter(work, base, bundle.manifest.name)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    return folder


def write_card(folder: Path, card: AdapterCard) -> None:
    """Write `adapter.json` and the card for people; the hashes are those of the files as they are."""
    (folder / MODEL_CARD).write_text("\n".join(_card_lines(folder, card)) + "\n", encoding="utf-8")
    names = [p.name for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith((".", CARD))]
    complete = card.model_copy(update={"files": {name: sha256(folder / name) for name in names}})
    write_json(folder / CARD, complete.model_dump(mode="json"))


def domain_of(seen: Sequence[Mapping[str, float]], absent: tuple[Modality, ...] = ()) -> AdapterDomain:
    """Return the domain of frames by their `scene_figures`, and absent sensors. Raises DataError: there is no frame."""
    if not seen:
        raise DataError("no frame to describe a domain by; fix: name scenes that have keyframes")
    by_name = {name: [s[name] for s in seen if name in s] for name in sorted(set().union(*seen))}
    figures = {name: Spread(float(np.mean(v)), float(np.std(v))) for name, v in by_name.items()}
    return AdapterDomain(figures=figures, frames=len(seen), absent=absent)


def read_card(folder: Path) -> AdapterCard:
    """Return an adapter's card, unverified."""
    return AdapterCard.model_validate_json((folder / CARD).read_bytes())


def complete_adapter(
    folder: Path,
    *,
    calibration: Mapping[str, Any] | None = None,
    ranges: Mapping[str, Mapping[str, float]] | None = None,
    domain: AdapterDomain | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Add what was measured with an adapter, and what it is for, to its folder."""
    if domain is not None:
        (folder / DOMAIN).write_text(domain.model_dump_json(indent=1) + "\n")
    for name, content in ((CALIBRATION, calibration), (RANGES, ranges)):
        if content is not None:
            write_json(folder / name, content)
    card = read_card(folder)
    write_card(folder, card.model_copy(update={"metrics": {**card.metrics, **(metrics or {})}}))


def adapter_in(bundle: Path, name: str) -> Path:
    """Return the folder of an adapter that comes with a bundle. Raises BundleError: it has none of that name."""
    folder = bundle / ADAPTERS / name
    if not (folder / CARD).is_file():
        raise BundleError(f"{bundle} has no adapter '{name}'; fix: list them: peft-dml adapter list")
    return folder


def refuse_other_base(bundle: Path, digest: str) -> None:
    """Refuse to add an adapter to a bundle of another base. Raises BundleError: says both."""
    found = load_bundle(bundle, adapter="none").manifest.base.get("sha256")
    if found != digest:
        msg = f"{bundle} has base {str(found)[:12]}, the run has {digest[:12]}; fix: export the default adapter first"
        raise BundleError(msg)


def _card_lines(folder: Path, card: AdapterCard) -> list[str]:
    count = sum(v.numel() for v in safetensors.torch.load_file(folder / WEIGHTS).values())
    size = sum(p.stat().st_size for p in folder.iterdir() if p.suffix in {".json", ".safetensors"})
    about = (
        f"For base '{card.base_name}', sha256 {card.base[:16]}. Licence: {card.licence}. {count:,} parameters, "
        f"{size / 1e6:.2f} MB; LoRA rank {card.rank}, alpha {card.alpha}."
    )
    lines = [
        f"# Adapter '{card.name}' {card.version}",
        "",
        card.description or "No description.",
        "",
        about,
        "",
        "Add it to a vehicle: `peft-dml adapter add FOLDER`, then set the node's parameter `adapter`.",
    ]
    for title, values in (("How it was made", card.provenance), ("What it reaches", card.metrics)):
        rows = [f"- {name.replace('_', ' ')}: {_text(value)}" for name, value in values.items()]
        lines += ["", f"## {title}", "", *(rows or ["Nothing recorded."])]
    return lines


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) if len(value) <= MOST_LISTED else f"{len(value)} of them, see {CARD}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
