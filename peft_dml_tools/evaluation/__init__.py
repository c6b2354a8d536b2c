# SPDX-License-Identifier: Apache-2.0
"""The record of one session and what is computed from it: accuracy, latency, drops and tables."""
