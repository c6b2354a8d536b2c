#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# filterpy 2.0.0: KalmanFilter.update(None), its way to say that a measurement is missing, and what likelihood, log_likelihood ("of
#   the last measurement") and mahalanobis read afterwards.
#
# Guess before the run: they stay those of the last measurement, or are None or 0: there is nothing to be likely.
# Seen: they are those of a perfect hit: the residual is set to zero, so that mahalanobis is 0 and log_likelihood the greatest that the
#   covariance of the step before allows, above the one of a measurement that is off by a centimetre.
# Matters here: a track that is scored by its likelihood, or a bank of filters that is weighed by it, gains with every frame in which
#   nothing was seen. The tracker here counts missed frames by themselves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" filterpy==2.0.0 numpy==1.26.4 scipy==1.14.1
MPLBACKEND=agg PYTHONPATH=$folder python3 - <<'PYTHON'
from math import isclose, log, pi

import numpy as np
from filterpy.kalman import KalmanFilter

track = KalmanFilter(dim_x=2, dim_z=1)
track.F, track.H, track.R = np.array([[1.0, 1], [0, 1]]), np.array([[1.0, 0]]), np.eye(1) * 0.5
track.predict()
track.update(track.x[0, 0] + 0.01)
near = track.log_likelihood
track.predict()
track.update(None)
perfect = -0.5 * log(2 * pi * track.S.item())
print("near:", near, "missing:", track.log_likelihood, "perfect:", perfect, "mahalanobis:", track.mahalanobis)
assert near < perfect
assert isclose(track.log_likelihood, perfect) and track.mahalanobis == 0, "the behaviour has changed"
PYTHON
