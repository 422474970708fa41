// Draws interactive plots in place of the still figures of a page; without scripts, or after an error, the figures stay.
// Works offline: data and specifications are JSON in the page (made by reports/render/plots.py).
"use strict";

(function () {
  const ALL = "", SMALL = 300, PADDING = 10; // pixels: height of one of several views beside each other, between a point and the edge
  const inTheDark = window.matchMedia("(prefers-color-scheme: dark)");

  // The rows of a plot as Python packed them: by column, each line of text once.
  function unpacked(plot) {
    const read = (value) => (Array.isArray(value) ? value.map((number) => plot.texts[number]).join("\n") : value);
    const columns = Object.entries(plot.columns);
    const row = (i) => Object.fromEntries(columns.map(([field, values]) => [field, read("all" in values ? values.all : values[i])]));
    return { ...plot, rows: Array.from({ length: plot.rows }, (_, i) => row(i)) };
  }

  // A specification with the colours of the reader's scheme.
  function coloured(made) {
    if (!inTheDark.matches) return structuredClone(made);
    const dark = JSON.parse(document.body.dataset.dark);
    return JSON.parse(JSON.stringify(made).replace(/#[0-9a-f]{6}/g, (colour) => dark[colour] ?? colour));
  }

  // Indices of the rows that no other is at least as good as in both coordinates and better in one.
  function front(rows, x, y) {
    const sign = (axis) => (axis.better === "more" ? 1 : -1);
    const worth = rows.map((row, i) => [sign(x) * row.x, sign(y) * row.y, i]).sort((a, b) => b[0] - a[0] || b[1] - a[1]);
    const found = new Set();
    let best = -Infinity, at = null;
    for (const [first, second, i] of worth) {
      if (second > best || (second === best && first === at)) {
        found.add(i);
        best = second;
        at = first;
      }
    }
    return found;
  }

  // The rows that the choices leave, with the chosen quantities as x and y.
  function shown(plot, chosen) {
    let rows = plot.rows.filter((row) =>
      plot.filters.every((filter) => chosen[filter.field] === ALL || String(row[filter.field]) === chosen[filter.field]));
    if (!plot.axes.length) return rows;
    const axes = Object.fromEntries(plot.axes.map((axis) => [axis.channel, axis.options[Number(chosen[axis.channel])]]));
    const seen = new Set();
    rows = rows
      .filter((row) => ["x", "y"].every((c) => row[axes[c].field] !== null && (!axes[c].log || row[axes[c].field] > 0)))
      .map((row) => ({ ...row, x: row[axes.x.field], y: row[axes.y.field] }))
      .filter((row) => { // what does not depend on the call, such as bytes, is one point
        const key = JSON.stringify([row.same, row.x, row.y]);
        return !seen.has(key) && seen.add(key);
      });
    const groups = new Map();
    for (const row of rows) {
      const key = JSON.stringify([row.view, row[plot.front]]);
      groups.set(key, [...(groups.get(key) || []), row]);
    }
    for (const group of groups.values()) {
      const best = front(group, axes.x, axes.y);
      group.forEach((row, i) => (row.front = best.has(i)));
    }
    return rows;
  }

  const of = (rows, number) => rows.filter((row) => !("view" in row) || row.view === number);

  // What Vega-Lite compiles: a view with its rows, its legend as wide as its box, and the axes that were chosen.
  function specification(plot, number, rows, chosen, width, several) {
    const made = coloured({ ...plot.views[number], config: plot.config });
    const longest = Math.max(8, ...(made.encoding.color.scale.domain || []).map((name) => name.length));
    made.config.legend.columns = Math.max(1, Math.floor((width - 60) / (7 * longest + 30)));
    for (const axis of plot.axes) {
      const option = axis.options[Number(chosen[axis.channel])];
      const encoding = made.encoding[axis.channel];
      encoding.title = option.title;
      encoding.scale = { ...(option.log ? { type: "log" } : { zero: false }), nice: false, padding: PADDING };
      encoding.axis = { ...encoding.axis, format: option.log ? "~s" : ",~r" };
    }
    if (several && plot.shared) {
      made.height = SMALL;
      const costs = rows.map((row) => row.x);
      made.encoding.x.scale = { ...made.encoding.x.scale, domain: [Math.min(...costs), Math.max(...costs)] };
    }
    made.data = { values: of(rows, number) };
    return made;
  }

  function tooltip(box) {
    return (handler, event, item, value) => {
      const text = value === null || value === undefined || value === "" ? "" : String(value.tip ?? value);
      box.hidden = !text;
      box.textContent = text;
      if (!text) return;
      const edge = document.documentElement.clientWidth - box.offsetWidth - 8;
      box.style.left = `${Math.max(8, Math.min(event.clientX + 14, edge))}px`;
      const below = event.clientY + 14 + box.offsetHeight < window.innerHeight;
      box.style.top = `${below ? event.clientY + 14 : Math.max(8, event.clientY - box.offsetHeight - 14)}px`;
    };
  }

  function select(label, id) {
    const wrapper = document.createElement("label");
    const made = document.createElement("select");
    made.id = id;
    wrapper.append(label, made);
    return [wrapper, made];
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  }

  function element(tag, name) {
    const made = document.createElement(tag);
    made.className = name;
    return made;
  }

  async function show(figure, tip) {
    const plot = unpacked(JSON.parse(figure.querySelector("script[type='application/json']").textContent));
    const still = figure.querySelector(".still");
    const live = element("div", "live");
    const chosen = {};
    const controls = element("div", "controls");
    const count = element("output", "count");
    const boxes = plot.views.map((view) => {
      const box = element("div", view.usermeta?.legend ? "view legend" : "view");
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", still.querySelector("img").alt);
      return box;
    });
    for (const axis of plot.axes) {
      const [wrapper, made] = select(axis.label, `${figure.id}-${axis.channel}`);
      fill(made, axis.options.map((option, i) => ({ value: String(i), text: option.title })));
      chosen[axis.channel] = made.value;
      made.addEventListener("change", () => {
        chosen[axis.channel] = made.value;
        draw().catch(fail);
      });
      controls.append(wrapper);
    }
    const selects = plot.filters.map((filter) => {
      const [wrapper, made] = select(filter.label, `${figure.id}-${filter.field}`);
      made.addEventListener("change", () => {
        chosen[filter.field] = made.value;
        if (!filter.all) offer();
        draw().catch(fail);
      });
      controls.append(wrapper);
      return [filter, wrapper, made];
    });
    // Each choice has the values that occur among the rows of the source and the gallery that are chosen before it.
    function offer() {
      let rows = plot.rows;
      for (const [filter, wrapper, made] of selects) {
        const occur = new Set(rows.map((row) => String(row[filter.field])));
        const values = filter.values.map(({ value, text }) => ({ value: String(value), text })).filter(({ value }) => occur.has(value));
        const before = made.options.length ? made.value : String(filter.first ?? ALL);
        fill(made, filter.all ? [{ value: ALL, text: "all" }, ...values] : values);
        made.value = [...made.options].some((option) => option.value === before) ? before : filter.all ? ALL : values.at(filter.last ? -1 : 0).value;
        wrapper.hidden = values.length < 2;
        chosen[filter.field] = made.value;
        if (!filter.all) rows = rows.filter((row) => String(row[filter.field]) === made.value);
      }
    }
    if (selects.length) offer();
    if (controls.children.length) live.append(controls, count);
    const grid = element("div", plot.shared ? "views wide" : "views");
    grid.append(...boxes);
    live.append(grid);
    still.before(live);
    figure.classList.add("alive");

    let views = [], latest = 0;
    async function draw() {
      const mine = ++latest;
      const rows = shown(plot, chosen);
      count.textContent = `${rows.length.toLocaleString("en")} points shown`;
      views.forEach((view) => view.finalize());
      views = [];
      boxes.forEach((box, number) => (box.hidden = plot.shared && !of(rows, number).length));
      const visible = boxes.filter((box) => !box.hidden).length;
      grid.classList.toggle("one", visible === 1);
      for (const [number, box] of boxes.entries()) {
        box.replaceChildren();
        if (box.hidden) continue;
        const compiled = vegaLite.compile(specification(plot, number, rows, chosen, box.clientWidth, visible > 1)).spec;
        const view = new vega.View(vega.parse(compiled, null, { ast: true }), {
          expr: vega.expressionInterpreter, // no code is made from text: the policy forbids it
          renderer: rows.length > 3000 ? "canvas" : "svg",
          container: box,
          hover: true,
          tooltip: tooltip(tip),
          logLevel: vega.Error,
        });
        views.push(view);
        await view.runAsync();
        if (mine !== latest) return; // a later choice, or another scheme, is being drawn
        box.firstElementChild.setAttribute("aria-hidden", "true"); // the box says in words what it shows
      }
    }
    function fail(error) {
      figure.classList.remove("alive");
      live.remove();
      console.error(error);
    }
    try {
      await draw();
    } catch (error) {
      fail(error);
      return;
    }
    let width = document.documentElement.clientWidth, waiting = 0;
    inTheDark.addEventListener("change", () => draw().catch(fail));
    window.addEventListener("resize", () => {
      if (document.documentElement.clientWidth === width) return;
      width = document.documentElement.clientWidth;
      clearTimeout(waiting);
      waiting = setTimeout(() => draw().catch(fail), 200);
    });
  }

  async function main() {
    const tip = element("div", "tip");
    tip.hidden = true;
    document.body.append(tip);
    for (const figure of document.querySelectorAll("figure[data-plot]")) await show(figure, tip);
    document.documentElement.dataset.plots = "drawn";
  }

  main();
})();
