// The page that watches a run: asks what is new up to 4 times a second, and lets the notebook's own view of a figure draw it.

import figureView from "./figure_view.js";

const TICK = 250; // ms between two questions while the run is live
const SHARE = 4; // an answer that took t is followed by at least (SHARE - 1) t of rest, so that training goes on
const LONGEST = 5000; // ms of rest after a slow answer
const ENDED = 2000; // ms between two questions once the run is over: it may be resumed, or another may take its place
const TABS = ["Curves", "Balance", "Conflict"];
const WINDOWS = ["100 steps up to", "this step alone", "whole run"];

const find = (selector) => document.querySelector(selector);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- figures ----

let plotly = null; // the promise of plotly.js, compressed: once a page

function library() {
  plotly ??= fetch("plotly.gz").then((reply) => reply.arrayBuffer());
  return plotly.catch(() => (plotly = null));
}

// What FigureView's script takes for its model in a kernel.
class Model {
  constructor() {
    Object.assign(this, { number: 0, revision: 0, hears: new Set() });
  }

  get(name) {
    return { _plotly: document.body.dataset.plotly, _pushed: false, _unkept: true }[name];
  }

  on(_, hear) {
    this.hears.add(hear);
  }

  tell(content, ...buffers) {
    this.hears.forEach((hear) => hear(content, buffers));
  }

  send(content) {
    if (content.kind !== "need") return;
    if (content.what === "library") void this.bringLibrary();
    else this.number = 0; // the next answer brings all of the figure
  }

  async bringLibrary() {
    const gzipped = await library();
    if (gzipped) this.tell({ kind: "library", version: this.get("_plotly") }, new Uint8Array(gzipped));
  }

  take({ number, figure, changes }, buffer) {
    this.number = number;
    if (figure) this.tell({ kind: "figure", figure, revision: ++this.revision }, buffer);
    else if (changes) this.tell({ kind: "patch", changes, revision: ++this.revision }, buffer);
  }
}

class Figure {
  constructor(parent, wide) {
    this.model = new Model();
    const view = figureView();
    const el = element("div");
    el.classList.toggle("wide", wide);
    parent.append(el);
    view.initialize({ model: this.model, signal: new AbortController().signal });
    view.render({ model: this.model, el });
    void this.model.bringLibrary();
  }
}

// ---- tabs ----

const tabs = Object.fromEntries(TABS.map((name) => [name, makeTab(name)]));
const matrix = makeControls(tabs.Conflict.panel);
let open = TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : TABS[0];

function makeTab(name) {
  const button = element("button", { type: "button", id: `tab-${name}`, textContent: name, onclick: () => show(name) });
  const grid = element("div", { className: "figures" });
  const panel = element("section", { id: `panel-${name}`, hidden: true }, grid);
  for (const [key, value] of Object.entries({ role: "tab", "aria-controls": panel.id })) button.setAttribute(key, value);
  for (const [key, value] of Object.entries({ role: "tabpanel", "aria-labelledby": button.id })) panel.setAttribute(key, value);
  button.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
    show(next);
    tabs[next].button.focus();
  });
  find("[role=tablist]").append(button);
  find("main").append(panel);
  return { button, panel, grid, figures: new Map() };
}

function show(name) {
  open = name;
  history.replaceState(null, "", `#${name}`);
  for (const [other, { button, panel }] of Object.entries(tabs)) {
    button.setAttribute("aria-selected", String(other === name));
    button.tabIndex = other === name ? 0 : -1;
    panel.hidden = other !== name;
  }
  ask();
}

// Which steps the matrix of conflict is of; it follows the newest until the user moves the slider back.
function makeControls(panel) {
  const slider = element("input", { type: "range", min: 0, max: 0, value: 0, disabled: true });
  slider.setAttribute("aria-label", "recorded step");
  const label = element("output", { textContent: "step –" });
  const radios = WINDOWS.map((name, index) => element("input", { type: "radio", name: "window", value: name, checked: index === 0, onchange: () => ask() }));
  const labels = radios.map((radio) => element("label", {}, radio, ` ${radio.value}`));
  panel.prepend(element("div", { className: "controls" }, "Cosines of", ...labels, slider, label));
  const controls = { slider, label, follow: true, window: () => radios.find((radio) => radio.checked).value };
  slider.addEventListener("input", () => {
    controls.follow = slider.valueAsNumber >= Number(slider.max);
    ask();
  });
  return controls;
}

// ---- questions and answers ----

let asking = false;
let again = false; // something changed while an answer was under way
let timer = 0;

function query(tab) {
  const have = [...tabs[tab].figures].filter(([, figure]) => figure.model.number).map(([name, figure]) => `${name}:${figure.model.number}`);
  const fields = new URLSearchParams({ tab, window: matrix.window(), have: have.join(",") });
  if (!matrix.follow) fields.set("row", matrix.slider.value);
  return fields;
}

async function ask() {
  clearTimeout(timer);
  again = asking;
  if (asking || document.hidden) return;
  asking = true;
  const began = performance.now();
  let rest = ENDED;
  try {
    const tab = open;
    const reply = await fetch(`news?${query(tab)}`, { cache: "no-store" });
    if (!reply.ok) throw new Error(`the answer was ${reply.status}`);
    const body = await reply.arrayBuffer();
    const length = new DataView(body).getUint32(0, true);
    const news = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
    const took = performance.now() - began;
    take(tab, news, body, 4 + length);
    if (news.live) rest = Math.min(Math.max(TICK - took, (SHARE - 1) * took), LONGEST);
    find("#lost").hidden = true;
  } catch (error) {
    if (!(error instanceof TypeError) && !String(error).includes("the answer was")) console.error("mtlviz watch:", error);
    find("#lost").hidden = false;
  } finally {
    asking = false;
  }
  timer = setTimeout(ask, again ? 0 : rest);
}

function take(tab, news, body, start) {
  if (news.status !== undefined) takeStatus(news);
  find("#trouble").hidden = !news.trouble;
  find("#trouble pre").textContent = news.trouble ?? "";
  const { figures, grid } = tabs[tab];
  for (const entry of news.figures ?? []) {
    if (!figures.has(entry.name)) figures.set(entry.name, new Figure(grid, entry.wide));
    const [offset, length] = entry.buffer;
    figures.get(entry.name).model.take(entry, new Uint8Array(body, start + offset, length));
  }
}

function takeStatus({ title, state, status, share, failure, recorded, matrix: label }) {
  document.title = `${state} · ${title}`;
  document.body.dataset.state = state;
  find("#title").textContent = title;
  if (find("#status").textContent !== status) find("#status").textContent = status;
  find("#bar").hidden = share === null;
  find("#bar div").style.width = `${100 * (share ?? 0)}%`;
  find("#failure").hidden = !failure;
  find("#failure b").textContent = failure?.type ?? "";
  find("#failure span").textContent = failure?.message ?? "";
  find("#failure details").hidden = !failure?.traceback;
  find("#failure pre").textContent = failure?.traceback ?? "";
  const { slider } = matrix;
  slider.max = Math.max(recorded - 1, 0);
  if (matrix.follow) slider.value = slider.max;
  slider.disabled = recorded === 0 || matrix.window() === "whole run";
  if (label !== undefined) matrix.label.textContent = label;
}

// FigureView looks for JupyterLab's theme on the body.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => (document.body.dataset.jpThemeLight = String(!dark.matches));
dark.addEventListener("change", paint);
paint();
document.addEventListener("visibilitychange", () => document.hidden || ask());
show(open);
