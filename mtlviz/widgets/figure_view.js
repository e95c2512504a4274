// FigureView in the browser: one figure kept per model, drawn by plotly.js in each of its views.
//
// Kernel to browser: {kind: "library" | "figure" | "patch" | "picture"}; browser to kernel: {kind: "drawn" | "need" | "picture"},
// and what figure_handles.js says.
// Messages always change the kept figure; only draws coalesce. mtlviz/widgets/wire.py says how figures and patches travel.

const REST = 1200; // ms without news after which a view rests and its picture is taken
const LIVE = 15000; // ms between pictures while news keeps coming
const ARRAY = "mtlviz:array";
const TYPED = { f4: Float32Array, f8: Float64Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

// ---- figures and patches from the wire ----

function aligned(view) {
  return view ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : new ArrayBuffer(0);
}

function unpack(node, buffer) {
  if (Array.isArray(node)) return node.map((item) => unpack(item, buffer));
  if (node === null || typeof node !== "object") return node;
  if (ARRAY in node) {
    const [offset, length, dtype, width] = node[ARRAY];
    const all = new TYPED[dtype](buffer, offset, length);
    return width ? Array.from({ length: length / width }, (_, row) => all.subarray(row * width, (row + 1) * width)) : all;
  }
  return Object.fromEntries(Object.entries(node).map(([key, item]) => [key, unpack(item, buffer)]));
}

function applyChange(figure, change) {
  const path = change.path.slice(0, -1);
  const key = change.path.at(-1);
  const parent = path.reduce((node, step) => node[step], figure);
  if (change.gone) delete parent[key];
  else if (change.keep === undefined) parent[key] = change.value;
  else {
    const joined = new parent[key].constructor(change.keep + change.value.length);
    joined.set(parent[key].subarray(0, change.keep));
    joined.set(change.value, change.keep);
    parent[key] = joined;
  }
}

// ---- one figure a model, any number of views ----

class Kept {
  constructor(model, signal) {
    Object.assign(this, { model, signal, figure: null, revision: -1, views: new Set(), width: 900 });
    Object.assign(this, { told: -1, pictured: -1, picturedAt: performance.now(), picturing: false, rest: 0 });
    this.moves = new Moves(model, signal, () => this.views.forEach((view) => view.handles.place()));
    this.plotly = library(model, signal);
    this.plotly.catch(() => {}); // the views show it
    model.on("msg:custom", (content, buffers) => this.take(content, buffers ?? []));
    signal.addEventListener("abort", () => clearTimeout(this.rest));
    if (model.get("_pushed")) this.need("figure"); // a page opened on a kernel that has sent it to another page
  }

  need(what) {
    tell(this.model, { kind: "need", what });
  }

  take(content, buffers) {
    if (content.kind === "library") return void installLibrary(content.version, buffers[0]);
    if (content.kind === "picture") return void this.takePicture();
    const buffer = aligned(buffers[0]);
    if (content.kind === "figure") this.figure = unpack(content.figure, buffer);
    else if (this.figure && content.revision === this.revision + 1) unpack(content.changes, buffer).forEach((change) => applyChange(this.figure, change));
    else return this.need("figure");
    this.revision = content.revision;
    const shown = [...this.views].filter((view) => view.element.clientWidth > 0);
    shown.forEach((view) => view.draw(true));
    if (!shown.length) this.drawn(this.revision); // hidden views draw when they are seen again
    this.planPicture(shown.length > 0);
  }

  drawn(revision) {
    if (revision <= this.told) return;
    this.told = revision;
    tell(this.model, { kind: "drawn", revision });
  }

  height() {
    return this.model.get("_height") || this.figure?.layout.height || 400;
  }

  planPicture(seen) {
    if (this.model.get("_unkept")) return; // a page that no notebook keeps
    clearTimeout(this.rest);
    const due = seen && performance.now() - this.picturedAt > LIVE;
    this.rest = setTimeout(() => this.takePicture(), due ? 0 : REST);
  }

  // What a saved notebook shows: light, unzoomed, as wide as the view.
  async takePicture() {
    if (this.picturing || !this.figure || this.pictured === this.revision) return;
    if (this.moves.grabbed) return this.planPicture(false); // a drag must not stutter
    this.picturing = true;
    try {
      const Plotly = await this.plotly;
      const revision = this.revision;
      const width = Math.round(Math.min(1100, Math.max(600, this.width)));
      const height = this.height();
      const figure = { data: copy(this.figure.data), layout: dressed(pictured(this.figure.layout), LIGHT, width, height) };
      const url = await Plotly.toImage(figure, { format: "png", width, height, scale: 1 });
      if (this.signal.aborted) return;
      const bytes = Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0));
      tell(this.model, { kind: "picture", revision }, [bytes.buffer]);
      Object.assign(this, { pictured: revision, picturedAt: performance.now() });
    } finally {
      this.picturing = false;
    }
    if (this.pictured !== this.revision) this.planPicture(false);
  }
}

class View {
  constructor(kept, element) {
    Object.assign(this, { kept, element, busy: false, dirty: false, prompt: false, gone: false, plot: document.createElement("div") });
    element.classList.add("mtlviz-figure");
    element.style.height = `${kept.height()}px`;
    element.append(this.plot);
    this.handles = new HandleLayer(element, this.plot, kept.moves);
    page.plots += 1;
    kept.views.add(this);
    this.sizes = new ResizeObserver(() => this.element.clientWidth !== this.plot.layout?.width && this.draw());
    this.sizes.observe(element);
    this.themes = new MutationObserver(() => this.draw());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
    this.draw();
  }

  // News is drawn at once: hardly more than one message a model is under way, so that waiting for a frame would only delay it.
  async draw(news = false) {
    this.dirty = true;
    this.prompt = news && !document.hidden;
    if (this.busy) return;
    this.busy = true;
    try {
      const Plotly = await this.kept.plotly;
      while (this.dirty && !this.gone) {
        if (!this.prompt) await new Promise(requestAnimationFrame);
        this.dirty = this.prompt = false;
        await this.drawNow(Plotly);
      }
    } catch (error) {
      this.plot.textContent = `The figure could not be drawn: ${error}`;
      console.error("mtlviz FigureView:", error);
    } finally {
      this.busy = false;
      if (this.gone) this.dispose();
    }
  }

  async drawNow(Plotly) {
    const { figure, revision } = this.kept;
    const width = this.element.clientWidth; // 0 while hidden: the ResizeObserver calls again
    if (!figure || !width || this.gone) return;
    const height = this.kept.height();
    const { handles, answers } = figure.layout.meta ?? {}; // before a message that arrives amid the drawing
    this.kept.width = width;
    this.element.style.height = `${height}px`;
    try {
      await Plotly.react(this.plot, copy(figure.data), dressed(figure.layout, pageColours(this.element), width, height), plotlyConfig(Plotly));
      this.handles.follow(copy(handles));
    } finally {
      this.kept.drawn(revision); // a figure that cannot be drawn must not stop the next one
    }
    this.kept.moves.note(answers);
  }

  // A view that is merely detached is kept: windowed notebooks attach it again.
  dispose() {
    this.gone = true;
    this.sizes.disconnect();
    this.themes.disconnect();
    this.kept.views.delete(this);
    this.handles.dispose();
    if (this.busy) return; // draw() comes back here
    this.kept.plotly.then((Plotly) => Plotly.purge(this.plot), () => {});
    if (this.plot.parentNode) page.plots -= 1;
    this.plot.remove();
  }
}

export default () => {
  let kept;
  return {
    initialize({ model, signal }) {
      kept = new Kept(model, signal);
    },
    render({ el }) {
      const view = new View(kept, el);
      return () => view.dispose();
    },
  };
};
