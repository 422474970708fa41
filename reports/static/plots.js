// Draws the plots of a page in place of its static figures; without it, or when anything fails, the figures stay.
// Nothing is fetched: the rows and the specifications stand in the page as JSON, which Python made (reports/plots.py).
"use strict";

(function () {
  const ALL = "";

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
    for (const row of rows) groups.set(row[plot.front], [...(groups.get(row[plot.front]) || []), row]);
    for (const group of groups.values()) {
      const best = front(group, axes.x, axes.y);
      group.forEach((row, i) => (row.front = best.has(i)));
    }
    return rows;
  }

  function specification(plot, view, number, rows, chosen, width) {
    const made = structuredClone(view);
    made.data = { values: rows.filter((row) => !("view" in row) || row.view === number) };
    const named = (made.layer.find((layer) => layer.encoding.color?.scale) || {}).encoding?.color.scale.domain || [];
    const longest = Math.max(8, ...named.map((name) => name.length));
    const columns = Math.max(1, Math.floor((width - 60) / (7 * longest + 30)));
    made.config = { ...made.config, legend: { ...made.config.legend, columns } };
    for (const axis of plot.axes) {
      const option = axis.options[Number(chosen[axis.channel])];
      for (const layer of made.layer) {
        const encoding = layer.encoding[axis.channel];
        if (!encoding) continue;
        encoding.title = option.title;
        encoding.scale = option.log ? { type: "log" } : { zero: false };
        encoding.axis = { ...encoding.axis, format: option.log ? "~s" : ",~r" };
      }
    }
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
    const plot = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const still = figure.querySelector(".still");
    const live = element("div", "live");
    const chosen = {};
    const controls = element("div", "controls");
    const count = element("output", "count");
    const boxes = plot.views.map(() => {
      const box = element("div", "view");
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
    const grid = element("div", plot.views.length > 1 ? "views" : "views one");
    grid.append(...boxes);
    live.append(grid);
    still.before(live);
    figure.classList.add("alive");

    let views = [];
    async function draw() {
      const rows = shown(plot, chosen);
      count.textContent = `${rows.length.toLocaleString("en")} points shown`;
      views.forEach((view) => view.finalize());
      views = [];
      for (const [number, box] of boxes.entries()) {
        const made = specification(plot, plot.views[number], number, rows, chosen, box.clientWidth);
        const compiled = vegaLite.compile(made).spec;
        box.replaceChildren();
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
