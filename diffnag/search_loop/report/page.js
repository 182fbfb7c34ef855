
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const LOW = 0.1; // one in ten values may lie outside the plot: a few broken networks would squash all others
const TOLD = 200; // letters of an architecture beside its mark; the panel has all
const EDGE = { left: 62, right: 14, top: 12, bottom: 44 };

// -- elements

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function html(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function codeBlock(text) {
  const block = html("pre", { tabIndex: 0 }, html("code", {}, text));
  return html("div", { className: "code wrapped" }, html("button", { type: "button", className: "copy" }, "Copy"), block);
}

// -- plots

function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

function figure(value) {
  const large = Math.abs(value) >= 1e4;
  return value.toLocaleString("en", large ? { notation: "compact", maximumFractionDigits: 2 } : { maximumSignificantDigits: 6 });
}

function widened([low, high], share) {
  const margin = share * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

// The range of the label: what was stopped early and the worst tenth may lie outside.
function labelRange() {
  const whole = data.points.filter((point) => point.state === "done");
  const ordered = (whole.length ? whole : data.points).map((point) => point.y).sort((a, b) => a - b);
  const cut = Math.floor(ordered.length * LOW);
  return widened(data.label.maximise ? [ordered[cut], ordered.at(-1)] : [ordered[0], ordered.at(-1 - cut)], 0.08);
}

// The frame of a plot as wide as its place, with ticks and titles; `x` and `y` turn values into pixels.
function framed(place, xRange, yRange, xTitle, yTitle, whole) {
  const width = Math.max(place.clientWidth, 240);
  const height = Math.round(Math.min(420, Math.max(260, width * 0.62)));
  const inner = { width: width - EDGE.left - EDGE.right, height: height - EDGE.top - EDGE.bottom - 16 };
  const top = EDGE.top + 16;
  const x = (value) => EDGE.left + ((value - xRange[0]) / (xRange[1] - xRange[0])) * inner.width;
  const y = (value) => top + inner.height * (1 - (value - yRange[0]) / (yRange[1] - yRange[0]));
  const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, height });
  for (const value of ticks(...yRange, 6)) {
    made.append(svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }));
    made.append(svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, figure(value)));
  }
  for (const value of ticks(...xRange, Math.min(7, inner.width / 60)).filter((each) => !whole || Number.isInteger(each))) {
    made.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: top + inner.height }));
    made.append(svg("text", { x: x(value), y: top + inner.height + 17, "text-anchor": "middle" }, figure(value)));
  }
  made.append(svg("text", { x: EDGE.left + inner.width / 2, y: height - 6, "text-anchor": "middle" }, xTitle));
  made.append(svg("text", { x: 4, y: 12 }, yTitle));
  place.replaceChildren(made);
  const clamp = (value) => Math.min(Math.max(y(value), top + 6), top + inner.height - 6);
  return { made, x, y, clamp, width, bottom: top + inner.height };
}

function triangle(x, y, up) {
  return `M${x - 5} ${y + (up ? 4 : -4)}h10l-5 ${up ? -9 : 9}z`;
}

function marks(kinds, x, y, outside) {
  const found = [];
  if (outside) found.push(svg("path", { class: `mark ${kinds}`, d: triangle(x, y, outside === "above") }));
  else found.push(svg("circle", { class: `mark ${kinds}`, cx: x, cy: y, r: kinds.includes("front") ? 6 : 4.5 }));
  return found;
}

function stepPath(pairs, xFirst) {
  return pairs.map(([x, y], k) => (k === 0 ? `M${x} ${y}` : xFirst ? `H${x}V${y}` : `V${y}H${x}`)).join("");
}

// -- the scatter

let current = null; // number of the evaluation that the keyboard stands on
let shown = null; // number of the evaluation in the panel
let places = []; // what the scatter shows, from left to right: point, its place, its element

function drawScatter() {
  const place = byId("scatter");
  const axis = Number(byId("axis").value);
  const there = data.points.filter((point) => point.x[axis] !== null && point.x[axis] !== undefined);
  places = [];
  if (there.length === 0) {
    place.replaceChildren(html("p", { className: "note" }, "Nothing can be shown: no evaluation has these values."));
    return;
  }
  const { name, title } = data.axes[axis];
  const xs = there.map((point) => point.x[axis]);
  const xRange = widened([Math.min(...xs), Math.max(...xs)], 0.05);
  const yRange = labelRange();
  const plot = framed(place, xRange, yRange, title, data.label.title, name === "label");
  plot.made.setAttribute("role", "group");
  plot.made.setAttribute("aria-label", `${data.label.title} against ${title}, ${there.length} evaluations`);
  plot.made.setAttribute("aria-describedby", "scatter-help");
  const members = there.filter((point) => point.front).sort((a, b) => a.x[axis] - b.x[axis]);
  if (data.spans.length === 2 && data.spans.includes(name) && members.length > 1) {
    const pairs = members.map((point) => [plot.x(point.x[axis]), plot.clamp(point.y)]);
    plot.made.append(svg("path", { class: "step faint", d: stepPath(pairs, data.minimised.includes(name)) }));
  }
  const behind = [...there].sort((a, b) => a.front - b.front || a.best - b.best);
  for (const point of behind) {
    const [x, y] = [plot.x(point.x[axis]), plot.clamp(point.y)];
    const outside = point.y < yRange[0] ? "below" : point.y > yRange[1] ? "above" : null;
    const drawn = [svg("circle", { class: "halo", cx: x, cy: y, r: 11 }), ...marks(point.front ? "front" : point.state, x, y, outside)];
    if (point.best) drawn.push(svg("circle", { class: "mark best", cx: x, cy: y, r: 9 }));
    const label = `${point.title}: ${point.text}; ${point.arch}`;
    const attributes = { class: "point", role: "button", tabindex: -1, "aria-label": label, "data-point": point.n, "aria-pressed": point.n === shown };
    const element = svg("g", attributes, ...drawn);
    element.addEventListener("focus", () => { current = point.n; roam(); tell(point); });
    element.addEventListener("blur", hush);
    plot.made.append(element);
    places.push({ point, x, y, element });
  }
  places.sort((a, b) => a.x - b.x || b.y - a.y);
  if (!places.some((each) => each.point.n === current)) current = (places.find((each) => each.point.best) ?? places[0]).point.n;
  roam();
  const scale = () => plot.width / plot.made.getBoundingClientRect().width;
  const nearest = (event) => {
    const box = plot.made.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) * scale(), (event.clientY - box.top) * scale()];
    const far = (each) => Math.hypot(each.x - x, each.y - y);
    const found = places.reduce((a, b) => (far(b) < far(a) ? b : a));
    return far(found) <= 28 ? found : null;
  };
  plot.made.addEventListener("pointermove", (event) => {
    const found = nearest(event);
    if (found) tell(found.point); else hush();
  });
  plot.made.addEventListener("pointerleave", hush);
  plot.made.addEventListener("click", (event) => {
    const found = nearest(event);
    if (found) choose(found.point, true);
  });
  plot.made.addEventListener("keydown", move);
}

// One mark at a time can be reached by the Tab key; arrows move from there.
function roam() {
  for (const { point, element } of places) element.setAttribute("tabindex", point.n === current ? 0 : -1);
}

function move(event) {
  const at = places.findIndex((each) => each.point.n === current);
  const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: places.length - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    places[Math.min(Math.max(to, 0), places.length - 1)].element.focus();
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(places[at].point, true);
  } else if (event.key === "Escape") hush();
}

function tell(point) {
  const tip = byId("tip");
  const { element } = places.find((each) => each.point === point);
  for (const each of places) each.element.classList.toggle("near", each.element === element);
  tip.replaceChildren(html("b", {}, point.title), point.text, html("code", {}, point.arch.length > TOLD ? `${point.arch.slice(0, TOLD)}…` : point.arch));
  tip.hidden = false;
  const box = element.getBoundingClientRect();
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(box.left + window.scrollX - tip.offsetWidth / 2, room))}px`;
  const above = box.top - tip.offsetHeight - 8;
  tip.style.top = `${window.scrollY + (above >= 0 ? above : box.bottom + 8)}px`;
}

function hush() {
  byId("tip").hidden = true;
  for (const each of places) each.element.classList.remove("near");
}

// Shows an evaluation in the panel; `look` brings the panel into sight.
function choose(point, look) {
  shown = point.n;
  for (const each of places) each.element.setAttribute("aria-pressed", each.point.n === shown);
  const drawing = byId(`drawing-${point.n}`);
  const picture = drawing
    ? html("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Drawing" }, drawing.content.cloneNode(true))
    : html("p", { className: "note" }, "It is not drawn in this page; the command at its end draws any architecture.");
  byId("chosen").replaceChildren(html("h3", {}, point.title), picture, html("p", {}, point.text), codeBlock(point.arch));
  if (look) byId("chosen").scrollIntoView({ block: "nearest" });
}

function drawLegend() {
  const seen = [
    [data.points.some((point) => point.front), "front", "on the front"],
    [data.points.some((point) => point.best), "best", data.spans.length ? `the best ${data.label.name}` : "the best"],
    [data.points.some((point) => point.state === "done" && !point.front), "done", "evaluated"],
    [data.points.some((point) => point.state === "pruned"), "pruned", "stopped early"],
  ];
  const rows = seen.filter(([there]) => there).map(([, kind, text]) => {
    const mark = svg("circle", { class: `mark ${kind}`, cx: 9, cy: 9, r: kind === "best" ? 7.5 : 5 });
    return html("li", {}, svg("svg", { viewBox: "0 0 18 18", "aria-hidden": true }, mark), text);
  });
  const [low, high] = labelRange();
  if (data.points.some((point) => point.y < low || point.y > high)) {
    rows.push(html("li", { className: "note" }, `triangles lie ${data.label.maximise ? "below" : "above"} the range`));
  }
  byId("legend").replaceChildren(...rows);
}

// -- the curves

function drawCurve() {
  const place = byId("curve");
  const values = data.curve.map((value, k) => [k + 1, value]).filter(([, value]) => value !== null);
  if (values.length === 0) {
    place.replaceChildren(html("p", { className: "note" }, "No evaluation has a value."));
    return;
  }
  const labels = data.axes.findIndex((axis) => axis.name === "label");
  const count = data.curve.length;
  const yRange = labelRange();
  const plot = framed(place, widened([1, Math.max(count, 2)], 0.03), yRange, "labels paid for (evaluations)", data.label.title, true);
  const [first, last] = [values[0], values.at(-1)];
  plot.made.setAttribute("role", "img");
  plot.made.setAttribute("aria-label", `Best so far: ${figure(first[1])} after ${first[0]} labels, ${figure(last[1])} after ${count}`);
  for (const point of data.points) {
    const outside = point.y < yRange[0] ? "below" : point.y > yRange[1] ? "above" : null;
    plot.made.append(...marks(point.state, plot.x(point.x[labels]), plot.clamp(point.y), outside));
  }
  for (const label of data.failed) {
    const [x, y] = [plot.x(label), plot.bottom - 8];
    plot.made.append(svg("path", { class: "mark failed", d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` }));
  }
  plot.made.append(svg("path", { class: "step", d: stepPath(values.map(([k, value]) => [plot.x(k), plot.clamp(value)]), true) }));
}

function drawGrowth() {
  const place = byId("growth");
  if (!place || data.hypervolumes.length === 0) return;
  const values = data.hypervolumes;
  const yRange = widened([Math.min(...values), Math.max(...values)], 0.05);
  const plot = framed(place, widened([1, Math.max(values.length, 2)], 0.03), yRange, "labels paid for (evaluations)", "hypervolume of the front", true);
  plot.made.setAttribute("role", "img");
  plot.made.setAttribute("aria-label", `Hypervolume of the front: ${figure(values[0])} after 1 label, ${figure(values.at(-1))} after ${values.length}`);
  plot.made.append(svg("path", { class: "step", d: stepPath(values.map((value, k) => [plot.x(k + 1), plot.y(value)]), true) }));
}

function drawAll() {
  hush();
  drawScatter();
  drawCurve();
  drawGrowth();
}

// -- copying

async function copy(button) {
  const text = button.parentElement.querySelector("code");
  const selection = window.getSelection();
  let copied = false;
  try {
    await navigator.clipboard.writeText(text.textContent);
    copied = true;
  } catch {
    selection.selectAllChildren(text); // without the right to the clipboard, the text is at least selected
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Selected";
  byId("said").textContent = copied ? "Copied to the clipboard" : "The code is selected";
  setTimeout(() => { button.textContent = "Copy"; byId("said").textContent = ""; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("copy")) copy(button);
  if (button?.dataset.number !== undefined) {
    choose(data.points.find((point) => point.n === Number(button.dataset.number)), true);
  }
});
byId("axis").addEventListener("change", drawScatter);
let width = 0;
new ResizeObserver(() => {
  if (byId("scatter").clientWidth !== width) {
    width = byId("scatter").clientWidth;
    drawAll();
  }
}).observe(byId("scatter"));
const best = data.points.find((point) => point.best) ?? data.points[0];
if (best) choose(best, false);
drawLegend();
