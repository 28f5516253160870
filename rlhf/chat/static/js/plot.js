// Plots in the colours of the page, drawn by Plotly, which the server brings along.
//
// Plotly reads a few tags and entities in its texts. Names come from outside: `plain` makes them nothing but text.

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash"];
const COLOURS = 8;

export function plain(text, most = 40) {
  const cut = [...String(text)];
  const shown = cut.length > most ? `${cut.slice(0, most - 1).join("")}…` : cut.join("");
  return shown.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("$", "&#36;");
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// How the nth thing looks: a colour, and a sign beside it for people who do not see the difference.
export function look(n) {
  return { colour: css(`--c${(n % COLOURS) + 1}`), symbol: SYMBOLS[n % SYMBOLS.length], dash: DASHES[n % DASHES.length] };
}

export function line(n, name, x, y, more = {}) {
  const { colour, dash, symbol } = look(n);
  return {
    type: "scatter", mode: x.length < 40 ? "lines+markers" : "lines", name: plain(name), x, y,
    line: { color: colour, width: 2, dash }, marker: { color: colour, symbol, size: 6 },
    hovertemplate: "%{y:.4~g}<extra>%{fullData.name}</extra>", ...more,
  };
}

// Horizontal dots with their intervals, one a row.
export function dots(rows, colours) {
  return {
    type: "scatter", mode: "markers", y: rows.map((row) => row.label), x: rows.map((row) => row.value),
    error_x: {
      type: "data", symmetric: false, thickness: 2, width: 6, color: css("--soft"),
      array: rows.map((row) => row.high - row.value), arrayminus: rows.map((row) => row.value - row.low),
    },
    marker: { size: 13, color: colours, line: { color: css("--raised"), width: 2 } },
    text: rows.map((row) => row.hover), hovertemplate: "%{text}<extra></extra>", cliponaxis: false,
  };
}

export function bars(rows, colours) {
  return {
    type: "bar", orientation: "h", y: rows.map((row) => row.label), x: rows.map((row) => row.value), marker: { color: colours, cornerradius: 4 },
    text: rows.map((row) => String(row.value)), textposition: "outside", cliponaxis: false, hoverinfo: "skip",
  };
}

export function upright(x) {
  return { type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, layer: "below", line: { color: css("--line-strong"), width: 1.5, dash: "dot" } };
}

export function themed(name) {
  return css(`--${name}`);
}

const axis = (more) => ({
  gridcolor: css("--line"), zeroline: false, linecolor: css("--line"), automargin: true, fixedrange: true,
  tickfont: { color: css("--soft"), size: 12 }, ...more, title: more?.title ? { text: more.title, font: { size: 12, color: css("--soft") }, standoff: 8 } : undefined,
});

export function layout({ height = 260, x = {}, y = {}, legend = false, shapes = [] }) {
  return {
    height, autosize: true, margin: { l: 12, r: 18, t: legend ? 4 : 8, b: 12 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: css("--sans"), size: 13, color: css("--text") }, colorway: Array.from({ length: COLOURS }, (_, n) => look(n).colour),
    xaxis: axis(x), yaxis: axis(y), showlegend: legend, shapes, dragmode: false, hovermode: "closest", separators: ".,",
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, itemclick: false, itemdoubleclick: false, bgcolor: "rgba(0,0,0,0)" },
    hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line-strong"), font: { color: css("--text"), size: 12, family: css("--sans") } },
  };
}

// Draws or redraws in place. False where Plotly did not load: the table then says it all.
export function draw(place, traces, how) {
  const plotly = globalThis.Plotly;
  if (!plotly) return false;
  plotly.react(place, traces, layout(how), { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false });
  return true;
}

export function clear(place) {
  if (place.classList.contains("js-plotly-plot")) globalThis.Plotly.purge(place);
  place.replaceChildren();
}
