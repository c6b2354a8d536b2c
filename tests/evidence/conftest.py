# SPDX-License-Identifier: Apache-2.0
"""The tiny recipe, on one thread; what accelerate keeps of a run goes before the next."""

from tests.train.conftest import config, one_thread, own_accelerator  # noqa: F401
