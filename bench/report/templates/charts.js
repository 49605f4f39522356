// The charts, drawn by Plotly from what the page holds: the rows of the leaderboard, or the data in its script elements.
(() => {
  "use strict";

  if (!window.Plotly) { // not installed where the report was written, or not copied along
    for (const section of document.querySelectorAll("section:has(.chart)")) {
      for (const part of section.querySelectorAll(".filters, .beside, .chart")) part.hidden = true;
      const notice = document.createElement("p");
      notice.className = "notice";
      notice.append("Not drawn: the charts need Plotly, whose script is not in this folder (assets/plotly.min.js). "
        + "The tables need nothing. To get the charts, install it and write the report again: ",
      Object.assign(document.createElement("code"), { textContent: "pip install 'ard-bench[report]'; bench report" }));
      section.append(notice);
    }
    return;
  }

  const SYMBOLS = ["circle", "square", "diamond", "triangle-down", "triangle-up", "star", "cross", "x", "pentagon",
    "hexagon", "triangle-right", "triangle-left", "hourglass"];
  const MODELS = {
    "student": { colour: 0, dash: "solid", symbol: "circle" },
    "robust teacher": { colour: 1, dash: "dash", symbol: "square" },
    "clean teacher": { colour: 2, dash: "dot", symbol: "triangle-up" },
  };
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
  const MOST_ROWS = 60;
  // Buttons by name: Plotly's own choice has one that sends the chart to a server.
  const CONFIG = { displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };

  const byId = (id) => document.getElementById(id);
  // Plotly reads tags and entities in texts: names come from files and are to be shown as they are.
  const plain = (text) => String(text).replace(/[\p{Cc}\p{Cf}]/gu, " ")
    .replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (name) => (name.length > 40 ? `${name.slice(0, 39)}…` : name); // in a legend
  const data = (id) => JSON.parse(byId(id).textContent);

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(`--${name}`).trim();
    return {
      ink: value("ink"), muted: value("muted"), grid: value("grid"), surface: value("surface"),
      colours: [0, 1, 2, 3, 4, 5].map((i) => value(`c${i}`)), font: value("sans"),
    };
  }

  const axis = (look, title, more = {}) => ({
    title: { text: title, standoff: 8 }, gridcolor: look.grid, linecolor: look.muted, zeroline: false, automargin: true,
    ticks: "outside", tickcolor: look.muted, ...more,
  });
  const layout = (look, more) => ({
    autosize: true, paper_bgcolor: look.surface, plot_bgcolor: look.surface, font: { family: look.font, color: look.ink, size: 13 },
    margin: { l: 60, r: 20, t: 36, b: 50 }, hoverlabel: { align: "left" }, ...more,
  });

  // ---- clean against robust ----------------------------------------------------------------------------------------

  function points(table) {
    const columns = Object.fromEntries([...table.tHead.rows[0].cells].map((header, i) => [header.dataset.key, i]));
    // As the page has it: `53.06†`, and beneath it `47.9–58.2` or `± 0.31`.
    const number = (cell) => {
      const beneath = cell.querySelector("small"), said = beneath ? beneath.textContent : "";
      const interval = /^([\d.]+)–([\d.]+)$/.exec(said), spread = /^± ([\d.]+)/.exec(said);
      return {
        value: parseFloat(cell.firstChild.textContent),
        interval: interval ? interval.slice(1).map(Number) : null,
        spread: spread ? Number(spread[1]) : null,
      };
    };
    return [...table.tBodies[0].rows].map((row) => ({
      name: row.cells[columns.defense].textContent,
      about: ["dataset", "student", "attack", "seeds"].map((key) => row.cells[columns[key]].textContent).join(", "),
      clean: number(row.cells[columns.clean]),
      robust: number(row.cells[columns.robust]),
    })).filter((point) => !Number.isNaN(point.clean.value + point.robust.value));
  }

  // One meaning for all bars of the chart: the spread over seeds where a row is a mean of several, else the interval.
  const ends = ({ value, interval, spread }, ofSeeds) => {
    if (ofSeeds) return [value - (spread || 0), value + (spread || 0)];
    return interval || [value, value];
  };

  function bars(number, ofSeeds) {
    const [low, high] = ends(number, ofSeeds);
    return { type: "data", symmetric: false, array: [high - number.value], arrayminus: [number.value - low], thickness: 1, width: 3,
      visible: high > low };
  }

  const meaning = (ofSeeds) => (ofSeeds
    ? "Bars: one standard deviation over training seeds; a defense of one seed has none. "
    : "Bars: 95 % interval of each network's accuracy. ");

  const said = ({ value, interval, spread }) => `${value.toFixed(2)} %${interval
    ? ` [${interval.map((bound) => bound.toFixed(1)).join(", ")}]` : spread === null ? "" : ` ± ${spread.toFixed(2)}`}`;

  function trace(point, place, look, ofSeeds) {
    return {
      type: "scatter", mode: "markers", name: plain(short(point.name)), x: [point.clean.value], y: [point.robust.value],
      error_x: bars(point.clean, ofSeeds), error_y: bars(point.robust, ofSeeds),
      marker: { size: 10, color: look.colours[place % look.colours.length], symbol: SYMBOLS[place % SYMBOLS.length] },
      hovertemplate: "%{text}<extra></extra>",
      text: [`<b>${plain(point.name)}</b><br>${plain(point.about)}<br>clean ${said(point.clean)}<br>robust ${said(point.robust)}`],
    };
  }

  // The part of an axis that is drawn at first: an undefended network far below would leave no room to see the rest.
  function inside(shown) {
    const sorted = shown.map((point) => point.robust.value).sort((a, b) => a - b);
    const middle = sorted[Math.floor(sorted.length / 2)];
    const near = shown.filter((point) => point.robust.value >= middle / 2);
    return near.length > 1 ? near : shown;
  }

  function range(numbers, ofSeeds) {
    const all = numbers.flatMap((number) => ends(number, ofSeeds)), low = Math.min(...all), high = Math.max(...all);
    const room = 0.05 * (high - low) + 0.5;
    return [low - room, high + room];
  }

  function equalWeighted(x, y, look) {
    const lowest = (x[0] + y[0]) / 2, highest = (x[1] + y[1]) / 2;
    const step = [1, 2, 5, 10, 20].find((length) => (highest - lowest) / length <= 6);
    const lines = [], names = [];
    for (let w = Math.ceil(lowest / step) * step; w <= highest; w += step) {
      lines.push({ type: "line", layer: "below", x0: x[0] - 100, y0: 2 * w - x[0] + 100, x1: x[1] + 100, y1: 2 * w - x[1] - 100,
        line: { color: look.muted, width: 1, dash: "dash" }, opacity: 0.45 });
      const top = 2 * w - y[1] > x[0];
      const at = top ? [2 * w - y[1], y[1]] : [x[0], 2 * w - x[0]];
      if (at[0] < x[1] - 0.1 * (x[1] - x[0]) && at[1] > y[0] + 0.05 * (y[1] - y[0])) {
        names.push({ x: at[0], y: at[1], text: `W-R ${w}`, showarrow: false, xanchor: "left", yanchor: "top",
          font: { size: 11, color: look.muted } });
      }
    }
    return { shapes: lines, annotations: names };
  }

  function drawTradeoff() {
    const div = byId("tradeoff"), note = byId("tradeoff-note"), look = theme();
    const rows = Number(byId("leaderboard").dataset.shown); // on all pages of the table
    const shown = rows > MOST_ROWS ? [] : points(byId("leaderboard"));
    if (!shown.length) {
      Plotly.purge(div);
      note.textContent = rows > MOST_ROWS
        ? `${rows} rows are too many to tell apart. Filter the leaderboard to ${MOST_ROWS} or fewer.`
        : "No row above has both a clean and a robust accuracy.";
      return;
    }
    const names = [...new Set(shown.map((point) => point.name))];
    const near = inside(shown);
    const ofSeeds = shown.some(({ robust }) => robust.spread !== null);
    const [x, y] = ["clean", "robust"].map((axis) => range(near.map((point) => point[axis]), ofSeeds));
    // On a phone the legend is below, with as many columns as its names leave room for.
    const narrow = div.clientWidth < 560, columns = names.some((name) => name.length > 16) ? 1 : 2;
    Plotly.react(div, shown.map((point) => trace(point, names.indexOf(point.name), look, ofSeeds)), layout(look, {
      height: narrow ? 430 + 20 * Math.ceil(shown.length / columns) : 560,
      xaxis: axis(look, "Clean accuracy (%)", { range: x }), yaxis: axis(look, "Robust accuracy (%)", { range: y }),
      legend: narrow ? { orientation: "h", y: -0.2, maxheight: 1, entrywidth: 1 / columns, entrywidthmode: "fraction", font: { size: 11 } } : {},
      showlegend: true, ...equalWeighted(x, y, look),
    }), CONFIG);
    const outside = shown.filter((point) => !near.includes(point));
    note.textContent = meaning(ofSeeds) + (outside.length
      ? `Outside the frame (zoom out to see): ${outside.map((point) => `${point.name} (clean ${said(point.clean)}, robust ${said(point.robust)})`).join("; ")}.`
      : "");
  }

  // ---- curves over the epochs --------------------------------------------------------------------------------------

  function curves({ accuracies, terms }, look) {
    const traces = [];
    for (const [model, style] of Object.entries(MODELS)) {
      for (const [kind, y, legend] of [["robust", "y", true], ["clean", "y2", false]]) {
        const values = accuracies.values[`${model}, ${kind}`];
        if (!values) continue;
        traces.push({
          type: "scatter", mode: accuracies.epoch.length > 25 ? "lines" : "lines+markers", name: model, legendgroup: model,
          showlegend: legend, x: accuracies.epoch, y: values, xaxis: "x", yaxis: y,
          line: { color: look.colours[style.colour], dash: style.dash, width: 2 }, marker: { symbol: style.symbol, size: 6 },
          hovertemplate: `epoch %{x}: %{y:.2f} %<extra>${model}, ${kind}</extra>`,
        });
      }
    }
    const named = Object.entries(terms.values).sort(([a], [b]) => (b === "loss") - (a === "loss") || a.localeCompare(b));
    named.forEach(([name, values], i) => traces.push({
      type: "scatter", mode: "lines", name: plain(short(name)), x: terms.epoch, y: values, xaxis: "x", yaxis: "y3", legend: "legend2",
      line: { color: look.colours[i % look.colours.length], dash: DASHES[i % DASHES.length], width: 1.5 },
      hovertemplate: `epoch %{x}: %{y:.4g}<extra>${plain(name)}</extra>`,
    }));
    return traces;
  }

  // From the lowest to the highest accuracy of the runs side by side, so that they are read on one scale.
  function shared(runs, kind) {
    const values = runs.flatMap((run) => Object.entries(run.accuracies.values)
      .flatMap(([name, line]) => (name.endsWith(kind) ? line : []))).filter((value) => value !== null);
    return values.length ? [Math.min(...values) - 3, Math.max(...values) + 3] : [0, 100];
  }

  function drawRun(side, run, beside) {
    const div = byId(`curves-${side}`), note = byId(`curves-${side}-note`), look = theme();
    div.parentElement.hidden = !run;
    if (!run) { Plotly.purge(div); return; }
    const narrow = div.clientWidth < 480, terms = Object.keys(run.terms.values).length;
    byId(`curves-${side}-name`).textContent = run.name;
    const selected = run.selected === null ? [] : [{ type: "line", xref: "x", yref: "paper", x0: run.selected,
      x1: run.selected, y0: 0, y1: 1, line: { color: look.muted, width: 1, dash: "dot" } }];
    Plotly.react(div, curves(run, look), layout(look, {
      height: 650 + (narrow ? 20 * terms : 40), shapes: selected,
      margin: { l: 62, r: 16, t: narrow ? 64 : 44, b: narrow ? 60 + 20 * terms : 60 },
      xaxis: axis(look, "Epoch", { anchor: "y3", rangemode: "tozero" }),
      yaxis: axis(look, "Robust (%)", { domain: [0.7, 1], range: shared(beside, "robust") }),
      yaxis2: axis(look, "Clean (%)", { domain: [0.36, 0.64], anchor: "x", range: shared(beside, "clean") }),
      yaxis3: axis(look, "Loss terms", { domain: [0, 0.29], anchor: "x" }),
      legend: { orientation: "h", y: 1.01, yanchor: "bottom" }, 
      legend2: { orientation: "h", y: -0.1, yanchor: "top", font: { size: 11 }, ...(narrow ? { entrywidth: 1, entrywidthmode: "fraction" } : {}) },
    }), CONFIG);
    const step = Math.max(run.accuracies.step, run.terms.step);
    note.textContent = `${run.about}. Trained with ${run.trained}. Looked at ${run.looked}.`
      + (step > 1 ? ` One in ${step} of the logged epochs is drawn.` : "")
      + (run.selected === null ? "" : ` Dotted: the selected epoch, ${run.selected}.`) + ` Run ${run.id}.`;
    div.setAttribute("aria-label", `Accuracy and loss over the epochs of ${run.name}, ${run.about}`);
  }

  function setUpCurves() {
    const runs = data("runs-data"), form = byId("run-choice");
    const selects = ["left", "right"].map((side) => form.elements[side]);
    const first = selects.map((select) => select.value);
    const draw = () => {
      const said = benchAddress.of("curves");
      selects.forEach((select, i) => {
        select.value = said[select.name] ?? first[i];
        if (select.selectedIndex < 0) select.value = first[i]; // a run that is not here
      });
      const chosen = selects.map((select) => runs.find(({ id }) => id === select.value));
      const beside = chosen.filter((run) => run);
      drawRun("left", chosen[0], beside);
      drawRun("right", chosen[1], beside);
    };
    form.addEventListener("input", () => {
      const differs = selects.map((select, i) => [select.name, select.value === first[i] ? undefined : select.value]);
      benchAddress.say("curves", Object.fromEntries(differs));
      draw();
    });
    document.addEventListener("addresschange", draw);
    return draw;
  }

  // ---- accuracy over the radius ------------------------------------------------------------------------------------

  function radiusTraces({ n, radii, networks }, intervals, look) {
    return networks.flatMap(({ name, median, right, checked }, i) => {
      const colour = look.colours[i % look.colours.length], bounds = right.map((count) => intervals[`${count}/${n}`]);
      const own = { type: "scatter", mode: "lines", x: radii, legendgroup: String(i), showlegend: false };
      const edge = (side, fill) => ({ ...own, y: bounds.map((pair) => pair[side]), line: { width: 0 }, fill, fillcolor: `${colour}1f`, hoverinfo: "skip" });
      return [edge(0, "none"), edge(1, "tonexty"), {
        ...own, showlegend: true, name: `${plain(short(name))} (${median})`, y: right.map((count) => (100 * count) / n),
        line: { color: colour, dash: DASHES[Math.floor(i / look.colours.length) % DASHES.length], width: 2 },
        text: bounds.map((pair) => `[${pair.map((bound) => bound.toFixed(1)).join(", ")}]`),
        hovertemplate: `radius %{x:.4g}: %{y:.2f} % %{text}<extra>${plain(name)}</extra>`,
      }, {
        ...own, mode: "markers", x: checked.map(([radius]) => radius), y: checked.map(([, accuracy]) => accuracy),
        marker: { size: 7, color: colour, symbol: SYMBOLS[i % SYMBOLS.length] },
        hovertemplate: `PGD at radius %{x:.4g}: %{y:.2f} %<extra>${plain(name)}</extra>`,
      }];
    });
  }

  function drawRadius(choice, intervals) {
    const div = byId("radius-chart"), look = theme(), { networks, radii, eps } = choice, narrow = div.clientWidth < 560;
    const line = (ends, dash) => ({ type: "line", layer: "below", ...ends, line: { color: look.muted, width: 1, dash } });
    Plotly.react(div, radiusTraces(choice, intervals, look), layout(look, {
      height: narrow ? 430 + 22 * networks.length : 560,
      xaxis: axis(look, choice.axis, { range: [0, radii.at(-1)] }), yaxis: axis(look, "Accuracy (%)", { range: [0, 100] }),
      shapes: [line({ x0: eps, x1: eps, yref: "paper", y0: 0, y1: 1 }, "dash"), line({ xref: "paper", x0: 0, x1: 1, y0: 50, y1: 50 }, "dot")],
      legend: { font: { size: 11 }, ...(narrow ? { orientation: "h", y: -0.2, maxheight: 1, entrywidth: 1, entrywidthmode: "fraction" }
        : { title: { text: "Defense (median radius)", font: { size: 12 } } }) },
      showlegend: true,
    }), CONFIG);
    byId("radius-note").textContent = `${choice.about}. Upright line: ${choice.threat}. Bands: 95 % interval at each radius. `
      + "The median radius is where a curve meets the dotted line at 50 %."
      + (networks.some(({ checked }) => checked.length) ? " Marks: PGD-SAT at that radius; below their curve they show nearer images that FMN missed." : "")
      + (choice.left_out ? ` The ${networks.length} networks with the largest median; ${choice.left_out} more are in the table below.` : "");
  }

  function setUpRadius() {
    const { choices, intervals } = data("radius-data"), select = byId("radius-choice").elements.networks;
    const draw = () => {
      const said = choices.findIndex(({ about }) => about === benchAddress.of("radius").networks);
      select.selectedIndex = Math.max(said, 0);
      drawRadius(choices[select.selectedIndex], intervals);
    };
    select.addEventListener("input", () => {
      const { about } = choices[select.selectedIndex];
      benchAddress.say("radius", { networks: select.selectedIndex ? about : undefined });
      draw();
    });
    document.addEventListener("addresschange", draw);
    return draw;
  }

  // ------------------------------------------------------------------------------------------------------------------

  const draws = [];
  if (byId("tradeoff")) {
    draws.push(drawTradeoff);
    let waiting = 0;
    byId("leaderboard").addEventListener("rowschange", () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(drawTradeoff);
    });
  }
  if (byId("run-choice")) draws.push(setUpCurves());
  if (byId("radius-choice")) draws.push(setUpRadius());
  const drawAll = () => draws.forEach((draw) => draw());
  document.addEventListener("themechange", drawAll);
  // Plotly's own way forgets the heights, and a phone that is turned needs another legend.
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) requestAnimationFrame(drawAll);
    width = innerWidth;
  });
  drawAll();
})();
