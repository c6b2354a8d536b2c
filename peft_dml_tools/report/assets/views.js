// SPDX-License-Identifier: Apache-2.0
// Camera pictures with the frame's boxes projected into them, and the lamp of each sensor.
"use strict";

const EDGES = [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]];
const NEAR_M = 0.3;
const VIEWS = {};
const LAMPS = [];

function short(name) {
  return name.replace(/^(CAM|RADAR|LIDAR)_/, "").replaceAll("_", " ").toLowerCase();
}

function buildViews() {
  const names = D.views.length ? Object.keys(D.views[0].views) : [];
  for (const name of names) {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    caption.textContent = short(name);
    figure.append(canvas, caption);
    Object.assign(figure, { tabIndex: 0, role: "button", ariaLabel: `camera ${short(name)}: enlarge or shrink` });
    const toggle = () => figure.setAttribute("aria-pressed", figure.classList.toggle("big"));
    figure.addEventListener("click", toggle);
    figure.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(); } });
    document.getElementById("views").append(figure);
    VIEWS[name] = canvas;
  }
  for (const moment of D.views) {
    for (const view of Object.values(moment.views)) {
      if (!view) continue;
      view.image = new Image();
      view.image.onload = () => show(STATE.frame);
      view.image.src = `data:image/jpeg;base64,${view.jpeg}`;
    }
  }
}

function buildLamps() {
  const box = document.getElementById("lamps");
  for (const modality of D.modalities) {
    const own = D.sensors.map((sensor, index) => [sensor, index]).filter(([sensor]) => sensor.modality === modality);
    if (!own.length) continue;
    const title = document.createElement("span");
    title.className = "row-name";
    title.textContent = { lidar: "LiDAR", camera: "cameras", radar: "radars", imu: "IMU", gnss: "GNSS" }[modality];
    const row = document.createElement("div");
    row.className = "row";
    for (const [sensor, index] of own) {
      const lamp = document.createElement("span");
      lamp.className = "lamp";
      lamp.innerHTML = `<i></i>${short(sensor.name)}`;
      row.append(lamp);
      LAMPS[index] = lamp;
    }
    box.append(title, row);
  }
}

function drawLamps(frame) {
  LAMPS.forEach((lamp, index) => {
    const code = D.state.rows[frame][index];
    lamp.className = `lamp ${code === 0 ? "" : code === 1 || ABSENT[index] ? "unknown" : "off"}`;
    lamp.title = `${D.sensors[index].name}: ${D.state.reasons[code]}`;
  });
}

/** Point in pixels, or null when it is behind the camera. */
function project(p, [x, y, z]) {
  const depth = p[8] * x + p[9] * y + p[10] * z + p[11];
  return depth < NEAR_M ? null : [(p[0] * x + p[1] * y + p[2] * z + p[3]) / depth, (p[4] * x + p[5] * y + p[6] * z + p[7]) / depth];
}

function drawWires(pen, view, box, colour, dashed) {
  const points = corners(box).map((corner) => project(view.projection, corner));
  const [width, height] = view.size;
  if (points.some((p) => p === null)) return;
  if (points.every((p) => p[0] < 0 || p[0] > width || p[1] < 0 || p[1] > height)) return;
  pen.setLineDash(dashed ? [3, 3] : []);
  pen.strokeStyle = colour;
  pen.lineWidth = dashed ? 1 : 1.8;
  pen.beginPath();
  for (const [a, b] of EDGES) {
    pen.moveTo(...points[a]);
    pen.lineTo(...points[b]);
  }
  pen.stroke();
}

function drawViews(frame, options) {
  if (!D.views.length) return;
  const moment = D.views.reduce((best, m) => (Math.abs(m.frame - frame) < Math.abs(best.frame - frame) ? m : best));
  for (const [name, canvas] of Object.entries(VIEWS)) {
    const view = moment.views[name];
    const index = D.sensors.findIndex((sensor) => sensor.name === name);
    const pen = canvas.getContext("2d");
    if (!view || D.state.rows[frame][index] > 1) {
      const code = D.state.rows[frame][index], used = code === 0;
      blank(canvas, pen, used ? "no picture kept" : "no signal", used ? "the detector had one" : D.state.reasons[code], used);
      continue;
    }
    [canvas.width, canvas.height] = view.size;
    if (view.image.complete) pen.drawImage(view.image, 0, 0);
    if (!view.projection) continue;
    if (options.truth) rowsOf(D.truth, moment.frame).forEach((row) => drawWires(pen, view, boxOf(row), "rgba(255,255,255,.75)", true));
    for (const box of rowsOf(D.boxes, moment.frame).map(boxOf)) {
      if (box.score >= options.threshold) drawWires(pen, view, box, rgb(box.label), false);
    }
  }
}

function blank(canvas, pen, words, reason, calm) {
  [canvas.width, canvas.height] = [400, 225];
  pen.fillStyle = "#0a0f15";
  pen.fillRect(0, 0, 400, 225);
  pen.fillStyle = calm ? "#94a3b4" : "#f0625f";
  pen.font = "600 20px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.fillText(words, 200, 112);
  pen.fillStyle = "#94a3b4";
  pen.font = "14px system-ui, sans-serif";
  pen.fillText(reason.slice(0, 48), 200, 136);
}
