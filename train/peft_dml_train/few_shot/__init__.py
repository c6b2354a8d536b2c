# SPDX-License-Identifier: Apache-2.0
"""Adapters from a few frames of a user's own: labels, training with early stop, and what was gained."""
