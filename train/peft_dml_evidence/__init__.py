# SPDX-License-Identifier: Apache-2.0
"""The evidence: cells of experiments, one runner for all of them, and the page made from their results."""
