// SPDX-License-Identifier: Apache-2.0
// Wires the parts: one state, one `show`, and the controls.
"use strict";

const STATE = { frame: 0, playing: false, wall: 0, time: 0 };
const by = (id) => document.getElementById(id);

function options() {
  return { truth: by("show-truth").checked, points: by("show-points").checked, threshold: Number(by("threshold").value) };
}

function frameAt(t) {
  let best = 0;
  D.time.forEach((value, i) => { if (Math.abs(value - t) < Math.abs(D.time[best] - t)) best = i; });
  return best;
}

function narrate(frame, threshold) {
  const gone = D.sensors.filter((_, index) => D.state.rows[frame][index] > 1).map((s) => s.name);
  const cameras = D.sensors.filter((s) => s.modality === "camera").length;
  const dark = gone.filter((name) => name.startsWith("CAM")).length;
  const names = gone.filter((name) => !(dark === cameras && name.startsWith("CAM")));
  if (dark === cameras && dark > 0) names.push("all cameras");
  const boxes = rowsOf(D.boxes, frame).filter((row) => row[10] >= threshold).length;
  const alarm = names.length ? `<span class="alarm">Not used: ${names.map((n) => n.replaceAll("_", " ")).join(", ")}.</span> ` : "All sensors are in use. ";
  const truth = D.truth_known[frame] ? ` of ${rowsOf(D.truth, frame).length} true objects` : "";
  return `<b>${D.time[frame].toFixed(1)} s</b> · ${alarm}${boxes} boxes${truth}, timed by ${D.reference[frame] || "the timer"}, ` +
    `${D.live ? "published after" : "computed in"} ${D.latency[frame].toFixed(0)} ms.`;
}

function show(frame) {
  STATE.frame = frame;
  const chosen = options();
  by("slider").value = frame;
  by("threshold-value").textContent = chosen.threshold.toFixed(2);
  by("narrator").innerHTML = narrate(frame, chosen.threshold);
  drawScene(frame, chosen);
  drawViews(frame, chosen);
  drawLamps(frame);
  moveCursor(frame);
}

function tick(wall) {
  if (!STATE.playing) return;
  STATE.time += ((wall - STATE.wall) / 1000) * Number(by("speed").value);
  STATE.wall = wall;
  if (STATE.time > END) STATE.time = START;
  show(frameAt(STATE.time));
  requestAnimationFrame(tick);
}

function pause() {
  STATE.playing = false;
  by("play").textContent = "▶ Play";
}

function play() {
  STATE.playing = true;
  STATE.time = D.time[STATE.frame];
  STATE.wall = performance.now();
  by("play").textContent = "❚❚ Pause";
  requestAnimationFrame(tick);
}

function buildLegend() {
  const seen = new Set([...D.boxes.values.keys()].filter((i) => i % 11 === 9).map((i) => D.boxes.values[i]));
  [...D.truth.values.keys()].filter((i) => i % 11 === 9).forEach((i) => seen.add(D.truth.values[i]));
  const classes = [...seen].sort((a, b) => a - b).map((label) => `<span><i style="background:${rgb(label)}"></i>${D.classes[label].replaceAll("_", " ")}</span>`);
  classes.push('<span><i class="dashed"></i>truth</span>', `<span><i style="background:${MODALITY_COLOURS.lidar}"></i>LiDAR point</span>`,
    `<span><i style="background:${MODALITY_COLOURS.radar}"></i>radar point, line: its speed</span>`);
  by("legend").innerHTML = classes.join("");
}

function buildMarks() {
  by("slider").max = D.time.length - 1;
  by("marks").innerHTML = D.faults.filter((f) => !/^RADAR_/.test(f.sensor)).map((f) => {
    const left = (100 * (f.from - START)) / (END - START), right = (100 * (Math.min(f.to, END) - START)) / (END - START);
    return `<span style="left:${left}%;width:${right - left}%">${esc(faultText(f))}</span>`;
  }).join("");
}

function start() {
  buildLamps();
  buildLegend();
  buildTimeline();
  buildMarks();
  buildViews();
  by("play").addEventListener("click", () => (STATE.playing ? pause() : play()));
  by("slider").addEventListener("input", (event) => { pause(); show(Number(event.target.value)); });
  for (const id of ["threshold", "show-truth", "show-points"]) by(id).addEventListener("input", () => show(STATE.frame));
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.target.tagName === "SELECT") return;
    if (event.key === " ") { event.preventDefault(); by("play").click(); }
    if (event.key === "ArrowRight") show(Math.min(STATE.frame + 1, D.time.length - 1));
    if (event.key === "ArrowLeft") show(Math.max(STATE.frame - 1, 0));
  });
  const asked = Number((location.hash.match(/t=([\d.]+)/) || [])[1]);
  const fault = D.faults.find((f) => f.sensor.startsWith("LIDAR"));
  show(frameAt(Number.isFinite(asked) ? asked : fault ? (fault.from + fault.to) / 2 : START));
}

start();
