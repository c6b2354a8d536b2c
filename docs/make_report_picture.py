# SPDX-License-Identifier: Apache-2.0
"""Makes images/report.webp, a report in windows of three widths: `python docs/make_report_picture.py REPORT`.

Needs playwright, and Chromium from the distribution.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

WINDOWS = ((2560, 1300), (1440, 900), (390, 844))
HEIGHT_PX, GAP_PX, QUALITY = 620, 14, 70


def pictures(report: Path) -> list[Any]:
    """Return the player as each window shows it, all of one height."""
    found = []
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width, height in WINDOWS:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(report.resolve().as_uri(), timeout=120_000)
            page.evaluate("document.querySelector('.player').scrollIntoView({ block: 'start' })")
            page.wait_for_timeout(1000)
            shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            size = (round(width * HEIGHT_PX / height), HEIGHT_PX)
            found.append(cv2.resize(shot, size, interpolation=cv2.INTER_AREA))
        browser.close()
    return found


if __name__ == "__main__":
    shots = [np.pad(shot, ((0, 0), (0, GAP_PX), (0, 0)), constant_values=255) for shot in pictures(Path(sys.argv[1]))]
    out = Path(__file__).with_name("images") / "report.webp"
    cv2.imwrite(str(out), np.hstack(shots)[:, :-GAP_PX], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
