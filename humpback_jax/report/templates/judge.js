// Two answers, left and right, in an order of items of each rater's own. A judgment is kept in this browser, and sent
// to the server where there is one; otherwise the rater saves a file.

let sheet = null;
let rater = "";
let order = [];
let at = 0;
let shownAt = 0;
let judged = new Map();

const memory = () => `humpback-judge ${sheet.sheet} ${rater}`;

function recall() {
  try { return new Map(JSON.parse(localStorage.getItem(memory())) || []); } catch { return new Map(); }
}

function remember() {
  try { localStorage.setItem(memory(), JSON.stringify([...judged])); } catch { /* kept until the page closes */ }
}

/** FNV-1a: the same rater always gets the same order. */
function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return value;
}

function begin(event) {
  event.preventDefault();
  rater = byId("rater").value.trim();
  if (!rater) return;
  judged = recall();
  order = sheet.items.map((item, i) => [hash(`${rater}\n${item.id}`), i]).sort((a, b) => a[0] - b[0]).map(([, i]) => i);
  byId("start").hidden = true;
  byId("judge").hidden = false;
  show(Math.max(0, order.findIndex((i) => !judged.has(sheet.items[i].id))));
}

function show(position) {
  at = position;
  shownAt = performance.now();
  const item = sheet.items[order[at]];
  byId("instruction").textContent = item.instruction;
  byId("left").textContent = item.left;
  byId("right").textContent = item.right;
  byId("place").textContent = `Item ${at + 1} of ${order.length}`;
  byId("bar").value = judged.size;
  byId("done").textContent = `${judged.size} judged`;
  byId("all-done").hidden = judged.size < order.length;
  byId("previous").disabled = at === 0;
  byId("next").disabled = at === order.length - 1;
  const earlier = judged.get(item.id);
  for (const button of document.querySelectorAll(".choices button")) {
    button.setAttribute("aria-pressed", String(Boolean(earlier) && earlier.choice === button.value));
  }
  scrollTo(0, 0);
}

async function choose(choice) {
  const item = sheet.items[order[at]];
  const seconds = Math.round((performance.now() - shownAt) / 100) / 10;
  const row = { sheet: sheet.sheet, rater, id: item.id, choice, seconds };
  if (sheet.posts && !(await send(row))) return;
  judged.set(item.id, row);
  remember();
  const left = order.findIndex((i, position) => position > at && !judged.has(sheet.items[i].id));
  const any = order.findIndex((i) => !judged.has(sheet.items[i].id));
  show(left !== -1 ? left : any !== -1 ? any : at);
  byId("item").focus();
}

function save() {
  const lines = [...judged.values()].map((row) => `${JSON.stringify(row)}\n`).join("");
  const link = make("a", { href: URL.createObjectURL(new Blob([lines])), download: `judgments-${sheet.sheet}-${rater}.jsonl` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", a: "left", b: "right", t: "tie" };
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, .answers article");
  if (byId("judge").hidden || typing || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (!byId("shortcuts").checked || !(event.key in KEYS)) return;
  event.preventDefault();
  choose(KEYS[event.key]);
});
byId("begin").addEventListener("submit", begin);
for (const button of document.querySelectorAll(".choices button")) button.addEventListener("click", () => choose(button.value));
byId("previous").addEventListener("click", () => show(at - 1));
byId("next").addEventListener("click", () => show(at + 1));
if (byId("save")) byId("save").addEventListener("click", save);
unpack(byId("sheet")).then((value) => {
  sheet = value;
  byId("begin-button").disabled = false;
});
