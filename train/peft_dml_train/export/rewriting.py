# SPDX-License-Identifier: Apache-2.0
"""A bundle made of another one: changed in a copy, which takes its place only when it loads."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft_dml_ros.core.bundle import Bundle, Manifest, load_bundle
from peft_dml_tools.bundles.manifest import write_manifest
from peft_dml_train.export.card import bundle_calibration, write_card


@contextmanager
def rewritten(source: Bundle, out: Path) -> Iterator[Path]:
    """Yield a copy of a bundle to change; it replaces `out`, which may be the source itself, once it loads."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".rewrite-") as temporary:
        work = Path(temporary) / out.name
        shutil.copytree(source.path, work)
        yield work
        load_bundle(work)
        shutil.rmtree(out, ignore_errors=True)
        work.rename(out)


def describe(folder: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest and, where it says enough for one, the card."""
    if manifest.parameters:
        write_card(folder, manifest, bundle_calibration(folder))
    write_manifest(folder, manifest)
