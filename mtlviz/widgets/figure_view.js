// FigureView in the browser: one figure kept per model, drawn by plotly.js in each of its views.
//
// Kernel to browser: {kind: "library" | "figure" | "patch" | "picture"}; browser to kernel: {kind: "drawn" | "need" | "picture"}.
// Messages always change the kept figure; only draws coalesce. mtlviz/widgets/wire.py says how figures and patches travel.

const REST = 1200; // ms without news after which a view rests and its picture is taken
const LIVE = 15000; // ms between pictures while news keeps coming
const PUSH_WAIT = 1500; // ms for the library that the kernel pushes by itself before a new view asks for it
const ASK_AGAIN = 10000; // ms before a second view may ask for a library that nobody delivered
const NARROW = 560; // px of width below which a legend beside the plot leaves no plot
const ARRAY = "mtlviz:array";
const TYPED = { f4: Float32Array, f8: Float64Array, i1: Int8Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
const LIGHT = { text: "#222222", faint: "#e3e3e3", line: "#9e9e9e", paper: "#ffffff", font: "system-ui, sans-serif" };

// Shared by all views of the page, whichever copy of this module made them: one plotly.js, and how many plots live.
const page = (globalThis.mtlvizPage ??= { libraries: new Map(), plots: 0 });

function tell(model, content, buffers) {
  try {
    model.send(content, undefined, buffers);
  } catch {
    // The kernel is gone: nobody is there to tell, and the plot stays as it is.
  }
}

// ---- the library, once a page ----

function libraryEntry(version) {
  if (!page.libraries.has(version)) {
    const entry = { arrived: false, askedAt: -Infinity };
    entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    entry.promise.catch(() => {}); // each view that waits reports the failure itself
    page.libraries.set(version, entry);
  }
  return page.libraries.get(version);
}

async function installLibrary(version, gzipped) {
  const entry = libraryEntry(version);
  if (entry.arrived) return;
  entry.arrived = true;
  try {
    const source = await new Response(new Blob([gzipped]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    entry.resolve(await evaluate(source));
  } catch (error) {
    page.libraries.delete(version); // so that another view asks again
    entry.reject(error);
  }
}

// As a CommonJS module in the page; plotly.js sets a global `Plotly` all the same, which may be another widget's.
async function evaluate(source) {
  const parts = ["export default (() => { const module = { exports: {} };\n", source, "\nreturn module.exports; })();"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  const global = globalThis.Plotly;
  try {
    return (await import(url)).default;
  } finally {
    globalThis.Plotly = global;
    URL.revokeObjectURL(url);
  }
}

async function library(model, signal) {
  const version = model.get("_plotly");
  for (let attempt = 1; ; attempt++) {
    const entry = libraryEntry(version);
    const ask = () => {
      if (entry.arrived || performance.now() - entry.askedAt < ASK_AGAIN) return;
      entry.askedAt = performance.now();
      tell(model, { kind: "need", what: "library" });
    };
    const first = setTimeout(ask, model.get("_pushed") ? 0 : PUSH_WAIT);
    const again = setInterval(ask, ASK_AGAIN);
    signal.addEventListener("abort", () => clearInterval(again));
    try {
      return await entry.promise;
    } catch (error) {
      if (attempt === 3) throw error;
    } finally {
      clearTimeout(first);
      clearInterval(again);
    }
  }
}

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

// ---- looks ----

const isPlain = (value) => value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype;

// Plotly writes into what it is given; the kept figure stays clean. Arrays of numbers are shared, they are never written to.
function copy(node) {
  if (Array.isArray(node)) return ArrayBuffer.isView(node[0]) ? node : node.map(copy);
  return isPlain(node) ? Object.fromEntries(Object.entries(node).map(([key, item]) => [key, copy(item)])) : node;
}

function merge(base, top) {
  if (!isPlain(base) || !isPlain(top)) return top === undefined ? base : top;
  const merged = { ...base };
  for (const key of Object.keys(top)) merged[key] = merge(base[key], top[key]);
  return merged;
}

function pageColours(element) {
  const style = getComputedStyle(element);
  const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
  return {
    text: read("--jp-ui-font-color1", LIGHT.text),
    faint: read("--jp-border-color2", LIGHT.faint),
    line: read("--jp-border-color0", LIGHT.line),
    paper: read("--jp-layout-color0", LIGHT.paper),
    font: read("--jp-ui-font-family", LIGHT.font),
  };
}

// As a template, so that whatever the figure says itself wins; above the figure's own template.
function theme(colours) {
  const axis = { gridcolor: colours.faint, linecolor: colours.line, zerolinecolor: colours.line, tickcolor: colours.line };
  const colorbar = { outlinewidth: 0, tickcolor: colours.line };
  const layout = {
    paper_bgcolor: colours.paper,
    plot_bgcolor: colours.paper,
    font: { color: colours.text, family: colours.font },
    xaxis: axis,
    yaxis: axis,
    coloraxis: { colorbar },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colours.line, activecolor: colours.text },
    hoverlabel: { bgcolor: colours.paper, bordercolor: colours.line, font: { color: colours.text } },
    annotationdefaults: { arrowcolor: colours.text },
    shapedefaults: { line: { color: colours.line } },
  };
  return { layout, data: { heatmap: [{ colorbar }] } };
}

// What a figure gets where neither it nor its own template says anything.
function habits(width, height) {
  const layout = { margin: { l: 56, r: 16, t: 56, b: 48 }, xaxis: { automargin: true }, yaxis: { automargin: true } };
  // Under the axis title: its 44 px in shares of a plot that is half of the height or more.
  if (width < NARROW) layout.legend = { orientation: "h", x: 0, xanchor: "left", y: -88 / height, yanchor: "top" };
  return { layout };
}

function dressed(layout, colours, width, height) {
  const own = copy(layout);
  const template = merge(merge(habits(width, height), own.template), theme(colours));
  return { ...own, width, height, autosize: false, uirevision: own.uirevision ?? "kept", template };
}

// One object for all draws: with another one plotly.js starts over, and the user's zoom is gone.
function plotlyConfig(Plotly) {
  return (page.config ??= {
    displaylogo: false,
    showTips: false,
    showSendToCloud: false, // plotly.js offers to upload the figure; mtlviz sends nothing anywhere
    plotlyServerURL: "",
    responsive: false, // a ResizeObserver does it, for hidden tabs too
    modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "autoScale2d"],
    modeBarButtonsToAdd: [
      { name: "png", title: "Download picture (PNG)", icon: Plotly.Icons.camera, click: (plot) => download(Plotly, plot, "png", 2) },
      { name: "svg", title: "Download picture (SVG)", icon: Plotly.Icons.disk, click: (plot) => download(Plotly, plot, "svg", 1) },
    ],
  });
}

// As the user has zoomed it, but for white paper.
function download(Plotly, plot, format, scale) {
  const { width, height } = plot.layout;
  const figure = { data: plot.data, layout: dressed(plot.layout, LIGHT, width, height) };
  const title = String(plot.layout.title?.text ?? "").replace(/<[^>]*>|[^\p{L}\p{N} ._-]/gu, "").trim();
  Plotly.downloadImage(figure, { format, width, height, scale, filename: title || "figure" });
}

// ---- one figure a model, any number of views ----

class Kept {
  constructor(model, signal) {
    Object.assign(this, { model, signal, figure: null, revision: -1, views: new Set(), width: 900 });
    Object.assign(this, { told: -1, pictured: -1, picturedAt: performance.now(), picturing: false, rest: 0 });
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
    shown.forEach((view) => view.draw());
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
    clearTimeout(this.rest);
    const due = seen && performance.now() - this.picturedAt > LIVE;
    this.rest = setTimeout(() => this.takePicture(), due ? 0 : REST);
  }

  // What a saved notebook shows: light, unzoomed, as wide as the view.
  async takePicture() {
    if (this.picturing || !this.figure || this.pictured === this.revision) return;
    this.picturing = true;
    try {
      const Plotly = await this.plotly;
      const revision = this.revision;
      const width = Math.round(Math.min(1100, Math.max(600, this.width)));
      const height = this.height();
      const figure = { data: copy(this.figure.data), layout: dressed(this.figure.layout, LIGHT, width, height) };
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
    Object.assign(this, { kept, element, busy: false, dirty: false, gone: false, plot: document.createElement("div") });
    element.classList.add("mtlviz-figure");
    element.style.height = `${kept.height()}px`;
    element.append(this.plot);
    page.plots += 1;
    kept.views.add(this);
    this.sizes = new ResizeObserver(() => this.element.clientWidth !== this.plot.layout?.width && this.draw());
    this.sizes.observe(element);
    this.themes = new MutationObserver(() => this.draw());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
    this.draw();
  }

  async draw() {
    this.dirty = true;
    if (this.busy) return;
    this.busy = true;
    try {
      const Plotly = await this.kept.plotly;
      while (this.dirty && !this.gone) {
        this.dirty = false;
        await new Promise(requestAnimationFrame);
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
    this.kept.width = width;
    this.element.style.height = `${height}px`;
    try {
      await Plotly.react(this.plot, copy(figure.data), dressed(figure.layout, pageColours(this.element), width, height), plotlyConfig(Plotly));
    } finally {
      this.kept.drawn(revision); // a figure that cannot be drawn must not stop the next one
    }
  }

  // A view that is merely detached is kept: windowed notebooks attach it again.
  dispose() {
    this.gone = true;
    this.sizes.disconnect();
    this.themes.disconnect();
    this.kept.views.delete(this);
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
