#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# CPython 3.10.13, 3.11.7, 3.12.1, 3.13.0 (Linux x86-64): `python -m` dies of SIGINT, whatever status sys.exit is given,
#   once an interrupt that was handled has passed the exec of a string.
#
# Guess before the run: a command that catches KeyboardInterrupt, says so and calls sys.exit(130) exits with status 130,
#   however it was started.
# Seen: as a file or with -c it does. With -m the process ends by signal 2 (subprocess: returncode -2), when the interrupt
#   hit code inside exec("..."), as dataclasses, namedtuples and lazy importers use it, before it was caught.
#   Another exec of any string afterwards takes that back.
# Matters here: tests and supervisors that start commands with `python -m` see another status than users of the script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/job.py" <<'PYTHON'
import sys
try:
    exec("raise KeyboardInterrupt")
except KeyboardInterrupt:
    pass
if "again" in sys.argv:
    exec("")
sys.exit(130)
PYTHON
cd "$folder"
python3 - <<'PYTHON'
import subprocess, sys

def status(*arguments):
    return subprocess.run([sys.executable, *arguments], check=False).returncode

seen = {"file": status("job.py"), "-c": status("-c", open("job.py").read()), "-m": status("-m", "job"), "-m, exec again": status("-m", "job", "again")}
print(sys.version.split()[0], seen)
assert seen == {"file": 130, "-c": 130, "-m": -2, "-m, exec again": 130}, "changed"
PYTHON
