"use strict";
const read = element => JSON.parse(element.textContent);
const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
  logLevel: 1, config: read(document.getElementById("theme"))};
const draw = chart => {
  if (chart.dataset.drawn) return;
  chart.dataset.drawn = "yes";
  vegaEmbed(chart, read(chart.nextElementSibling), options).catch(error =>
    fail(chart.id + ": " + error.message));
};
// What is folded has no width, and is drawn when it is opened.
const opened = () => { for (const chart of document.querySelectorAll(".chart"))
  if (!chart.closest("details:not([open])")) draw(chart); };
for (const fold of document.querySelectorAll("details")) fold.addEventListener("toggle", opened);
opened();
