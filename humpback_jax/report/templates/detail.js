// One pair: its instruction beside the text of the page, and what every round made of it.

/** The text with the words that were searched for marked; text nodes and <mark> only. */
function marked(text, words) {
  const fragment = document.createDocumentFragment();
  const folded = words ? text.toLowerCase() : "";
  let at = 0;
  if (words && folded.length === text.length) {
    for (let hit = folded.indexOf(words); hit !== -1; hit = folded.indexOf(words, at)) {
      fragment.append(text.slice(at, hit), make("mark", null, text.slice(hit, hit + words.length)));
      at = hit + words.length;
    }
  }
  fragment.append(text.slice(at));
  return fragment;
}

/** The address as a link if it is one of the web, else as text: `javascript:` and its kin never become links. */
function address(source) {
  let url = null;
  try { url = new URL(source); } catch { /* a file's name */ }
  if (url && (url.protocol === "http:" || url.protocol === "https:")) {
    return make("a", { href: url.href, rel: "noopener noreferrer nofollow", target: "_blank" }, source);
  }
  return make("span", null, source || "unknown");
}

function chip(store, state, flawed) {
  const [name, label] = store.index.reasons[state];
  const kind = name === "kept" ? "kept" : flawed ? "flawed" : "";
  return make("span", { class: `chip ${kind}` }, label);
}

function digits(probabilities, lowest) {
  const parts = probabilities.map((p, i) => {
    const bar = make("i");
    bar.style.height = `${Math.round(42 * p)}px`;
    return make("div", null, make("div", { class: "track" }, bar), make("b", null, String(i + lowest)), `${Math.round(100 * p)} %`);
  });
  const label = `Probability of each score: ${probabilities.map((p, i) => `${i + lowest}: ${Math.round(100 * p)} %`).join(", ")}`;
  return make("div", { class: "digits", role: "img", "aria-label": label }, ...parts);
}

function signalLabel(store, name) {
  if (name === "p_good") return "p(good)";
  return (store.index.signals.find(([each]) => each === name) || [name, name])[1];
}

/** So many significant digits, or a whole number as it is. */
function shortNumber(value, digits = 4) {
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(digits)));
}

/** Every signal of a pair, a column per round; null where it has none. */
async function signalTable(store, i) {
  const places = store.index.rounds.map((_, place) => place);
  await Promise.all(places.map((place) => store.openSignals(place)));
  const measured = places.filter((place) => store.signals[place] && !Number.isNaN(store.signals[place].rating[i]));
  if (!measured.length) return null;
  const names = [...(store.pGood.length ? ["p_good"] : []), ...store.index.signals.map(([name]) => name)];
  const cell = (place, name) => {
    const column = store.column(place, name);
    return make("td", null, column && !Number.isNaN(column[i]) ? shortNumber(column[i]) : "–");
  };
  const rows = names.map((name) => make("tr", null, make("th", { scope: "row" }, signalLabel(store, name)),
    ...measured.map((place) => cell(place, name))));
  const heads = measured.map((place) => make("th", { scope: "col" }, `Round ${store.index.rounds[place]}`));
  return make("table", { class: "signals" },
    make("thead", null, make("tr", null, make("th", { scope: "col" }, "Signal"), ...heads)), make("tbody", null, ...rows));
}

function gradeStep(store, i, place, grade, words) {
  const t = store.index.rounds[place];
  const score = store.score[place][i];
  const step = make("li", { class: "card" }, make("h3", null, `Round ${t}: graded by M_${t - 1}`));
  const line = make("div", { class: "grade" });
  if (Number.isNaN(score)) line.append(make("span", { class: "muted" }, "Not rated"));
  else line.append(make("span", { class: "value" }, score.toFixed(2)), make("span", { class: "muted" }, `of ${store.index.scale[1]}`));
  const pGood = store.column(place, "p_good");
  if (pGood && !Number.isNaN(pGood[i])) line.append(make("span", { class: "muted" }, `· p(good) ${pGood[i].toFixed(3)}`));
  line.append(chip(store, store.state[place][i], false));
  step.append(line);
  if (!grade) return step;
  const [rationale, read, probabilities, why] = grade;
  if (why) step.append(make("p", { class: "why" }, why));
  step.append(rationale
    ? make("blockquote", { class: "text", dir: "auto" }, marked(rationale, words))
    : make("p", { class: "muted small" }, "The scorer was asked for the number only."));
  if (!read && probabilities.length) step.append(make("p", { class: "muted small" }, "It named no score, so the number is the mean of these probabilities:"));
  if (probabilities.length) step.append(digits(probabilities, store.index.scale[0]));
  return step;
}

let asked = 0;
async function showPair(store, i, words, box) {
  const own = (asked += 1);
  const [instruction, text, header, source, grades] = await store.texts(i);
  const signals = await signalTable(store, i);
  if (own !== asked) return; // another pair was chosen meanwhile
  const flawed = Boolean(store.index.flawed[i]);
  const story = make("ol", { class: "story" },
    make("li", { class: "card" }, make("h3", null, "Instruction, written by M_yx"),
      instruction ? make("p", { class: "text ask", dir: "auto" }, marked(instruction, words)) : make("p", { class: "muted" }, "(none)"),
      flawed ? make("p", null, "Never became a candidate: ", chip(store, store.state[0][i], true)) : null));
  if (!flawed) store.index.rounds.forEach((_, place) => story.append(gradeStep(store, i, place, grades[place], words)));
  if (signals) story.append(make("li", { class: "card" }, make("h3", null, "Signals of this pair"), signals));
  const page = make("div", { class: "card" }, make("h3", null, "Text of the web page"),
    make("p", { class: "small muted" }, "From ", address(source)),
    header ? make("p", { class: "text", dir: "auto" }, make("strong", null, marked(header, words))) : null,
    make("div", { class: "text", dir: "auto" }, marked(text, words)));
  const title = make("h2", { tabindex: "-1", id: "detail-title" }, "Pair ", make("code", null, store.index.id[i]));
  const back = make("button", { type: "button", class: "back" }, "← Back to the list");
  back.addEventListener("click", () => closeDetail());
  box.replaceChildren(back, title, make("div", { class: "side" }, story, page));
  box.scrollTop = 0;
}
