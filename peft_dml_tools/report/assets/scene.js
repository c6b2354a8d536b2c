// SPDX-License-Identifier: Apache-2.0
// Bird's-eye view. base_link metres: x forward is up on the screen, y left is left.
"use strict";

const SCENE = document.getElementById("scene");
const PEN = SCENE.getContext("2d");
const HALF = SCENE.width / 2;
/** What is shown: metres ahead and to the left in the middle, and how often larger than the whole. */
const PORT = { x: 0, y: 0, zoom: 1 };
const MODALITY_COLOURS = { lidar: "#2f9bff", camera: "#f2a516", radar: "#2fbf71", imu: "#a873e8", gnss: "#8b9bb0" };

const scale = () => (HALF / D.range_m) * PORT.zoom;
const px = (y) => HALF - (y - PORT.y) * scale();
const py = (x) => HALF - (x - PORT.x) * scale();
/** Metres ahead and to the left of a pixel of the canvas. */
const metres = (u, v) => [PORT.x + (HALF - v) / scale(), PORT.y + (HALF - u) / scale()];
const rgb = (label, alpha = 1) => `rgba(${D.colours[label].join(",")},${alpha})`;
const inUse = (frame, index) => D.state.rows[frame][index] === 0;

/** Rows of a ragged array that belong to one frame. */
function rowsOf(ragged, frame) {
  const rows = [];
  for (let i = ragged.offsets[frame]; i < ragged.offsets[frame + 1]; i++) {
    rows.push(ragged.values.subarray(i * ragged.width, (i + 1) * ragged.width));
  }
  return rows;
}

function boxOf(row) {
  const [x, y, z, length, width, height, yaw, vx, vy, label, score] = row;
  return { x, y, z, length, width, height, yaw, vx, vy, label, score };
}

/** Eight corners: four of the bottom then four of the top, the first two of each at the front. */
function corners(box) {
  const c = Math.cos(box.yaw), s = Math.sin(box.yaw), out = [];
  for (const up of [-0.5, 0.5]) {
    for (const [along, across] of [[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]]) {
      const a = along * box.length, b = across * box.width;
      out.push([box.x + a * c - b * s, box.y + a * s + b * c, box.z + up * box.height]);
    }
  }
  return out;
}

function drawFieldsOfView(frame) {
  D.sensors.forEach((sensor, index) => {
    if (sensor.half_fov === null) return;
    const middle = -Math.PI / 2 - sensor.heading;
    PEN.beginPath();
    PEN.moveTo(px(0), py(0));
    PEN.arc(px(0), py(0), 50 * scale(), middle - sensor.half_fov, middle + sensor.half_fov);
    PEN.closePath();
    PEN.fillStyle = inUse(frame, index) ? "rgba(242,165,22,.045)" : "rgba(240,98,95,.05)";
    PEN.fill();
  });
}

function drawGround() {
  PEN.fillStyle = "#0a0f15";
  PEN.fillRect(0, 0, SCENE.width, SCENE.height);
  PEN.lineWidth = 1.5;
  PEN.font = "20px system-ui, sans-serif";
  for (let radius = 10; radius <= 50; radius += 10) {
    PEN.strokeStyle = "rgba(140,160,185,.17)";
    PEN.beginPath();
    PEN.arc(px(0), py(0), radius * scale(), 0, 2 * Math.PI);
    PEN.stroke();
    PEN.fillStyle = "rgba(160,178,200,.6)";
    PEN.fillText(`${radius} m`, px(0) + 5, py(radius) - 5);
  }
}

const LIDAR_GROUND = "rgb(88,114,147)";
const lidarColour = (level) => `hsl(${205 - 40 * level}, 80%, ${55 + 27 * level}%)`;

function drawLidar(frame) {
  const { offsets, values } = D.lidar;
  for (let i = offsets[frame]; i < offsets[frame + 1]; i++) {
    const z = values[3 * i + 2] / 100;
    const level = Math.max(0, Math.min(1, (z + 0.3) / 3));
    PEN.fillStyle = z < 0.25 ? LIDAR_GROUND : lidarColour(level);
    PEN.fillRect(px(values[3 * i + 1] / 100) - 1.5, py(values[3 * i] / 100) - 1.5, 3, 3);
  }
}

function drawRadar(frame) {
  PEN.fillStyle = PEN.strokeStyle = MODALITY_COLOURS.radar;
  PEN.lineWidth = 2;
  for (const [x, y, vx, vy] of rowsOf(D.radar, frame)) {
    PEN.beginPath();
    PEN.arc(px(y / 100), py(x / 100), 4, 0, 2 * Math.PI);
    PEN.fill();
    if (Math.hypot(vx, vy) > 50) {
      PEN.beginPath();
      PEN.moveTo(px(y / 100), py(x / 100));
      PEN.lineTo(px((y + vy) / 100), py((x + vx) / 100));
      PEN.stroke();
    }
  }
}

function outline(points) {
  PEN.beginPath();
  points.forEach(([x, y], i) => (i ? PEN.lineTo(px(y), py(x)) : PEN.moveTo(px(y), py(x))));
  PEN.closePath();
}

function drawTruth(box) {
  PEN.setLineDash([7, 5]);
  PEN.lineWidth = 2.5;
  PEN.strokeStyle = "rgba(235,242,250,.9)";
  outline(corners({ ...box, length: Math.max(box.length, 0.9) + 0.3, width: Math.max(box.width, 0.9) + 0.3 }).slice(0, 4));
  PEN.stroke();
  PEN.setLineDash([]);
}

function drawBox(box) {
  const floor = corners({ ...box, length: Math.max(box.length, 0.8), width: Math.max(box.width, 0.8) }).slice(0, 4);
  PEN.lineWidth = 3.5;
  PEN.strokeStyle = rgb(box.label);
  PEN.fillStyle = rgb(box.label, 0.18 + 0.4 * box.score);
  outline(floor);
  PEN.fill();
  PEN.stroke();
  const front = [(floor[0][0] + floor[1][0]) / 2, (floor[0][1] + floor[1][1]) / 2];
  PEN.beginPath();
  PEN.moveTo(px(box.y), py(box.x));
  PEN.lineTo(px(front[1]), py(front[0]));
  PEN.stroke();
  if (Math.hypot(box.vx, box.vy) > 0.5) drawArrow(box);
}

function drawArrow(box) {
  const from = [px(box.y), py(box.x)], to = [px(box.y + box.vy), py(box.x + box.vx)];
  const angle = Math.atan2(to[1] - from[1], to[0] - from[0]);
  PEN.lineWidth = 2.5;
  PEN.strokeStyle = PEN.fillStyle = "#fff";
  PEN.beginPath();
  PEN.moveTo(...from);
  PEN.lineTo(...to);
  PEN.stroke();
  PEN.beginPath();
  PEN.moveTo(to[0] + 5 * Math.cos(angle), to[1] + 5 * Math.sin(angle));
  PEN.lineTo(to[0] + 9 * Math.cos(angle + 2.4), to[1] + 9 * Math.sin(angle + 2.4));
  PEN.lineTo(to[0] + 9 * Math.cos(angle - 2.4), to[1] + 9 * Math.sin(angle - 2.4));
  PEN.fill();
}

function drawEgo() {
  PEN.fillStyle = "#e8eef5";
  PEN.beginPath();
  PEN.roundRect(px(0.93), py(3.4), 1.86 * scale(), 4.4 * scale(), 6);
  PEN.fill();
  PEN.fillStyle = "#0a0f15";
  PEN.beginPath();
  PEN.moveTo(px(0), py(3));
  PEN.lineTo(px(0.6), py(1.9));
  PEN.lineTo(px(-0.6), py(1.9));
  PEN.fill();
}

/** Boxes of a frame from a score on. */
function shownBoxes(frame, options) {
  return rowsOf(D.boxes, frame).map(boxOf).filter((box) => box.score >= options.threshold);
}

function drawScene(frame, options) {
  drawGround();
  drawFieldsOfView(frame);
  if (options.points) {
    drawLidar(frame);
    drawRadar(frame);
  }
  drawEgo();
  if (options.truth) rowsOf(D.truth, frame).forEach((row) => drawTruth(boxOf(row)));
  shownBoxes(frame, options).forEach(drawBox);
  if (HOVER.box) drawHover();
  drawBadge(frame);
}

/** The fault in words on the picture itself, for those who watch nothing else. */
function drawBadge(frame) {
  const now = D.time[frame];
  PEN.font = "600 25px system-ui, sans-serif";
  PEN.fillStyle = "#dfe8f2";
  PEN.fillText(`${now.toFixed(1)} s`, 22, 42);
  D.faults.filter((f) => f.from <= now && now < f.to).forEach((fault, line) => {
    const text = faultText(fault);
    const width = PEN.measureText(text).width + 28;
    PEN.fillStyle = "#d64045";
    PEN.beginPath();
    PEN.roundRect(SCENE.width - width - 18, 16 + 48 * line, width, 40, 20);
    PEN.fill();
    PEN.fillStyle = "#fff";
    PEN.fillText(text, SCENE.width - width - 4, 45 + 48 * line);
  });
}
