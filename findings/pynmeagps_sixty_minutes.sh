#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pynmeagps 1.1.8: positions just below a whole degree, as NMEAMessage(..., lat=, lon=) and latlon2dmm write them.
#
# Guess before the run: minutes are rounded before degrees are split off: 42.99999999995 becomes 4300.00000; or it is cut, 4259.99999.
# Seen: "4260.00000": sixty minutes, which NMEA 0183 has not (00 to 59.99), up to 9 mm south or west of a whole degree; and 180 degrees
#   east can become 17960.00000. latlon2dmm writes 42 degrees 60.0. The package reads it back as 43.
# Matters here: simulated receivers and replays near a whole degree, such as the meridian of Greenwich or the 180th. Readers that
#   check minutes drop the fix as broken. Fixes are not written as NMEA here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" pynmeagps==1.1.8
PYTHONPATH=$folder python3 - <<'PYTHON'
from pynmeagps import GET, NMEAMessage, NMEAReader, latlon2dmm

text = NMEAMessage("GN", "GGA", GET, lat=42.99999999995, lon=11.99999999, quality=1, numSV=9).serialize().decode()
minutes = [float(field[-8:]) for field in (text.split(",")[2], text.split(",")[4])]
read = NMEAReader.parse(text.encode())
print(text, minutes, latlon2dmm(42.99999999995, 11.5), read.lat, read.lon)
assert abs(read.lat - 43) < 1e-8 and abs(read.lon - 12) < 2e-8
assert minutes == [60, 60] and "60" in latlon2dmm(42.99999999995, 11.5)[0], "the behaviour has changed"
PYTHON
