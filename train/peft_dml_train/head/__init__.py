# SPDX-License-Identifier: Apache-2.0
"""Detection head in the manner of CenterPoint, and the top-K selection that ends the exported graph."""
