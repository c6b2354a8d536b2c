// SPDX-License-Identifier: Apache-2.0
// Wires the parts: one state, one `show`, and the controls.
"use strict";

const STATE = { frame: 0, playing: false, wall: 0, time: 0 };
/** Sensors that no frame used: the vehicle has none of that name, or it never spoke. */
const ABSENT = D.sensors.map((_, index) => D.state.rows.every((row) => row[index] > 0));
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
  const gone = D.sensors.filter((_, index) => D.state.rows[frame][index] > 1 && !ABSENT[index]).map((s) => s.name);
  const cameras = D.sensors.filter((s, index) => s.modality === "camera" && !ABSENT[index]).length;
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
  if (Math.abs(Number(by("slider").value) - D.time[frame]) > 0.005) by("slider").value = D.time[frame];
  by("clock").textContent = `${D.time[frame].toFixed(1)} s`;
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

/** Stop and go some frames on or back. */
function step(frames) {
  pause();
  show(Math.max(0, Math.min(STATE.frame + frames, D.time.length - 1)));
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
  classes.push('<span><i class="dashed"></i>truth</span>', `<span><i class="gradient" style="background:linear-gradient(90deg, ${LIDAR_GROUND} 34%, ${lidarColour(0)} 34%, ${lidarColour(1)})"></i>LiDAR point: ground, then by height</span>`,
    `<span><i style="background:${MODALITY_COLOURS.radar}"></i>radar point, line: its speed</span>`);
  by("legend").innerHTML = classes.join("");
}

/** Faults below the slider, on its axis of time; those that overlap stand in rows. */
function buildMarks() {
  const ends = [];
  by("slider").min = START;
  by("slider").max = END;
  by("marks").innerHTML = D.faults.filter((f) => f.to > START && f.from < END).map((f) => {
    const left = share(Math.max(f.from, START)), right = share(Math.min(f.to, END));
    let row = ends.findIndex((end) => end <= f.from);
    row = row < 0 ? ends.length : row;
    ends[row] = f.to;
    return `<span style="left:${left}%;width:${right - left}%;top:${17 * row}px" title="${esc(faultText(f))}">${esc(faultText(f))}</span>`;
  }).join("");
  by("marks").style.height = `${17 * ends.length}px`;
}

const share = (t) => (100 * (t - START)) / (END - START);

/** Where to begin: at a fault of the LiDAR, else where most sensors are in use and most is seen. */
function firstFrame() {
  const fault = D.faults.find((f) => /^lidar/i.test(f.sensor));
  if (fault) return frameAt((fault.from + fault.to) / 2);
  const worth = D.time.map((_, i) => [D.state.rows[i].filter((code) => code === 0).length, shownBoxes(i, options()).length]);
  return worth.reduce((best, [used, seen], i) => (used > worth[best][0] || (used === worth[best][0] && seen > worth[best][1]) ? i : best), 0);
}

function onKey(event) {
  const target = event.target, slides = target.id === "slider";
  if (event.ctrlKey || event.metaKey || event.altKey || target.tagName === "SELECT") return;
  const presses = target.tagName === "BUTTON" || target.type === "checkbox" || target.tagName === "FIGURE";
  const handled = { " ": !presses && (() => by("play").click()), ArrowRight: () => step(1), ArrowLeft: () => step(-1),
    "+": () => zoomAt(1.6), "-": () => zoomAt(1 / 1.6), 0: resetPort };
  if ((target.type === "range" && !slides && event.key !== " ") || !handled[event.key]) return;
  event.preventDefault();
  handled[event.key]();
}

function start() {
  buildLamps();
  buildLegend();
  watchTimeline();
  buildMarks();
  buildViews();
  buildViewport();
  by("play").addEventListener("click", () => (STATE.playing ? pause() : play()));
  by("slider").addEventListener("input", (event) => { pause(); show(frameAt(Number(event.target.value))); });
  for (const id of ["threshold", "show-truth", "show-points"]) by(id).addEventListener("input", () => show(STATE.frame));
  document.addEventListener("keydown", onKey);
  const asked = Number((location.hash.match(/t=([\d.]+)/) || [])[1]);
  show(Number.isFinite(asked) ? frameAt(asked) : firstFrame());
}

start();
