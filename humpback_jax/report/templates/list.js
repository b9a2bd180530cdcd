// A list of any length: only the rows in sight are in the document. One tab stop; arrows move, Enter opens.

const ROW_HEIGHT = 84;
const AROUND = 8;

class VirtualList {
  constructor(box, fill, onChoose, onOpen) {
    this.box = box;
    this.fill = fill;
    this.onChoose = onChoose;
    this.onOpen = onOpen;
    this.items = new Uint32Array(0);
    this.chosen = -1;
    this.rows = new Map();
    this.space = make("div", { class: "space", role: "presentation" });
    box.append(this.space);
    let waiting = false;
    box.addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; this.draw(); });
    }, { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) { this.choose(Number(row.dataset.position)); this.onOpen(); }
    });
  }

  /** Shows other items; the pair `keep` stays chosen if it is among them. */
  show(items, keep) {
    this.items = items;
    this.chosen = keep === null ? -1 : items.indexOf(keep);
    this.space.style.height = `${items.length * ROW_HEIGHT}px`;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.box.scrollTop = 0;
    this.reveal();
    this.draw();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW_HEIGHT) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      const from = this.chosen === -1 && event.key === "ArrowDown" ? -1 : Math.max(0, this.chosen);
      this.choose(Math.min(this.items.length - 1, Math.max(0, from + steps[event.key])));
    } else if (event.key === "Enter" && this.chosen !== -1) {
      event.preventDefault();
      this.onOpen();
    }
  }

  choose(position) {
    if (position < 0 || position >= this.items.length) return;
    this.chosen = position;
    this.reveal();
    this.draw();
    this.onChoose(this.items[position]);
  }

  reveal() {
    if (this.chosen === -1) return;
    const top = this.chosen * ROW_HEIGHT;
    const bottom = top + ROW_HEIGHT - this.box.clientHeight;
    if (this.box.scrollTop > top) this.box.scrollTop = top;
    else if (this.box.scrollTop < bottom) this.box.scrollTop = bottom;
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - AROUND);
    const last = Math.min(this.items.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW_HEIGHT) + AROUND);
    for (const [position, row] of this.rows) {
      if (position < first || position >= last) { row.remove(); this.rows.delete(position); }
    }
    for (let position = first; position < last; position += 1) {
      let row = this.rows.get(position);
      if (!row) {
        row = this.fill(this.items[position]);
        row.id = `row-${position}`;
        row.dataset.position = position;
        row.setAttribute("aria-posinset", position + 1);
        row.setAttribute("aria-setsize", this.items.length);
        row.style.transform = `translateY(${position * ROW_HEIGHT}px)`;
        this.rows.set(position, row);
        this.space.append(row);
      }
      row.setAttribute("aria-selected", String(position === this.chosen));
    }
    if (this.rows.has(this.chosen)) this.box.setAttribute("aria-activedescendant", `row-${this.chosen}`);
    else this.box.removeAttribute("aria-activedescendant");
  }
}
