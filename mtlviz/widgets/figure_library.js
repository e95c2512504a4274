// plotly.js once a page, and what else all views of a page share.
// One of the four parts of FigureView's module, which mtlviz/widgets/figure_view.py joins; see figure_view.js.

// Shared by all views of the page, whichever copy of this module made them: one plotly.js, and how many plots live.
const page = (globalThis.mtlvizPage ??= { libraries: new Map(), plots: 0 });

const PUSH_WAIT = 1500; // ms for the library that the kernel pushes by itself before a new view asks for it
const ASK_AGAIN = 10000; // ms before a second view may ask for a library that nobody delivered

function tell(model, content, buffers) {
  try {
    model.send(content, undefined, buffers);
  } catch {
    // The kernel is gone: nobody is there to tell, and the plot stays as it is.
  }
}

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
