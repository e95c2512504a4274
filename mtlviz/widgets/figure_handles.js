// Handles that are dragged over a figure, and the questions that their moves put to the kernel.
// One of the four parts of FigureView's module, which mtlviz/widgets/figure_view.py joins; see figure_view.js.
//
// Browser to kernel: {kind: "moved", handle, x, y, ticket} and {kind: "waited", ticket, since_event, since_sent}. A figure with
// `layout.meta.answers` answers all moves up to that ticket: figures that the browser was too busy for are skipped.

const ASK_WAIT = 1000; // ms without an answer after which the next move is sent all the same
const HOLD = 3000; // ms without an answer after which a released handle goes back to where the figure has it
const STEP = 0.01; // of the axis, for an arrow key
const LEAP = 0.05; // of the axis, for an arrow key with Shift
const REMEMBERED = 100; // moves whose times the page keeps, for views that draw their answer later
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// Of all views: an answer may be drawn by another view than the one whose handle moved. Tickets of an earlier page are smaller.
page.moves ??= { ticket: Date.now(), times: new Map() };

// The moves of one model's handles: where those stand that the figure does not know yet, one question in flight, the newest waits.
class Moves {
  constructor(model, signal, replace) {
    Object.assign(this, { model, replace, places: new Map(), waiting: new Map(), asked: null, noted: null, timer: 0, holding: 0 });
    signal.addEventListener("abort", () => [this.timer, this.holding].forEach(clearTimeout));
  }

  get grabbed() {
    return [...this.places.values()].some((place) => place.grabbed);
  }

  grab(handle, x, y) {
    this.places.set(handle, { sent: -Infinity, ticket: -Infinity, ...this.places.get(handle), x, y, grabbed: true });
  }

  move(handle, x, y, event) {
    const place = this.places.get(handle) ?? { sent: -Infinity, ticket: -Infinity, grabbed: false };
    if (place.x === x && place.y === y) return;
    this.places.set(handle, Object.assign(place, { x, y }));
    this.waiting.set(handle, event.timeStamp);
    this.replace();
    this.ask();
  }

  release(handle) {
    const place = this.places.get(handle);
    if (place) place.grabbed = false;
    this.settle();
  }

  ask() {
    if (this.asked !== null || !this.waiting.size) return;
    const [handle, event] = this.waiting.entries().next().value;
    const place = this.places.get(handle);
    this.waiting.delete(handle);
    const { times } = page.moves;
    const ticket = ++page.moves.ticket;
    const sent = performance.now();
    times.set(ticket, { event, sent, by: this });
    if (times.size > REMEMBERED) times.delete(times.keys().next().value);
    this.asked = ticket;
    Object.assign(place, { ticket, sent });
    tell(this.model, { kind: "moved", handle, x: place.x, y: place.y, ticket });
    this.timer = setTimeout(() => this.answered(ticket), ASK_WAIT);
    clearTimeout(this.holding);
    this.holding = setTimeout(() => this.settle(), HOLD);
  }

  answered(ticket) {
    if (this.asked === null || ticket < this.asked) return;
    clearTimeout(this.timer);
    this.asked = null;
    this.ask();
  }

  // Lets go of the places that the figure knows by now, or does not want to know.
  settle() {
    const old = performance.now() - HOLD;
    for (const [handle, { grabbed, ticket, sent }] of this.places) {
      if (!grabbed && !this.waiting.has(handle) && (ticket <= this.noted || sent <= old)) this.places.delete(handle);
    }
    this.replace();
  }

  // This model's figure is drawn, and answers the moves up to this ticket.
  note(ticket) {
    if (typeof ticket === "number" && ticket !== this.noted) {
      this.noted = ticket;
      page.moves.times.get(ticket)?.by.answered(ticket); // in whichever view of the page; where it was forgotten, ASK_WAIT ends it
      this.measure(ticket);
    }
    this.settle();
  }

  measure(ticket) {
    const times = page.moves.times.get(ticket);
    if (!times) return;
    requestAnimationFrame(() => { // what was drawn before this frame is painted
      const now = performance.now();
      tell(this.model, { kind: "waited", ticket, since_event: now - times.event, since_sent: now - times.sent });
    });
  }
}

// The handles of one view: elements over the plot, not in it, so that no picture or download has them.
class HandleLayer {
  constructor(element, plot, moves) {
    Object.assign(this, { element, plot, moves, handles: [], spec: null, listening: false, layer: document.createElement("div") });
    this.layer.className = "mtlviz-handles";
    element.append(this.layer);
  }

  // An element that is taken out of the page amid a drag hears no end of it.
  dispose() {
    this.handles.forEach((_, handle) => this.moves.release(handle));
    this.layer.remove();
  }

  // What the figure that was just drawn says of its handles.
  follow(spec) {
    if (!this.listening) {
      ["plotly_afterplot", "plotly_relayout", "plotly_relayouting"].forEach((name) => this.plot.on(name, () => this.place()));
      this.listening = true;
    }
    this.spec = spec;
    const count = spec?.points?.length ?? 0;
    while (this.handles.length > count) this.drop(this.handles.pop(), this.handles.length);
    while (this.handles.length < count) this.handles.push(this.make(this.handles.length));
    this.place();
  }

  drop(element, handle) {
    element.remove();
    this.moves.places.delete(handle);
    this.moves.waiting.delete(handle);
  }

  make(handle) {
    const element = document.createElement("button");
    element.type = "button";
    element.className = "mtlviz-handle";
    element.dataset.lmSuppressShortcuts = "true"; // JupyterLab's arrow keys would move on to another cell
    element.addEventListener("keydown", (event) => this.press(handle, event));
    element.addEventListener("pointerdown", (event) => this.grab(handle, element, event));
    this.layer.append(element);
    return element;
  }

  // The first axes as plotly.js holds them, or null: d2p, p2d, d2l and l2d are not public, tests/browser/test_handles.py watches them.
  axes() {
    const { xaxis, yaxis } = this.plot._fullLayout ?? {};
    return xaxis?._length && yaxis?._length ? [xaxis, yaxis] : null;
  }

  data(handle) {
    const { x, y } = this.moves.places.get(handle) ?? {};
    return x === undefined ? this.spec.points[handle] : [x, y];
  }

  place() {
    const axes = this.axes();
    this.handles.forEach((element, handle) => {
      const data = this.data(handle);
      const pixels = axes?.map((axis, side) => axis.d2p(data[side]));
      element.hidden = !pixels || !axes.every((axis, side) => pixels[side] >= -0.5 && pixels[side] <= axis._length + 0.5);
      if (element.hidden) return;
      element.style.left = `${axes[0]._offset + pixels[0]}px`;
      element.style.top = `${axes[1]._offset + pixels[1]}px`;
      const label = this.spec.labels?.[handle] ?? String(handle + 1);
      if (element.textContent !== label) element.textContent = label;
      element.setAttribute("aria-label", `${this.spec.noun ?? "start"} ${label} at ${this.spoken(data)}`);
    });
  }

  spoken(data) {
    const { xaxis, yaxis } = this.plot.layout;
    const names = [xaxis, yaxis].map((axis, side) => (axis?.title?.text ?? "xy"[side]).replace(/<[^>]*>/g, ""));
    const numbers = data.map((value) => String(Number(value.toPrecision(3))).replace("-", "−"));
    return names.map((name, side) => `${name} = ${numbers[side]}`).join(", ");
  }

  // Moves a handle to a place in pixels of the axes, or to the nearest one within them.
  moveTo(handle, pixels, event) {
    const axes = this.axes();
    if (!axes) return;
    const [x, y] = axes.map((axis, side) => Number(axis.p2d(Math.min(Math.max(pixels[side], 0), axis._length))));
    if (Number.isFinite(x) && Number.isFinite(y)) this.moves.move(handle, x, y, event);
  }

  press(handle, event) {
    const axes = this.axes();
    const arrow = ARROWS[event.key];
    if (!axes || !arrow || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const share = event.shiftKey ? LEAP : STEP;
    const data = this.data(handle);
    // Not by pixels: plotly.js rounds them, and the other coordinate would creep.
    const [x, y] = axes.map((axis, side) => {
      if (!arrow[side]) return data[side];
      const [start, end] = axis.range;
      const moved = axis.d2l(data[side]) + arrow[side] * share * (end - start);
      return axis.l2d(Math.min(Math.max(moved, Math.min(start, end)), Math.max(start, end)));
    });
    this.moves.move(handle, x, y, event);
  }

  grab(handle, element, event) {
    const axes = this.axes();
    if (!axes || event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    element.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    const data = this.data(handle);
    this.moves.grab(handle, ...data);
    // The handle keeps its distance from the pointer that grabbed it beside its middle.
    const offset = axes.map((axis, side) => axis.d2p(data[side]) - [event.clientX, event.clientY][side]);
    const drag = (moved) => moved.pointerId === event.pointerId && this.moveTo(handle, [moved.clientX + offset[0], moved.clientY + offset[1]], moved);
    const end = () => {
      element.removeEventListener("pointermove", drag);
      element.removeEventListener("lostpointercapture", end);
      this.moves.release(handle);
    };
    element.addEventListener("pointermove", drag);
    element.addEventListener("lostpointercapture", end); // comes after pointerup and pointercancel too
  }
}
