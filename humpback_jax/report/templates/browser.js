// The two views, the filters and their state, which lives in the address: #pairs?round=2&outcome=kept&q=words

const DEFAULTS = {
  q: "", round: "", outcome: "all", domain: "", min: "", max: "", signal: "", smin: "", smax: "", sort: "file", id: "",
};
const NARROW = matchMedia("(max-width: 820px)");
const view = byId("pairs");
// A run without signals has no controls for them.
const controls = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, byId(`f-${name}`)]).filter(([, control]) => control));
const NONE = new Float32Array(0); // the scores of a run without a round
let state = { ...DEFAULTS };
let store = null;
let list = null;
let found = null; // pairs whose whole text holds the words; null: nothing is searched
let searching = 0;

function readAddress() {
  const [name, query] = location.hash.slice(1).split("?");
  const given = new URLSearchParams(query || "");
  const next = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) if (given.has(key)) next[key] = given.get(key);
  return [name === "pairs" ? "pairs" : "overview", next];
}

function writeAddress(push) {
  const query = new URLSearchParams(Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]));
  const hash = `#pairs${query.size ? `?${query}` : ""}`;
  if (hash !== location.hash) history[push ? "pushState" : "replaceState"](null, "", hash);
}

const roundPlace = () => Math.max(0, store.index.rounds.indexOf(Number(state.round)));

/** Keeps the pairs that every filter lets through, in the wanted order. */
function matching() {
  const place = roundPlace();
  const states = store.state[place];
  const scores = store.score[place] || NONE;
  const words = state.q.trim().toLowerCase();
  const titles = words ? store.titles : null;
  const isScored = within(scores, state.min, state.max);
  const hasSignal = state.signal ? within(store.column(place, state.signal) || NONE, state.smin, state.smax) : null;
  const wantedDomain = state.domain.trim().toLowerCase();
  const domains = wantedDomain ? store.index.domains.map((name) => name.toLowerCase().includes(wantedDomain)) : null;
  const passes = outcomeTest(place);
  const result = new Uint32Array(store.size);
  let count = 0;
  for (let i = 0; i < store.size; i += 1) {
    if (!passes(i, states[i])) continue;
    if (isScored && !isScored(i)) continue;
    if (hasSignal && !hasSignal(i)) continue;
    if (domains && !domains[store.domain[i]]) continue;
    if (words && !titles[i].includes(words) && !(found && found[i])) continue;
    result[count] = i;
    count += 1;
  }
  return sorted(result.subarray(0, count), place);
}

/** Whether the value of pair i lies within bounds as they were typed; null where neither is. */
function within(values, low, high) {
  if (low === "" && high === "") return null;
  const [least, most] = [low === "" ? -Infinity : Math.fround(Number(low)), high === "" ? Infinity : Math.fround(Number(high))];
  return (i) => values[i] >= least && values[i] <= most;
}

function outcomeTest(place) {
  if (state.outcome === "all") return () => true;
  if (state.outcome === "dropped") return (_, code) => code !== 0;
  if (state.outcome === "changed") {
    const before = store.state[place === 0 ? Math.min(1, store.state.length - 1) : place - 1];
    return (i, code) => (code === 0) !== (before[i] === 0);
  }
  const wanted = store.index.reasons.findIndex(([name]) => name === state.outcome);
  return (_, code) => code === wanted;
}

function sorted(items, place) {
  const scores = store.score[place] || NONE;
  const number = (value, without) => (value >= 0 ? value : without);
  const orders = {
    high: (a, b) => number(scores[b], -1) - number(scores[a], -1) || a - b,
    low: (a, b) => number(scores[a], 9) - number(scores[b], 9) || a - b,
    long: (a, b) => store.length[b] - store.length[a] || a - b,
    short: (a, b) => store.length[a] - store.length[b] || a - b,
    domain: (a, b) => store.domain[a] - store.domain[b] || a - b,
  };
  const column = state.signal ? store.column(place, state.signal) : null;
  if (column) {
    const value = (i, without) => (Number.isNaN(column[i]) ? without : column[i]);
    orders.most = (a, b) => value(b, -1e9) - value(a, -1e9) || a - b;
    orders.least = (a, b) => value(a, 1e9) - value(b, 1e9) || a - b;
  }
  if (store.score.length > 1) {
    const [first, last] = [store.score[0], store.score[store.score.length - 1]];
    const change = (i) => number(Math.abs(last[i] - first[i]), -1);
    orders.change = (a, b) => change(b) - change(a) || a - b;
  }
  return state.sort in orders ? items.sort(orders[state.sort]) : items;
}

function apply(push = false) {
  const items = matching();
  const chosen = store.place.get(state.id);
  list.show(items, chosen === undefined ? null : chosen);
  byId("empty").hidden = items.length > 0;
  byId("split").hidden = items.length === 0;
  byId("count").textContent = items.length === store.size
    ? `${items.length.toLocaleString("en")} pairs`
    : `${items.length.toLocaleString("en")} of ${store.size.toLocaleString("en")} pairs`;
  writeAddress(push);
}

/** Looks through the whole texts, chunk by chunk; titles were searched at once. */
async function searchTexts() {
  const own = (searching += 1);
  const words = state.q.trim().toLowerCase();
  found = null;
  byId("progress").textContent = "";
  if (words.length < 2) return;
  const hits = new Uint8Array(store.size);
  let rested = performance.now();
  for (let number = 0; number < store.chunks; number += 1) {
    if (!store.folded[number]) await store.fold(number);
    store.search(number, words, hits);
    if (performance.now() - rested > 50) {
      byId("progress").textContent = `searching texts: ${Math.round((100 * number) / store.chunks)} %`;
      await new Promise((resume) => setTimeout(resume));
      rested = performance.now();
    }
    if (own !== searching) return;
  }
  found = hits;
  byId("progress").textContent = "";
  apply();
}

function fillRow(i) {
  const place = roundPlace();
  const score = store.score.length ? store.score[place][i] : NaN;
  const said = Number.isNaN(score) ? "–" : score.toFixed(2);
  const names = [store.pGood.length ? "p_good" : "", state.signal].filter((name, at, all) => name && all.indexOf(name) === at);
  const values = names.map((name) => [name, store.column(place, name)]).filter(([, column]) => column && !Number.isNaN(column[i]));
  const measured = values.map(([name, column]) => `${signalLabel(store, name)} ${shortNumber(column[i], 3)} · `).join("");
  return make("div", { class: "row", role: "option" },
    make("span", { class: "score" }, make("span", { class: "unseen" }, "Score "), said),
    make("span", { class: "what", dir: "auto" }, store.index.instruction[i] || "(no instruction)"),
    make("span", { class: "where" }, chip(store, store.state[place][i], store.index.flawed[i]),
      make("span", null, `${measured}${store.index.domains[store.domain[i]]} · ${store.index.header[i]}`)));
}

function fillOutcomes() {
  const counts = new Map();
  for (const code of store.state[roundPlace()]) counts.set(code, (counts.get(code) || 0) + 1);
  const option = (value, label) => make("option", { value }, label);
  const kept = counts.get(0) || 0;
  const options = [option("all", "All"), option("kept", `Kept (${kept})`), option("dropped", `Not kept (${store.size - kept})`)];
  if (store.index.rounds.length > 1) options.push(option("changed", "Changed between rounds"));
  store.index.reasons.forEach(([name, label], code) => {
    if (code !== 0 && counts.has(code)) options.push(option(name, `${label} (${counts.get(code)})`));
  });
  controls.outcome.replaceChildren(...options);
}

function showControls() {
  if (!state.round && store.index.rounds.length) state.round = String(store.index.rounds.at(-1));
  fillOutcomes();
  for (const [name, control] of Object.entries(controls)) control.value = state[name];
  if (controls.outcome.value !== state.outcome) controls.outcome.value = state.outcome = "all";
  if (controls.signal) {
    if (controls.signal.value !== state.signal) controls.signal.value = state.signal = "";
    for (const name of ["smin", "smax"]) controls[name].disabled = !state.signal;
    for (const option of controls.sort.querySelectorAll("[value=most], [value=least]")) option.hidden = !state.signal;
    if (!state.signal) {
      if (state.sort === "most" || state.sort === "least") state.sort = controls.sort.value = "file";
      for (const name of ["smin", "smax"]) state[name] = controls[name].value = "";
    }
  }
  if (controls.sort.value !== state.sort) controls.sort.value = state.sort = "file";
}

/** Opens the columns that the state asks for: the first time they are asked for, else at once. */
async function openChosenSignal() {
  const place = roundPlace();
  if (state.signal && !store.column(place, state.signal)) await store.openSignals(place);
}

async function openDetail(focus) {
  const i = store.place.get(state.id);
  if (i === undefined) return;
  await showPair(store, i, state.q.trim().toLowerCase(), byId("detail"));
  if (focus) { view.classList.add("reading"); byId("detail-title").focus(); }
}

function closeDetail() {
  view.classList.remove("reading");
  list.box.focus();
}

async function loadPairs() {
  store = await PairStore.open();
  controls.round.replaceChildren(...store.index.rounds.map((t) => make("option", { value: t }, `Round ${t}`)));
  byId("domains").replaceChildren(...store.index.domains.slice(0, 300).map((value) => make("option", { value })));
  controls.sort.querySelector("[value=change]").hidden = store.index.rounds.length < 2;
  list = new VirtualList(byId("list"), fillRow,
    (i) => { state.id = store.index.id[i]; writeAddress(false); if (!NARROW.matches) openDetail(false); },
    () => openDetail(true));
  let waiting = 0;
  for (const [name, control] of Object.entries(controls)) {
    control.addEventListener(control.tagName === "SELECT" ? "change" : "input", async () => {
      state[name] = control.value;
      if (name === "round" || name === "signal") {
        showControls();
        await openChosenSignal();
      }
      apply();
      if (name === "q") { found = null; searching += 1; clearTimeout(waiting); waiting = setTimeout(searchTexts, 250); }
    });
  }
  byId("reset").addEventListener("click", () => {
    state = { ...DEFAULTS, id: state.id };
    found = null;
    showControls();
    apply();
    controls.q.focus();
  });
}

let loading = null;
async function route(first) {
  const [name, given] = readAddress();
  byId("overview").hidden = name !== "overview";
  view.hidden = name !== "pairs";
  for (const link of document.querySelectorAll("header.top nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "overview") {
    const target = location.hash.length > 1 && byId(location.hash.slice(1));
    if (target && !first) target.scrollIntoView();
    return;
  }
  scrollTo(0, 0);
  loading ||= loadPairs();
  await loading;
  state = given;
  view.classList.remove("reading");
  showControls();
  await openChosenSignal();
  apply();
  if (state.q) searchTexts();
  if (state.id) openDetail(NARROW.matches);
  else if (!NARROW.matches && list.items.length) list.choose(0);
  view.dataset.ready = "yes";
}

byId("more-filters").open = !NARROW.matches;
new ResizeObserver(([entry]) => {
  document.documentElement.style.setProperty("--top", `${entry.borderBoxSize[0].blockSize}px`);
}).observe(document.querySelector("header.top"));
addEventListener("hashchange", () => route(false));
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view.classList.contains("reading")) closeDetail();
});
route(true);
