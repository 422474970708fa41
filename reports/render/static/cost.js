// The Cost page's calculator: the arithmetic of reports/cost.py, over the curves that stand in the page as JSON, with the prices of the form.
// Without it the tables of the stated scenarios stay. Nothing is fetched, and texts of records are only ever shown as text.
"use strict";

(function () {
  const GB = 1e9, ROUNDING = 1e-9;
  const NOT_TIMED = "not timed in this way";
  const NOT_EXTRAPOLATED = "measured at too few sizes to say";
  const TOO_LOW = "quality not reached";
  const TOO_LARGE = "does not fit into the memory of a machine, however it is cut";

  const whole = (value) => Math.ceil(value - ROUNDING);

  // A value over so many images; null where it would have to be extrapolated without an exponent.
  function at(curve, images, exponent) {
    const sizes = curve.images, values = curve.values, last = sizes.length - 1;
    if (images <= sizes[0]) return values[0];
    if (images > sizes[last]) return exponent === null ? null : values[last] * (images / sizes[last]) ** exponent;
    const i = sizes.findIndex((size) => size >= images);
    const share = Math.log(images / sizes[i - 1]) / Math.log(sizes[i] / sizes[i - 1]);
    return values[i - 1] * (values[i] / values[i - 1]) ** share;
  }

  function provision(setting, called, need, assumed, rateExponent, bytesExponent, factor) {
    if (at(setting.index_bytes, need.images, bytesExponent) === null) return NOT_EXTRAPOLATED;
    const sizes = (shards) => {
      const stored = at(setting.index_bytes, need.images / shards, bytesExponent);
      return [stored, (setting.fixed_memory + setting.memory_per_byte * stored) * (1 + assumed.headroom)];
    };
    const most = Math.max(1, Math.floor(need.images));
    let shards = 1, above = most + 1;
    while (shards < above) { // the fewest that fit
      const middle = Math.floor((shards + above) / 2);
      if (sizes(middle)[1] <= assumed.memory_gb * GB) above = middle;
      else shards = middle + 1;
    }
    if (shards > most) return TOO_LARGE;
    const images = need.images / shards, [stored, ofShard] = sizes(shards);
    const rate = at(called.rate, images, rateExponent);
    if (rate === null) return NOT_EXTRAPOLATED;
    const cores = Math.max(shards, whole(need.qps * shards * called.threads / (rate * factor * assumed.utilisation)));
    const copies = whole(cores / (shards * assumed.cores));
    const memory = shards * copies * ofShard, disk = shards * copies * stored;
    const money = cores * assumed.core_hour * assumed.hours_per_month
      + memory / GB * assumed.memory_gb_month + disk / GB * assumed.disk_gb_month;
    return { shards, copies, cores, memory, disk, money };
  }

  // What serving the need with a setting takes, or a string that says why it cannot be said.
  function plan(setting, need, assumed) {
    if (!Object.hasOwn(setting.calls, need.call)) return NOT_TIMED;
    const called = setting.calls[need.call];
    const quality = at(setting.quality, need.images, setting.quality.fitted);
    if (quality === null) return NOT_EXTRAPOLATED;
    const judged = Math.min(need.images, setting.best.images.at(-1), setting.quality.images.at(-1));
    const lost = at(setting.best, judged, null) - at(setting.quality, judged, null);
    if (quality < need.least_quality - ROUNDING || lost > need.most_lost + ROUNDING) return TOO_LOW;
    const rate = called.rate, stored = setting.index_bytes, found = [];
    for (const [rateExponent, bytesExponent, factor] of [
      [rate.fitted, stored.fitted, 1], [rate.greatest, stored.least, called.fastest], [rate.least, stored.greatest, called.slowest],
    ]) {
      const made = provision(setting, called, need, assumed, rateExponent, bytesExponent, factor);
      if (typeof made === "string") return made;
      found.push(made);
    }
    const bounds = found.map((one) => one.money);
    return {
      quality, ...found[0], machines: found[0].shards * found[0].copies, low: Math.min(...bounds), high: Math.max(...bounds),
      extrapolated: need.images > stored.images.at(-1),
    };
  }

  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  // The cheapest good enough setting of each engine, cheapest first; then the engines that have none.
  function choose(settings, need, assumed) {
    const byEngine = new Map();
    for (const setting of settings) {
      const key = JSON.stringify([setting.engine, setting.kind, setting.variant]);
      byEngine.set(key, [...(byEngine.get(key) || []), setting]);
    }
    const found = [], without = [];
    for (const ofEngine of byEngine.values()) {
      const { engine, kind, variant } = ofEngine[0];
      const plans = ofEngine.map((setting) => [setting, plan(setting, need, assumed)]);
      const good = plans.filter(([, made]) => typeof made !== "string");
      if (good.length) {
        good.sort(([s, p], [t, q]) => compare(p.money, q.money) || compare(q.quality, p.quality) || compare(s.label, t.label));
        found.push({ engine, kind, variant, setting: good[0][0], plan: good[0][1], why: "", best: null });
        continue;
      }
      const reasons = plans.map(([, made]) => made);
      const why = reasons.includes(TOO_LOW) ? TOO_LOW : reasons[0];
      const qualities = why === TOO_LOW ? ofEngine.map((setting) => at(setting.quality, need.images, setting.quality.fitted)) : [];
      const known = qualities.filter((one) => one !== null);
      without.push({ engine, kind, variant, setting: null, plan: null, why, best: known.length ? Math.max(...known) : null });
    }
    found.sort((a, b) => compare(a.plan.money, b.plan.money) || compare(a.engine, b.engine));
    return [...found, ...without];
  }

  window.searchCost = Object.freeze({ plan, choose });

  // --- the form

  function significant(value) {
    if (value === 0) return "0";
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
    return value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }

  function size(value) {
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (value < 1000) return `${unit === "B" ? value.toFixed(0) : significant(value)} ${unit}`;
      value /= 1000;
    }
    return `${significant(value)} TB`;
  }

  const integer = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });

  function row(choice, need) {
    const made = document.createElement("tr");
    const cell = (tag, text, name = "") => {
      const one = document.createElement(tag);
      one.textContent = text;
      if (name) one.className = name;
      made.append(one);
      return one;
    };
    const { setting, plan: p } = choice;
    cell("th", setting ? setting.label : choice.engine).scope = "row";
    cell("td", `${choice.kind}, ${choice.variant}`);
    if (!p) {
      const why = choice.best === null ? choice.why : `${choice.why}: at most ${(100 * choice.best).toFixed(1)} %`;
      const missing = cell("td", why, "missing");
      missing.colSpan = 7;
      return made;
    }
    cell("td", (100 * p.quality).toFixed(1), "number");
    const money = cell("td", "", "number");
    money.dataset.money = p.money;
    money.title = `records: ${[...setting.points, ...setting.calls[need.call].points].join(", ")}`;
    const range = significant(p.low) === significant(p.high) ? "" : `${significant(p.low)} to ${significant(p.high)}`;
    for (const [name, text] of [["value", significant(p.money) + (p.extrapolated ? "‡" : "")], ["interval", range]]) {
      const span = document.createElement("span");
      span.className = name;
      span.textContent = text;
      money.append(span);
    }
    for (const text of [integer(p.cores), integer(p.machines), integer(p.shards), size(p.memory), size(p.disk)]) cell("td", text, "number");
    return made;
  }

  function main() {
    const data = JSON.parse(document.getElementById("cost-data").textContent);
    const form = document.getElementById("cost-form"), body = document.getElementById("cost-rows"), said = document.getElementById("cost-said");
    const field = (name) => form.elements.namedItem(name);
    const number = (name) => field(name).valueAsNumber;

    function calls() {
      const before = field("call").value;
      const sweep = data.sweeps[Number(field("sweep").value)];
      field("call").replaceChildren(...sweep.calls.map(({ key, label }) => new Option(label, key, false, key === before)));
    }

    function show() {
      const sweep = data.sweeps[Number(field("sweep").value)];
      if (!form.checkValidity()) {
        said.textContent = "One of the numbers is missing or out of its range.";
        body.replaceChildren();
        return;
      }
      const need = {
        images: number("images"), qps: number("qps"), call: field("call").value,
        least_quality: number("least_quality") / 100, most_lost: number("most_lost") / 100,
      };
      const assumed = Object.fromEntries(Object.keys(data.assumed).map((name) => [name, number(name)]));
      const found = choose(sweep.settings, need, assumed);
      body.replaceChildren(...found.map((choice) => row(choice, need)));
      const beyond = need.images > sweep.largest ? ` ‡ Extrapolated: ${integer(sweep.largest)} images were measured at most.` : "";
      said.textContent = `${found.filter((choice) => choice.plan).length} of ${found.length} engines are good enough.${beyond}`;
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      if (event.target === field("sweep")) calls();
      show();
    });
    calls();
    field("call").value = data.call;
    if (!field("call").value) field("call").selectedIndex = 0;
    document.getElementById("cost-calculator").hidden = false;
    show();
  }

  if (document.getElementById("cost-data")) main();
})();
