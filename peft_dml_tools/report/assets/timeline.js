// SPDX-License-Identifier: Apache-2.0
// Four charts over one time axis, as one SVG.
"use strict";

const CHART = { width: 1300, left: 150, right: 16, row: 15, gap: 46 };
const NARROW_PX = 700;
const FAULT_WORDS = { silence: "silent", freeze: "frozen", delay: "late" };
const faultText = (f) => `${f.sensor === "camera" ? "all cameras" : f.sensor.replaceAll("_", " ")} ${FAULT_WORDS[f.fault] || f.fault}`;
const END = Math.max(D.time[D.time.length - 1], 0.1);
const START = Math.min(D.time[0], 0);
const atX = (t) => CHART.left + ((t - START) / (END - START)) * (CHART.width - CHART.left - CHART.right);
const esc = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** Drawn at the width that there is, so that the letters have their size on any screen. */
function buildTimeline() {
  const holder = document.getElementById("timeline");
  CHART.width = Math.max(300, Math.round(holder.clientWidth));
  CHART.left = CHART.width < NARROW_PX ? 88 : 150;
  let y = 26;
  let svg = "";
  const top = y;
  for (const chart of [sensorBands, gateChart, latencyChart, countChart]) {
    const [text, bottom] = chart(y);
    svg += text;
    y = bottom + CHART.gap;
  }
  const height = y - 8;
  const frame = `${faultColumns(top, y - CHART.gap)}${svg}${timeAxis(y - CHART.gap)}
    <line id="cursor" y1="${top - 8}" y2="${y - CHART.gap}" stroke="var(--accent)" stroke-width="2"/>`;
  const hatch = `<defs><pattern id="hatch" width="8" height="8" patternTransform="rotate(45)" patternUnits="userSpaceOnUse">
    <rect width="8" height="8" fill="var(--fault)"/><line y2="8" stroke="var(--bad)" stroke-width="1.2" opacity=".45"/></pattern></defs>`;
  holder.innerHTML = `<svg viewBox="0 0 ${CHART.width} ${height}">${hatch}${frame}</svg>`;
  holder.firstChild.addEventListener("click", (event) => {
    const box = holder.firstChild.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * CHART.width;
    const t = START + ((x - CHART.left) / (CHART.width - CHART.left - CHART.right)) * (END - START);
    pause();
    show(frameAt(t));
  });
  moveCursor(STATE.frame);
}

/** Draw again when the width changes. */
function watchTimeline() {
  let width = 0;
  buildTimeline();
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (Math.abs(now - width) > 2) { width = now; buildTimeline(); }
  }).observe(document.getElementById("timeline"));
}

function moveCursor(frame) {
  const line = document.getElementById("cursor");
  line.setAttribute("x1", atX(D.time[frame]));
  line.setAttribute("x2", atX(D.time[frame]));
}

const title = (y, text, hint) => `<text class="title" x="0" y="${y - 12}">${esc(text)}` +
  (CHART.width < NARROW_PX ? `<title>${esc(hint)}</title></text>` : `<tspan dx="8" font-weight="400" fill="var(--soft)">${esc(hint)}</tspan></text>`);
const sensorLabel = (name) => (CHART.width < NARROW_PX ? name.replace(/^CAM_/, "C ").replace(/^RADAR_/, "R ").replaceAll("_", " ").toLowerCase().slice(0, 14) : name);

function faultColumns(top, bottom) {
  const wide = D.faults.filter((f) => f.to > START && f.from < END);
  return wide.map((f) => {
    const a = atX(Math.max(f.from, START)), b = atX(Math.min(f.to, END));
    return `<rect x="${a}" y="${top}" width="${b - a}" height="${bottom - top}" fill="url(#hatch)"/>`;
  }).join("");
}

function timeAxis(y) {
  const room = (CHART.width - CHART.left) / 44;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300].find((s) => (END - START) / s <= room) || 600;
  let text = "";
  for (let t = Math.ceil(START / step) * step; t <= END + 1e-6; t += step) {
    text += `<text x="${atX(t)}" y="${y + 18}" text-anchor="middle">${+t.toFixed(1)} s</text>`;
  }
  return text;
}

function sensorBands(y) {
  const half = D.time.length > 1 ? (END - START) / (D.time.length - 1) / 2 : 0.05;
  let svg = title(y, "Sensors", "green: used in the frame, red: the health gate keeps it out (hover for the reason), grey: nothing known");
  D.sensors.forEach((sensor, index) => {
    svg += `<text x="0" y="${y + 11}">${esc(sensorLabel(sensor.name))}</text>`;
    let from = 0;
    for (let i = 1; i <= D.time.length; i++) {
      const code = D.state.rows[from][index];
      if (i < D.time.length && D.state.rows[i][index] === code) continue;
      const a = atX(Math.max(START, D.time[from] - half)), b = atX(Math.min(END, D.time[i - 1] + half));
      const colour = ["var(--good)", "var(--none)"][code] || "var(--bad)";
      svg += `<rect x="${a}" y="${y}" width="${Math.max(b - a, 1)}" height="${CHART.row - 4}" rx="2" fill="${colour}" opacity=".88">
        <title>${esc(sensor.name)}: ${esc(D.state.reasons[code])}</title></rect>`;
      from = i;
    }
    y += CHART.row;
  });
  return [svg, y];
}

function gateChart(y) {
  const height = 120;
  let svg = title(y, "Gate weights", "how much the fusion leans on each modality; they add up to 1");
  svg += axis(y, height, 1, (v) => v.toFixed(1), 2);
  let floor = D.time.map(() => 0);
  D.modalities.forEach((modality, m) => {
    const roof = floor.map((v, i) => v + (D.gate[i][m] || 0));
    const up = D.time.map((t, i) => `${atX(t)},${y + height * (1 - roof[i])}`);
    const down = D.time.map((t, i) => `${atX(t)},${y + height * (1 - floor[i])}`).reverse();
    svg += `<polygon points="${[...up, ...down].join(" ")}" fill="${MODALITY_COLOURS[modality]}" opacity=".8"><title>${modality}</title></polygon>`;
    floor = roof;
  });
  svg += D.modalities.map((m, i) => `<rect x="0" y="${y + 8 + 20 * i}" width="11" height="11" rx="2" fill="${MODALITY_COLOURS[m]}"/>
    <text x="17" y="${y + 18 + 20 * i}">${{ lidar: "LiDAR", camera: "camera", radar: "radar", imu: "IMU", gnss: "GNSS" }[m]}</text>`).join("");
  return [svg, y + height];
}

function axis(y, height, top, format, lines = 2) {
  let svg = "";
  for (let i = 0; i <= lines; i++) {
    const at = y + height * (1 - i / lines);
    svg += `<line x1="${CHART.left}" x2="${CHART.width - CHART.right}" y1="${at}" y2="${at}" stroke="var(--line)"/>
      <text x="${CHART.left - 8}" y="${at + 4}" text-anchor="end">${format((top * i) / lines)}</text>`;
  }
  return svg;
}

function latencyChart(y) {
  const height = 110;
  const sorted = [...D.latency].sort((a, b) => a - b);
  const high = sorted[Math.min(sorted.length - 1, Math.floor(0.99 * sorted.length))];
  const top = Math.max(50, Math.ceil((high * 1.15) / 50) * 50);
  const at = (v) => y + height * (1 - Math.min(v, top) / top);
  let svg = title(y, D.live ? "Latency" : "Computing time", D.live
    ? "from the sensor's stamp to the published boxes; dot colour: the sensor that set the time"
    : "per frame; dot colour: the sensor that set the time");
  svg += axis(y, height, top, (v) => `${v.toFixed(0)} ms`);
  D.time.forEach((t, i) => {
    const sensor = D.sensors.find((s) => s.name === D.reference[i]);
    const colour = sensor ? MODALITY_COLOURS[sensor.modality] : "var(--none)";
    svg += `<circle cx="${atX(t)}" cy="${at(D.latency[i])}" r="3" fill="${colour}"><title>${esc(D.reference[i])}: ${D.latency[i].toFixed(0)} ms</title></circle>`;
  });
  return [svg, y + height];
}

function countChart(y) {
  const height = 100;
  const count = (ragged, frame, least) => rowsOf(ragged, frame).filter((row) => row[10] >= least).length;
  const found = D.time.map((_, i) => count(D.boxes, i, 0.3));
  const truth = D.time.map((_, i) => (D.truth_known[i] ? count(D.truth, i, 0) : null));
  const top = Math.max(4, Math.ceil((Math.max(...found, ...truth.map((v) => v || 0)) * 1.1) / 4) * 4);
  const line = (values) => values.map((v, i) => (v === null ? "" : `${atX(D.time[i])},${y + height * (1 - v / top)}`)).join(" ");
  let svg = title(y, "Boxes", "solid: detected with score 0.3 or more, dashed: true objects that LiDAR or radar could reach");
  svg += axis(y, height, top, (v) => v.toFixed(0));
  svg += `<polyline points="${line(truth)}" fill="none" stroke="var(--soft)" stroke-width="2" stroke-dasharray="5 4"/>
    <polyline points="${line(found)}" fill="none" stroke="var(--accent)" stroke-width="2.5"/>`;
  return [svg, y + height];
}
