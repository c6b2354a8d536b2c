// SPDX-License-Identifier: Apache-2.0
// Zoom, pan and the words on the box under the pointer, for mouse, touch and keyboard.
"use strict";

const HOVER = { box: null, truth: false };
const POINTERS = new Map();
const MAX_ZOOM = 12;
const SLACK_M = 0.6;

/** Pixel of the canvas under a pointer. */
function canvasPoint(event) {
  const frame = SCENE.getBoundingClientRect();
  return [((event.clientX - frame.left) / frame.width) * SCENE.width, ((event.clientY - frame.top) / frame.height) * SCENE.height];
}

function clampPort() {
  const reach = D.range_m * (1 - 1 / PORT.zoom);
  PORT.x = Math.max(-reach, Math.min(reach, PORT.x));
  PORT.y = Math.max(-reach, Math.min(reach, PORT.y));
}

/** Zoom by a factor; the place under the pixel stays where it is. */
function zoomAt(factor, u = HALF, v = HALF) {
  const [x, y] = metres(u, v);
  PORT.zoom = Math.max(1, Math.min(MAX_ZOOM, PORT.zoom * factor));
  const [nowX, nowY] = metres(u, v);
  PORT.x += x - nowX;
  PORT.y += y - nowY;
  clampPort();
  SCENE.style.touchAction = PORT.zoom > 1 ? "none" : "pan-y";
  SCENE.style.cursor = PORT.zoom > 1 ? "grab" : "crosshair";
  show(STATE.frame);
}

function resetPort() {
  Object.assign(PORT, { x: 0, y: 0, zoom: 1 });
  zoomAt(1);
}

function inside(box, x, y) {
  const c = Math.cos(box.yaw), s = Math.sin(box.yaw), dx = x - box.x, dy = y - box.y;
  return Math.abs(dx * c + dy * s) <= box.length / 2 + SLACK_M && Math.abs(dy * c - dx * s) <= box.width / 2 + SLACK_M;
}

/** The nearest box under a place, detections first. */
function boxAt(x, y) {
  const nearest = (boxes) => boxes.filter((box) => inside(box, x, y))
    .sort((a, b) => Math.hypot(a.x - x, a.y - y) - Math.hypot(b.x - x, b.y - y))[0];
  const chosen = options(), found = nearest(shownBoxes(STATE.frame, chosen));
  if (found || !chosen.truth) return { box: found || null, truth: false };
  return { box: nearest(rowsOf(D.truth, STATE.frame).map(boxOf)) || null, truth: true };
}

function hoverWords({ box, truth }) {
  const name = D.classes[box.label].replaceAll("_", " "), speed = Math.hypot(box.vx, box.vy);
  const score = truth ? "true object" : `score ${box.score.toFixed(2)}`;
  const motion = speed > 0.2 ? `${speed.toFixed(1)} m/s (${(speed * 3.6).toFixed(0)} km/h)` : "stands";
  const size = `${box.length.toFixed(1)} × ${box.width.toFixed(1)} × ${box.height.toFixed(1)} m`;
  return `<b>${esc(name)}</b> · ${score} · ${motion}<br>${Math.hypot(box.x, box.y).toFixed(1)} m away · ${size}`;
}

function drawHover() {
  PEN.lineWidth = 5;
  PEN.strokeStyle = "#fff";
  const { box } = HOVER;
  outline(corners({ ...box, length: box.length + 0.8, width: box.width + 0.8 }).slice(0, 4));
  PEN.stroke();
}

function showHover(event) {
  const [u, v] = canvasPoint(event), before = HOVER.box;
  Object.assign(HOVER, boxAt(...metres(u, v)));
  const tip = document.getElementById("tip"), holder = SCENE.parentElement.getBoundingClientRect();
  tip.hidden = !HOVER.box;
  if (HOVER.box) {
    tip.innerHTML = hoverWords(HOVER);
    tip.style.left = `${Math.min(event.clientX - holder.left + 14, holder.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${Math.max(4, event.clientY - holder.top - tip.offsetHeight - 10)}px`;
  }
  if (before || HOVER.box) show(STATE.frame);
}

function hideHover() {
  HOVER.box = null;
  document.getElementById("tip").hidden = true;
}

function movePointer(event) {
  const last = POINTERS.get(event.pointerId), now = canvasPoint(event);
  if (!last) return showHover(event);
  const others = [...POINTERS.entries()].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  POINTERS.set(event.pointerId, now);
  if (others.length) {
    const apart = (p) => Math.hypot(p[0] - others[0][0], p[1] - others[0][1]);
    return zoomAt(apart(now) / Math.max(apart(last), 1), (now[0] + others[0][0]) / 2, (now[1] + others[0][1]) / 2);
  }
  if (PORT.zoom === 1) return showHover(event);
  PORT.x += (now[1] - last[1]) / scale();
  PORT.y += (now[0] - last[0]) / scale();
  clampPort();
  hideHover();
  show(STATE.frame);
}

function buildViewport() {
  SCENE.addEventListener("wheel", (event) => {
    // The page scrolls on, unless the picture has the focus or is larger already.
    if (!event.ctrlKey && PORT.zoom === 1 && document.activeElement !== SCENE) return;
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY / 400), ...canvasPoint(event));
  }, { passive: false });
  SCENE.addEventListener("pointerdown", (event) => {
    SCENE.setPointerCapture(event.pointerId);
    POINTERS.set(event.pointerId, canvasPoint(event));
    showHover(event);
  });
  SCENE.addEventListener("pointermove", movePointer);
  for (const name of ["pointerup", "pointercancel"]) SCENE.addEventListener(name, (event) => POINTERS.delete(event.pointerId));
  SCENE.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { hideHover(); show(STATE.frame); } });
  SCENE.addEventListener("dblclick", (event) => (PORT.zoom > 1 ? resetPort() : zoomAt(3, ...canvasPoint(event))));
  document.getElementById("zoom-in").addEventListener("click", () => zoomAt(1.6));
  document.getElementById("zoom-out").addEventListener("click", () => zoomAt(1 / 1.6));
  document.getElementById("zoom-reset").addEventListener("click", resetPort);
}
