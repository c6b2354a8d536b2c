# SPDX-License-Identifier: Apache-2.0
"""Offline detection in bags and data sets at full speed, with the live node's synchroniser and detector."""
