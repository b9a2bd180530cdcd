// One pair and three questions at a time. A pair goes to the server when all are answered, and again when an answer
// changes; what was said before comes with the page.

const fields = [...document.querySelectorAll(".questions fieldset")];
let sheet = null;
let labels = new Map();
let drafts = new Map();
let at = 0;
let current = 0;
let saving = false;

const itemId = () => sheet.items[at].id;
const answers = () => labels.get(itemId()) || drafts.get(itemId()) || {};

function show(position) {
  at = Math.min(Math.max(position, 0), sheet.items.length - 1);
  byId("problem").textContent = "";
  byId("instruction").textContent = sheet.items[at].instruction;
  byId("output").textContent = sheet.items[at].output;
  byId("place").textContent = `Pair ${at + 1} of ${sheet.items.length}`;
  byId("bar").value = labels.size;
  byId("done").textContent = `${labels.size} labelled`;
  byId("all-done").hidden = labels.size < sheet.items.length;
  byId("previous").disabled = at === 0;
  byId("next").disabled = at === sheet.items.length - 1;
  byId("skip").disabled = nextUnlabelled() === -1;
  mark(Math.max(0, fields.findIndex((field) => !(field.name in answers()))));
  scrollTo(0, 0);
}

/** Makes a question the one that digits answer, and shows what was said. */
function mark(number) {
  current = number;
  const { offsetTop, offsetHeight } = fields[current];
  byId("questions").scrollTop = Math.max(0, offsetTop + offsetHeight - byId("questions").clientHeight);
  const said = answers();
  for (const [place, field] of fields.entries()) {
    field.toggleAttribute("data-current", place === current);
    for (const button of field.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(String(said[field.name]) === button.value));
    }
  }
}

/** The next pair after this one that has no labels, round the end; -1 where there is none. */
function nextUnlabelled() {
  const { length } = sheet.items;
  for (let step = 1; step < length; step += 1) {
    const position = (at + step) % length;
    if (!labels.has(sheet.items[position].id)) return position;
  }
  return -1;
}

async function answer(place, button) {
  if (saving) return;
  const id = itemId();
  const said = { ...answers(), [fields[place].name]: Number(button.value) };
  if (fields.some((field) => !(field.name in said))) {
    drafts.set(id, said);
    mark(fields.findIndex((field) => !(field.name in said)));
    return;
  }
  saving = true;
  const saved = await send({ sheet: sheet.sheet, id, ...said });
  saving = false;
  if (!saved) return;
  const changed = labels.has(id);
  labels.set(id, said);
  drafts.delete(id);
  const next = nextUnlabelled();
  if ((changed && place < fields.length - 1) || next === -1) {
    show(at);
    mark(Math.min(place + 1, fields.length - 1));
  } else {
    show(next);
    byId("item").focus({ preventScroll: true });
  }
}

const skip = () => nextUnlabelled() !== -1 && show(nextUnlabelled());
const KEYS = {
  ArrowLeft: () => show(at - 1),
  ArrowRight: () => show(at + 1),
  Backspace: () => mark(Math.max(0, current - 1)),
  s: skip,
};
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select");
  if (!sheet || saving || typing || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const button = fields[current].querySelector(`button[value="${CSS.escape(event.key)}"]`);
  if (!byId("shortcuts").checked || !(button || Object.hasOwn(KEYS, event.key))) return;
  event.preventDefault();
  if (button) answer(current, button);
  else KEYS[event.key]();
});
for (const [place, field] of fields.entries()) {
  for (const button of field.querySelectorAll("button")) button.addEventListener("click", () => answer(place, button));
}
byId("previous").addEventListener("click", KEYS.ArrowLeft);
byId("next").addEventListener("click", KEYS.ArrowRight);
byId("skip").addEventListener("click", skip);
unpack(byId("sheet")).then((value) => {
  sheet = value;
  labels = new Map(Object.entries(value.labels));
  const first = sheet.items.findIndex((item) => !labels.has(item.id));
  show(Math.max(0, first));
});
