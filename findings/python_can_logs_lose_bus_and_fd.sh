#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# python-can 4.6.1: frames of two buses, one of them CAN FD with 64 bytes, one sent, logged by can.Logger and read by can.LogReader.
#
# Guess before the run: whatever the file's kind, the bus (channel), FD and bit rate switch, sent or received come back, or the writer
#   says that it cannot keep them, as the one of .trc does.
# Seen: .blf and .log keep them. .csv and .db (SQLite) drop all four without a word: every frame is a received classic one of no
#   channel, with 64 bytes of data. Of two radars with the same identifiers on two buses one stream is left.
# Matters here: ARS408 radars on buses of their own send the same identifiers. Log drives as .blf or .log before they become bags.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" python-can==4.6.1
FOLDER=$folder PYTHONPATH=$folder python3 - <<'PYTHON'
import os
from pathlib import Path

import can

frames = [
    can.Message(timestamp=1.7e9, arbitration_id=0x60B, is_extended_id=False, data=[1, 2, 3], channel=0),
    can.Message(timestamp=1.7e9 + 0.5, arbitration_id=0x60B, is_extended_id=False, data=[1, 2, 3], channel=1, is_rx=False),
    can.Message(timestamp=1.7e9 + 1, arbitration_id=0x700, is_extended_id=False, data=bytes(64), channel=1, is_fd=True, bitrate_switch=True),
]
seen = {}
for kind in (".blf", ".log", ".csv", ".db"):
    file = str(Path(os.environ["FOLDER"], "drive" + kind))
    logger = can.Logger(file)
    for frame in frames:
        logger(frame)
    logger.stop()
    seen[kind] = [(f.channel, f.is_rx, f.is_fd, f.bitrate_switch, len(f.data)) for f in can.LogReader(file)]
    print(kind, seen[kind])
kept = [(0, True, False, False, 3), (1, False, False, False, 3), (1, True, True, True, 64)]
assert seen[".blf"] == kept and [f[1:] for f in seen[".log"]] == [f[1:] for f in kept]
lost = [(None, True, False, False, size) for size in (3, 3, 64)]
assert seen[".csv"] == seen[".db"] == lost, "the behaviour has changed"
PYTHON
