// How a figure looks in its page, in pictures and in downloads.
// One of the four parts of FigureView's module, which mtlviz/widgets/figure_view.py joins; see figure_view.js.

const NARROW = 560; // px of width below which a legend beside the plot leaves no plot
const LIGHT = { text: "#222222", faint: "#e3e3e3", line: "#9e9e9e", paper: "#ffffff", font: "system-ui, sans-serif" };

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

// A figure that leaves its legend to the page carries, in meta.pictured, what its layout is where there is no page.
function pictured(layout) {
  return { ...layout, ...(layout.meta?.pictured ?? {}) };
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
  const figure = { data: plot.data, layout: dressed(pictured(plot.layout), LIGHT, width, height) };
  const { title: heading, meta } = plot.layout;
  const title = String(heading?.text || meta?.question || "").replace(/<[^>]*>|[^\p{L}\p{N} ._-]/gu, "").trim();
  Plotly.downloadImage(figure, { format, width, height, scale, filename: title || "figure" });
}
