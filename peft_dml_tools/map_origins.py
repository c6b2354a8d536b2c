# SPDX-License-Identifier: Apache-2.0
"""Where the maps of nuScenes lie on the earth."""

from typing import Final

#: Latitude and longitude of the maps' corners, as the nuScenes devkit gives them
MAP_ORIGINS_DEG: Final = {
    "boston-seaport": (42.336849169438615, -71.05785369873047),
    "singapore-onenorth": (1.2882100868743724, 103.78475189208984),
    "singapore-hollandvillage": (1.2993652317780957, 103.78217697143555),
    "singapore-queenstown": (1.2782562240223188, 103.76741409301758),
}
