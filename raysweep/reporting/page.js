"use strict";
(async () => {
  const root = document.documentElement, button = document.getElementById("theme");
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const kept = (value) => { // a page from a file may be refused a store
    try { return value ? localStorage.setItem("raysweep-theme", value) : localStorage.getItem("raysweep-theme"); } catch { return null; }
  };
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function template() {
    const text = colour("--text"), soft = colour("--soft"), grid = colour("--grid"), card = colour("--card");
    const axis = { gridcolor: grid, linecolor: grid, tickfont: { color: soft }, title: { font: { color: soft } } };
    return {
      layout: {
        font: { family: "system-ui, sans-serif", size: 12, color: text }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        xaxis: axis, yaxis: axis, margin: { l: 50, r: 16, t: 28, b: 44 },
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: text } },
        hoverlabel: { bgcolor: card, bordercolor: grid, font: { color: text } },
      },
      data: { parcoords: [{ labelfont: { color: text, size: 13 }, tickfont: { color: soft, size: 11 }, rangefont: { color: "rgba(0,0,0,0)" } }] },
    };
  }

  async function draw(how) {
    const look = template();
    for (const [id, figure] of Object.entries(figures)) {
      await how(document.getElementById(id), figure.data, { ...figure.layout, template: look }, { responsive: true, displayModeBar: false });
      await new Promise((next) => setTimeout(next)); // the page can be used meanwhile
    }
    root.dataset.drawn = root.dataset.theme;
  }

  function show(theme) {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use the ${theme === "dark" ? "light" : "dark"} theme`);
  }

  const system = matchMedia("(prefers-color-scheme: dark)");
  show(kept() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => { if (!kept()) { show(system.matches ? "dark" : "light"); draw(Plotly.react); } });
  button.addEventListener("click", () => {
    show(root.dataset.theme === "dark" ? "light" : "dark");
    kept(root.dataset.theme);
    draw(Plotly.react);
  });
  for (const each of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(each.dataset.copy);
    each.setAttribute("aria-label", `Copy: ${source.getAttribute("aria-label")}`);
    each.addEventListener("click", async () => {
      getSelection().selectAllChildren(source); // what can be copied by hand if the browser does not let a page do it
      try { await navigator.clipboard.writeText(source.textContent); each.textContent = "Copied"; } catch { each.textContent = "Selected"; }
      document.getElementById("said").textContent = each.textContent;
    });
  }
  await draw(Plotly.newPlot);
})();
