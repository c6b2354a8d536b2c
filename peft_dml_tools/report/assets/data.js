// SPDX-License-Identifier: Apache-2.0
// The session's data: JSON with base64 blocks, unpacked once.
"use strict";

const D = JSON.parse(document.getElementById("data").textContent);
for (const key of ["boxes", "truth", "lidar", "radar"]) {
  const bytes = Uint8Array.from(atob(D[key].data), (c) => c.charCodeAt(0));
  D[key].values = new { float32: Float32Array, int16: Int16Array }[D[key].type](bytes.buffer);
  delete D[key].data;
}
