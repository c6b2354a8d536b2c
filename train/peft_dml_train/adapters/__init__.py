# SPDX-License-Identifier: Apache-2.0
"""Parameter-efficient fine-tuning: low-rank and bottleneck adapters."""
