// Tooltips of charts, and tables that sort and filter together with their charts. Pages are complete without it.
"use strict";

(function () {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  function element(tag, name, text = "") {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  }

  // --- tooltips

  const tip = element("div", "tip");
  tip.hidden = true;
  document.body.append(tip);
  // The nearest visible mark within reach of the pointer: marks overlap, and a finger is wide.
  function nearest(event, svg) {
    const reach = event.pointerType === "touch" ? 24 : 12;
    let found = null, least = reach;
    for (const mark of all("[data-tip]:not([hidden])", svg)) {
      const box = mark.getBoundingClientRect();
      const apart = Math.hypot(event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2) - box.width / 4;
      if (apart < least) [found, least] = [mark, apart];
    }
    return found;
  }
  function show(event) {
    const mark = nearest(event, event.currentTarget);
    tip.hidden = !mark;
    all(".m.on").forEach((other) => other.classList.remove("on"));
    if (!mark) return;
    mark.classList.add("on");
    tip.textContent = mark.dataset.tip;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    const below = event.clientY + 14 + tip.offsetHeight < window.innerHeight;
    tip.style.top = `${below ? event.clientY + 14 : Math.max(8, event.clientY - tip.offsetHeight - 14)}px`;
  }
  for (const svg of all("svg.chart")) {
    for (const event of ["pointermove", "pointerdown"]) svg.addEventListener(event, show);
    svg.addEventListener("pointerleave", () => (tip.hidden = true));
  }

  // --- tables

  const text = (cell) => cell.textContent.trim();

  function sort(table, column, heading) {
    const down = heading.getAttribute("aria-sort") !== "descending";
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const worth = (row) => ("v" in row.cells[column].dataset ? Number(row.cells[column].dataset.v) : null);
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.some((row) => worth(row) !== null);
    rows.sort((a, b) => {
      const [x, y] = numeric ? [worth(a), worth(b)] : [text(a.cells[column]), text(b.cells[column])];
      if (x === null || y === null) return (x === null) - (y === null); // rows without the number last
      return (down ? -1 : 1) * (numeric ? x - y : x.localeCompare(y, "en", { numeric: true }));
    });
    table.tBodies[0].append(...rows);
  }

  // The marks that no visible one of their kind is at least as good as, joined by its line.
  function redraw(group) {
    const marks = all("[data-k]", group).map((mark) => [mark, Number(mark.dataset.x), Number(mark.dataset.y)]);
    const shown = marks.filter(([mark]) => !mark.hasAttribute("hidden")).sort((a, b) => b[1] - a[1] || a[2] - b[2]);
    const front = [];
    let best = Infinity;
    for (const one of shown) {
      one[0].classList.add("weak");
      if (one[2] < best) {
        best = one[2];
        front.push(one);
        one[0].classList.remove("weak");
      }
    }
    group.querySelector(".line").setAttribute("d", front.length ? "M" + front.map(([, x, y]) => `${x} ${y}`).join("L") : "");
    all(".label", group).forEach((label) => label.remove()); // they name marks of the first view
  }

  function filtered(table, controls) {
    const rows = [...table.tBodies[0].rows];
    rows.forEach((row, i) => (row.dataset.k = i));
    const filters = all("th[data-filter]", table)
      .map((heading) => ({ heading, column: heading.cellIndex, order: Number(heading.dataset.filter) }))
      .sort((a, b) => a.order - b.order);
    const count = element("output", "count");
    for (const filter of filters) {
      const label = element("label", "", text(filter.heading));
      filter.select = document.createElement("select");
      label.append(filter.select);
      controls.append(label);
      filter.select.addEventListener("change", () => update());
    }
    controls.append(count);
    controls.hidden = false;
    // A choice offers the values that occur among the rows that the choices before it leave.
    function update() {
      let left = rows;
      for (const filter of filters) {
        const values = [...new Set(left.map((row) => text(row.cells[filter.column])))];
        const before = filter.select.value, first = !filter.select.options.length;
        const options = filter.order ? ["", ...values] : values;
        filter.select.replaceChildren(...options.map((value) => new Option(value || "all", value)));
        const single = values.find((value) => value.startsWith("single")) ?? "";
        filter.select.value = options.includes(before) && !first ? before : filter.order === 1 ? single : options[0];
        left = left.filter((row) => !filter.select.value || text(row.cells[filter.column]) === filter.select.value);
      }
      const shown = new Set(left.map((row) => row.dataset.k));
      rows.forEach((row) => (row.hidden = !shown.has(row.dataset.k)));
      count.textContent = `${shown.size.toLocaleString("en")} searches`;
      for (const figure of all("figure[data-group]")) {
        figure.hidden = figure.dataset.group !== filters[0].select.value;
        if (figure.hidden) continue;
        all("[data-k]", figure).forEach((mark) => mark.toggleAttribute("hidden", !shown.has(mark.dataset.k)));
        all(".fronts", figure).forEach(redraw);
      }
    }
    update();
  }

  for (const table of all("table[data-sort]")) {
    for (const heading of all("thead tr:last-child th", table)) {
      heading.tabIndex = 0;
      heading.setAttribute("role", "columnheader");
      const act = () => sort(table, heading.cellIndex, heading);
      heading.addEventListener("click", act);
      heading.addEventListener("keydown", (event) => ["Enter", " "].includes(event.key) && (event.preventDefault(), act()));
    }
    const controls = document.querySelector(`[data-for="${table.id}"]`);
    if (controls) filtered(table, controls);
  }
  document.documentElement.dataset.ready = "yes";
})();
