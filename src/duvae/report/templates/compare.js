(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("compare-data").textContent);
  const app = document.getElementById("compare-app");
  const all = data.sets.flatMap(set => set.settings.map(setting => ({...setting, set})));
  const find = id => all.find(setting => setting.id === id);
  const choice = document.getElementById("pick-set");
  const picks = [document.getElementById("pick-a"), document.getElementById("pick-b")];
  const keys = [document.getElementById("key-a"), document.getElementById("key-b")];
  const part = of => of.id.slice(of.set.id.length + 1);

  const make = (tag, text, attributes = {}, parent = null, space = null) => {
    const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== null) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const written = (value, decimals, sign = false) => {
    if (value === null || value === undefined) return "–";
    const digits = {minimumFractionDigits: decimals, maximumFractionDigits: decimals};
    let text = value.toLocaleString("en-US", digits).replace("-", "−");
    if (!/[1-9]/.test(text)) text = text.replace("−", "");
    else if (sign && value > 0) text = "+" + text;
    return text;
  };

  // Fills the two lists with the settings of a data set.
  function list(name) {
    const set = data.sets.find(of => of.id === name);
    for (const pick of picks) {
      pick.replaceChildren();
      for (const setting of set.settings) {
        const note = setting.note && !setting.name.includes(setting.note) ? ` (${setting.note})` : "";
        make("option", setting.name + note, {value: setting.id}, pick);
      }
    }
  }

  // The paired difference of the NLL, b minus a. The page has each pair once, in the order of the settings.
  function paired(a, b) {
    const [first, second] = [part(a), part(b)];
    const forward = (a.set.pairs[first] || {})[second], backward = (a.set.pairs[second] || {})[first];
    const values = forward || backward;
    if (!values) return null;
    const turn = forward ? 1 : -1;
    return {difference: turn * values[0], half: values[1], seeds: values[2], sign: turn * values[3],
      won: forward ? values[4] : 1 - values[4]};
  }

  function numbers(a, b) {
    const table = document.getElementById("compare-table");
    table.replaceChildren();
    const head = make("tr", null, {}, make("thead", null, {}, table));
    make("th", "Measure", {scope: "col"}, head);
    [a, b].forEach((of, i) => {
      const cell = make("th", null, {scope: "col"}, head);
      make("span", null, {class: "key", style: `background:${of.colour}`}, cell);
      cell.append(of.system);
      for (const line of [of.note, of.seeds === 1 ? "1 seed" : `${of.seeds} seeds`].filter(Boolean))
        make("span", line, {class: "unit"}, cell);
    });
    const rough = [a, b].some(of => !of.converged);
    make("th", rough ? "difference ‡" : "difference", {scope: "col"}, head);
    const body = make("tbody", null, {}, table);
    const pair = paired(a, b);
    for (const measure of a.set.measures) {
      const values = [a, b].map(of => of.values[measure.key] || [null, null]);
      if (values.every(([mean]) => mean === null)) continue;
      const row = make("tr", null, {}, body);
      const name = make("th", measure.label, {scope: "row"}, row);
      if (measure.unit) make("span", " " + measure.unit, {class: "unit"}, name);
      const apart = values[0][0] === null || values[1][0] === null ? null : values[1][0] - values[0][0];
      values.forEach(([mean, spread], i) => {
        const best = measure.paired && pair && pair.sign === (i ? -1 : 1);
        const whole = measure.key === "au" && Number.isInteger(mean);
        const cell = make("td", written(mean, whole ? 0 : measure.decimals), best ? {class: "best"} : {}, row);
        if (spread !== null) make("span", " ± " + written(spread, measure.decimals), {class: "spread"}, cell);
      });
      const whole = measure.key === "au" && values.every(([mean]) => Number.isInteger(mean));
      const comparable = pair || !measure.likelihood;  // the NLL is compared on the same examples only
      const difference = measure.paired && pair ? pair.difference : comparable ? apart : null;
      const cell = make("td", written(difference, whole ? 0 : measure.decimals, true), {}, row);
      if (measure.paired && pair) make("span", ` [${written(pair.half, measure.decimals)}]`, {class: "spread"}, cell);
    }
    for (const [label, key] of [["Latent space", "verdict"], ["End of training", "ending"], ["Commit", "commit"]]) {
      if (!a[key] && !b[key]) continue;
      const row = make("tr", null, {}, body);
      make("th", label, {scope: "row"}, row);
      for (const of of [a, b]) make("td", of[key] || "–", {class: "words"}, row);
      make("td", "", {}, row);
    }
    document.getElementById("compare-rough").hidden = !rough;
    const known = [a, b].every(of => of.values.nll && of.values.nll[0] !== null);
    document.getElementById("compare-words").textContent = !pair
      ? (a !== b && known ? "The NLL was not compared in pairs, since values of single examples are missing." : "")
      : (pair.sign
        ? "The NLL differs, on the same test examples (95 % for this comparison alone): the lower one is bold."
        : "On these test examples, the NLL of the two cannot be distinguished (95 % for this comparison alone).")
      + ` The second has the lower NLL for ${Math.round(100 * pair.won)} % of them.`
      + (pair.seeds === 1 ? " This is one seed; other seeds may differ." : ` This is over ${pair.seeds} seeds.`);
  }

  const NS = "http://www.w3.org/2000/svg", W = 260, H = 150, LEFT = 34, RIGHT = 6, TOP = 18, BOTTOM = 20;

  function ticks(low, high) {
    const step = [1, 2, 5, 10].map(k => k * 10 ** Math.floor(Math.log10((high - low) / 3))).find(s => (high - low) / s <= 4);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Number(at.toPrecision(8)));
    return found;
  }

  function chart(curve, a, b) {
    const svg = make("svg", null, {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": curve.title}, null, NS);
    make("text", curve.title, {x: 2, y: 11, class: "title"}, svg, NS);
    const lines = [a, b].flatMap((of, i) => of.curves.map(seed => (
      {colour: of.colour, dashes: dashes(a, b, i), epochs: seed.epoch, values: seed[curve.key]})));
    const longest = Math.max(...lines.map(line => Math.max(...line.epochs)));
    const settled = curve.key === "valid_loss" || curve.key === "valid_mpd";
    const seen = lines.flatMap(line => line.values.filter((v, n) =>
      v !== null && (!settled || line.epochs.length < 10 || n >= line.epochs.length / 10)));
    if (!seen.length) return null;
    let low = Math.min(...seen), high = Math.max(...seen);
    if (curve.key !== "valid_loss" && low > 0) low = 0;
    if (high - low < 1e-3) [low, high] = [low - 0.05, high + 0.05];
    [low, high] = [low - 0.04 * (high - low), high + 0.06 * (high - low)];
    const x = epoch => LEFT + (W - LEFT - RIGHT) * epoch / longest;
    const y = value => H - BOTTOM - (H - TOP - BOTTOM) * (value - low) / (high - low);
    const warmup = Math.min(a.set.warmup, longest);
    if (warmup)
      make("rect", null, {x: x(0), y: TOP, width: x(warmup) - x(0), height: H - TOP - BOTTOM, class: "warmup"}, svg, NS);
    for (const at of ticks(low, high)) {
      make("line", null, {x1: LEFT, x2: W - RIGHT, y1: y(at), y2: y(at), class: "grid"}, svg, NS);
      make("text", String(at).replace("-", "−"), {x: LEFT - 4, y: y(at) + 3, class: "up"}, svg, NS);
    }
    for (const at of ticks(0, longest).filter(Number.isInteger))
      make("text", at, {x: x(at), y: H - 7, class: "across"}, svg, NS);
    const clip = make("clipPath", null, {id: `clip-${curve.key}`}, svg, NS);
    make("rect", null, {x: LEFT, y: TOP, width: W - LEFT, height: H - TOP - BOTTOM}, clip, NS);
    for (const line of lines) {
      const points = line.values.map((v, n) => v === null ? null : `${x(line.epochs[n]).toFixed(1)},${y(v).toFixed(1)}`);
      make("polyline", null, {points: points.filter(Boolean).join(" "), stroke: line.colour, class: "curve",
        "stroke-dasharray": line.dashes, "clip-path": `url(#clip-${curve.key})`}, svg, NS);
    }
    return svg;
  }

  function pictures(a, b) {
    const place = document.getElementById("compare-pictures");
    place.replaceChildren();
    [a, b].forEach(of => {
      const source = of.picture && document.querySelector(`#${CSS.escape(of.picture)} img`);
      if (!source) return;
      const figure = make("figure", null, {}, place);
      const image = make("img", null, {alt: source.alt}, figure);
      image.src = source.src;
      figure.style.borderTopColor = of.colour;
    });
  }

  // Two settings of one colour, such as two of one system, differ in their lines.
  function dashes(a, b, i) { return i && a.colour === b.colour ? "5 3" : "none"; }

  function show(remember) {
    const [a, b] = picks.map(pick => find(pick.value));
    keys.forEach((key, i) => { key.style.background = [a, b][i].colour; });
    numbers(a, b);
    document.getElementById("compare-curves").replaceChildren(...data.curves.map(curve => chart(curve, a, b)).filter(Boolean));
    pictures(a, b);
    if (remember) try { history.replaceState(null, "", `#compare=${a.id},${b.id}`); } catch (error) { /* some browsers refuse this for a page that was opened as a file */ }
  }

  function asked() {
    const ids = decodeURIComponent(location.hash).match(/^#compare=([^,]+),(.+)$/);
    const [a, b] = ids ? [find(ids[1]), find(ids[2])] : [];
    return a && b && a.set === b.set ? [a.id, b.id] : null;
  }

  // Chooses two settings of one data set.
  function choose(ids) {
    const name = find(ids[0]).set.id;
    list(name);
    if (choice) choice.value = name;
    picks.forEach((pick, i) => { pick.value = ids[i]; });
    show(false);
  }

  // The same two settings on another data set, or else its first two.
  function elsewhere(name) {
    const set = data.sets.find(of => of.id === name);
    const ids = picks.map(pick => `${name}/${part(find(pick.value))}`);
    return ids.map((id, i) =>
       (find(id) || find(`${name}/${["vae", "du_vae"][i]}`) || find(set.settings[Math.min(i, set.settings.length - 1)].id)).id);
  }

  if (choice) {
    for (const set of data.sets) make("option", set.id, {value: set.id}, choice);
    choice.addEventListener("change", () => { choose(elsewhere(choice.value)); show(true); });
  }
  for (const pick of picks) pick.addEventListener("change", () => show(true));
  app.hidden = false;
  choose(asked() || data.first);
  if (asked()) app.parentElement.scrollIntoView();
  window.addEventListener("hashchange", () => { const ids = asked(); if (ids) { choose(ids); app.parentElement.scrollIntoView(); } });
})();
