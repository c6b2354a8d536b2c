# SPDX-License-Identifier: Apache-2.0
"""The chaos suite: faults, damaged messages and killed processes, and how the perception node takes them."""
