// Canvas: trends over time, and the map of many cells.
import { known, power, time } from "./core.js";

const css = getComputedStyle(document.documentElement);
export const colour = (name) => css.getPropertyValue(`--${name}`).trim();

function fit(canvas) {
  const ratio = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const w = Math.max(10, Math.round(box.width * ratio)), h = Math.max(10, Math.round(box.height * ratio));
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [pen, w / ratio, h / ratio];
}

function nice(span, about) {
  const step = span / about, size = 10 ** Math.floor(Math.log10(step || 1));
  return [1, 2, 5, 10].find((k) => k * size >= step) * size;
}

// lines: [{values: [[seconds, value]], tone, dash, step}]; times are wall seconds.
export function trend(canvas, lines, { from, to, low, high, unit = power, now = NaN } = {}) {
  const [pen, width, height] = fit(canvas);
  const left = 62, right = 8, top = 6, bottom = 20;
  const inside = lines.map((line) => line.values.filter(([t]) => t >= from && t <= to));
  const values = inside.flat().map(([, v]) => v).filter(known);
  let min = low ?? Math.min(...values), max = high ?? Math.max(...values);
  if (!known(min) || !known(max)) {
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colour("dim");
    pen.fillText("no values yet", left, height / 2);
    return;
  }
  const pad = Math.max((max - min) * 0.08, Math.abs(max) * 0.002, 1e-9);
  [min, max] = [low ?? min - pad, max + pad];
  const x = (t) => left + ((t - from) / (to - from)) * (width - left - right);
  const y = (v) => height - bottom - ((v - min) / (max - min)) * (height - top - bottom);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  pen.lineWidth = 1;
  pen.strokeStyle = colour("line");
  pen.fillStyle = colour("dim");
  pen.textAlign = "right";
  const step = nice(max - min, height > 160 ? 5 : 3);
  for (let v = Math.ceil(min / step) * step; v <= max; v += step) {
    pen.beginPath(); pen.moveTo(left, y(v)); pen.lineTo(width - right, y(v)); pen.stroke();
    pen.fillText(unit(v), left - 5, y(v) + 4);
  }
  pen.textAlign = "center";
  const every = [10, 30, 60, 120, 300, 600, 900, 1800, 3600].find((s) => (to - from) / s <= (width - left) / 75) ?? 3600;
  for (let t = Math.ceil(from / every) * every; t <= to; t += every) {
    if (x(t) > left + 18 && x(t) < width - 20) pen.fillText(time(t * 1000).slice(0, every < 60 ? 8 : 5), x(t), height - 5);
  }
  if (known(now)) { pen.beginPath(); pen.moveTo(x(now), top); pen.lineTo(x(now), height - bottom); pen.stroke(); }
  pen.save();
  pen.beginPath(); pen.rect(left, top, width - left - right, height - top - bottom); pen.clip();
  lines.forEach((line, i) => {
    pen.strokeStyle = colour(line.tone ?? "trend");
    pen.lineWidth = line.thick ?? 1.6;
    pen.setLineDash(line.dash ?? []);
    pen.beginPath();
    let before = null;
    for (const [t, v] of inside[i]) {
      if (!known(v)) { before = null; continue; }
      if (before === null) pen.moveTo(x(t), y(v));
      else { if (line.step) pen.lineTo(x(t), y(before)); pen.lineTo(x(t), y(v)); }
      before = v;
    }
    pen.stroke();
  });
  pen.restore();
  pen.setLineDash([]);
}

// Racks as cells: a block for each hall, a line for each row of racks.
export class RackMap {
  constructor(canvas, sheet, { hover, pick }) {
    Object.assign(this, { canvas, sheet, cells: [], at: -1 });
    canvas.tabIndex = 0;
    canvas.addEventListener("mousemove", (e) => { const i = this.find(e); hover(i, e); if (i !== this.at) { this.at = i; this.again(); } });
    canvas.addEventListener("mouseleave", (e) => { this.at = -1; hover(-1, e); this.again(); });
    canvas.addEventListener("click", (e) => { const i = this.find(e); if (i >= 0) pick(i); });
    canvas.addEventListener("keydown", (e) => {
      if (!this.cells.length) return; // nothing is drawn yet
      const by = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (by) this.at = Math.max(0, Math.min(sheet.racks.id.length - 1, this.at + by));
      else if (e.key === "ArrowDown" || e.key === "ArrowUp") this.at = this.beside(e.key === "ArrowDown" ? 1 : -1);
      else if (e.key === "Enter" && this.at >= 0) return pick(this.at);
      else return;
      e.preventDefault();
      hover(this.at, null);
      this.again();
    });
    const halls = new Map();
    sheet.racks.hall.forEach((hall, i) => {
      if (!halls.has(hall)) halls.set(hall, new Map());
      const rows = halls.get(hall), name = sheet.racks.row[i];
      if (!rows.has(name)) rows.set(name, []);
      rows.get(name).push(i);
    });
    this.halls = [...halls].map(([name, rows]) => [name, [...rows.values()]]);
    this.longest = Math.max(...this.halls.flatMap(([, rows]) => rows.map((r) => r.length)));
  }
  layout(width) {
    const across = Math.min(this.halls.length, width > 1000 ? 4 : width > 600 ? 3 : 2);
    const gap = 14, title = 18, block = (width - gap * (across - 1)) / across;
    const cw = block / this.longest, tallest = Math.max(...this.halls.map(([, rows]) => rows.length));
    const lines = Math.ceil(this.halls.length / across) * tallest, seen = (innerHeight - 240) / lines; // all of it at a glance
    const ch = Math.max(6, Math.min(this.halls.length === 1 ? 34 : 12, cw * 0.8, width > 600 ? seen : Infinity));
    this.cells = new Array(this.sheet.racks.id.length);
    this.titles = [];
    let y = 0;
    for (let k = 0; k < this.halls.length; k += across) {
      this.halls.slice(k, k + across).forEach(([name, rows], j) => {
        const x = j * (block + gap);
        this.titles.push([name, x, y + 12]);
        rows.forEach((row, r) => row.forEach((i, c) => (this.cells[i] = [x + c * cw, y + title + r * ch, cw - 1, ch - 1])));
      });
      y += title + tallest * ch + gap;
    }
    const tall = `${Math.ceil(y)}px`;
    if (this.canvas.style.height !== tall) this.canvas.style.height = tall;
    this.laid = width;
  }
  again() { if (this.paint) this.draw(this.paint, this.mark); }
  draw(paint, mark) {
    Object.assign(this, { paint, mark });
    const width = this.canvas.getBoundingClientRect().width;
    if (width !== this.laid) this.layout(width);
    const [pen, w, h] = fit(this.canvas);
    pen.clearRect(0, 0, w, h);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = colour("dim");
    for (const [name, x, y] of this.titles) pen.fillText(name, x, y);
    const marks = [];
    this.cells.forEach(([x, y, cw, ch], i) => {
      pen.fillStyle = paint(i);
      pen.fillRect(x, y, cw, ch);
      const m = mark(i);
      if (m) marks.push([x, y, cw, ch, m]);
    });
    pen.lineWidth = 1.5;
    for (const [x, y, cw, ch, tone] of marks) { // a cross: to be seen without colour
      pen.strokeStyle = tone;
      pen.beginPath(); pen.moveTo(x, y); pen.lineTo(x + cw, y + ch); pen.moveTo(x + cw, y); pen.lineTo(x, y + ch); pen.stroke();
    }
    if (this.at >= 0) { const [x, y, cw, ch] = this.cells[this.at]; pen.strokeStyle = "#fff"; pen.strokeRect(x - 0.5, y - 0.5, cw + 1, ch + 1); }
  }
  find(event) {
    const box = this.canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    return this.cells.findIndex(([x, y, w, h]) => px >= x && px <= x + w && py >= y && py <= y + h);
  }
  beside(by) {
    if (this.at < 0) return 0;
    const [x, y] = this.cells[this.at];
    let best = this.at, far = Infinity;
    this.cells.forEach(([cx, cy], i) => {
      const dy = (cy - y) * by;
      if (dy > 1 && dy + Math.abs(cx - x) * 0.5 < far) [best, far] = [i, dy + Math.abs(cx - x) * 0.5];
    });
    return best;
  }
}

// Grey scale for what is normal: `x` from 0 (dark) to 1 (light).
const GREYS = Array.from({ length: 101 }, (_, i) => `hsl(210 6% ${18 + 0.56 * i}%)`);
export const grey = (x) => (known(x) ? GREYS[Math.max(0, Math.min(100, Math.round(100 * x)))] : "#000");
const BLUES = Array.from({ length: 101 }, (_, i) => `hsl(214 ${68 - 0.6 * i}% ${52 - 0.08 * i}%)`);
export const blue = (x) => (known(x) ? BLUES[Math.max(0, Math.min(100, Math.round(100 * x)))] : "#000"); // 1 is grey
