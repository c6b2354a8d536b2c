# SPDX-License-Identifier: Apache-2.0
"""Work on model bundles that no node does: sign them, merge adapters for good, compare them."""
