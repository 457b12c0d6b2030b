// Points on a canvas: zoom by wheel, move by dragging, the nearest point under the pointer.

const REACH = 12;
const FARTHEST = 60;

export class Scatter {
  constructor(canvas, { onHover, onChoose, onMove }) {
    Object.assign(this, { canvas, onHover, onChoose, onMove, points: [], marked: null, selected: null, linked: [], hovered: null, drag: null });
    this.whole = { x: 0, y: 0, scale: 1 };
    this.view = { ...this.whole, zoom: 1 };
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  show(points) {
    this.points = points;
    this.byId = new Map(points.map((point) => [point.id, point]));
    const range = (axis) => points.reduce(([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]);
    const [left, right] = range("x");
    const [low, high] = range("y");
    this.whole = { x: (left + right) / 2, y: (low + high) / 2, span: Math.max(right - left, high - low, 1e-9) };
    this.view = { ...this.whole, zoom: 1 };
    this.draw();
  }

  // A view as an address carries it: centre and zoom; "" is the whole map.
  look(text) {
    const [x, y, zoom] = text.split(",").map(Number);
    this.view = text && Number.isFinite(x + y + zoom) ? { x, y, zoom: clamp(zoom) } : { x: this.whole.x, y: this.whole.y, zoom: 1 };
    this.draw();
  }

  highlight(marked) {
    this.marked = marked;
    this.draw();
  }

  // The chosen point, and those that lines lead to.
  select(id, linked) {
    Object.assign(this, { selected: id, linked });
    this.draw();
  }

  recolour() {
    this.draw();
  }

  get scale() {
    const { clientWidth, clientHeight } = this.canvas;
    return (this.view.zoom * 0.94 * Math.min(clientWidth, clientHeight)) / (this.whole.span ?? 1);
  }

  place({ x, y }) {
    const { clientWidth, clientHeight } = this.canvas;
    return [clientWidth / 2 + (x - this.view.x) * this.scale, clientHeight / 2 - (y - this.view.y) * this.scale];
  }

  wheel(event) {
    event.preventDefault();
    const zoom = clamp(this.view.zoom * Math.exp(-event.deltaY / 400));
    const [dx, dy] = this.offset(event);
    const before = this.scale;
    this.view.zoom = zoom;
    // What is under the pointer stays there.
    this.view.x += dx / before - dx / this.scale;
    this.view.y -= dy / before - dy / this.scale;
    this.draw();
    clearTimeout(this.told);
    this.told = setTimeout(() => this.tell(), 250);
  }

  offset(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.drag = { x: event.clientX, y: event.clientY, moved: false };
  }

  move(event) {
    if (!this.drag) return this.point(event);
    const [dx, dy] = [event.clientX - this.drag.x, event.clientY - this.drag.y];
    if (!this.drag.moved && Math.hypot(dx, dy) < 4) return;
    Object.assign(this.drag, { x: event.clientX, y: event.clientY, moved: true });
    this.view.x -= dx / this.scale;
    this.view.y += dy / this.scale;
    this.point(null);
    this.draw();
  }

  up(event) {
    const moved = this.drag?.moved;
    this.drag = null;
    if (moved) this.tell();
    else {
      const nearest = this.nearest(event);
      if (nearest) this.onChoose(nearest.id);
    }
  }

  tell() {
    const { x, y, zoom } = this.view;
    this.onMove([x.toFixed(3), y.toFixed(3), zoom.toFixed(2)].join(","));
  }

  point(event) {
    const nearest = event && this.nearest(event);
    const id = nearest?.id ?? null;
    if (id !== this.hovered) {
      this.hovered = id;
      this.canvas.style.cursor = id === null ? "grab" : "pointer";
      this.draw();
    }
    this.onHover(id, event);
  }

  nearest(event) {
    const [dx, dy] = this.offset(event);
    const x = this.view.x + dx / this.scale;
    const y = this.view.y - dy / this.scale;
    let best = null;
    let least = (REACH / this.scale) ** 2;
    for (const point of this.points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least && (!this.marked || this.marked.has(point.id))) [best, least] = [point, distance];
    }
    return best;
  }

  draw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.paint();
    });
  }

  paint() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    Object.assign(canvas, { width: canvas.clientWidth * ratio, height: canvas.clientHeight * ratio });
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colours = [0, 1, 2, 3, 4].map((step) => style.getPropertyValue(`--level-${step}`));
    const grow = Math.min(2, this.view.zoom ** 0.35);
    for (const faint of [true, false]) {
      context.globalAlpha = faint && this.marked ? 0.13 : 0.85;
      for (const point of this.points) if (this.marked ? this.marked.has(point.id) !== faint : !faint) this.dot(context, point, colours[point.step], grow);
    }
    context.globalAlpha = 1;
    this.lines(context, style.getPropertyValue("--ring"));
    this.ring(context, this.selected, style.getPropertyValue("--ring"));
    this.ring(context, this.hovered, style.getPropertyValue("--ink"));
  }

  dot(context, point, colour, grow) {
    const [x, y] = this.place(point);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, point.size * grow, 0, 2 * Math.PI);
    context.fill();
  }

  lines(context, colour) {
    const from = this.byId?.get(this.selected);
    context.strokeStyle = colour;
    context.lineWidth = 1;
    for (const id of from ? this.linked : []) {
      const to = this.byId.get(id);
      if (!to) continue;
      context.beginPath();
      context.moveTo(...this.place(from));
      context.lineTo(...this.place(to));
      context.stroke();
    }
  }

  ring(context, id, colour) {
    const point = this.byId?.get(id);
    if (!point) return;
    const [x, y] = this.place(point);
    context.strokeStyle = colour;
    context.lineWidth = 2.5;
    context.beginPath();
    context.arc(x, y, point.size * Math.min(2, this.view.zoom ** 0.35) + 4, 0, 2 * Math.PI);
    context.stroke();
  }
}

function clamp(zoom) {
  return Math.max(0.5, Math.min(FARTHEST, zoom || 1));
}
