// The pairs of the page: columns that filters and orders read, and texts that are opened on demand.

/** Every pair of the page: columns for filtering at once, texts when somebody reads or searches them. */
class PairStore {
  static async open() {
    return new PairStore(await unpack(byId("pairs-index")));
  }

  constructor(index) {
    this.index = index;
    this.size = index.id.length;
    this.state = index.state.map((column) => Uint16Array.from(column));
    this.score = index.score.map((column) => Float32Array.from(column, (value) => (value === null ? NaN : value)));
    this.pGood = index.p_good.map((column) => Float32Array.from(column, (value) => (value === null ? NaN : value)));
    this.signals = []; // columns by name, per round, once somebody asked for them
    this.domain = Uint32Array.from(index.domain);
    this.length = Uint32Array.from(index.length);
    this.place = new Map(index.id.map((id, i) => [id, i]));
    this.chunks = Math.ceil(this.size / index.chunk);
    this.opened = new Map();
    this.folded = [];
  }

  /** Opens the signals of the round at this place; a run without signals has none. */
  async openSignals(place) {
    await parsed;
    const node = byId(`pairs-signals-${place}`);
    if (!node || this.signals[place]) return;
    const columns = await unpack(node);
    for (const name of Object.keys(columns)) {
      columns[name] = Float32Array.from(columns[name], (value) => (value === null ? NaN : value));
    }
    this.signals[place] = columns;
  }

  /** The values of a signal in the round at this place, or of p(good); null where there are none, or not yet. */
  column(place, name) {
    if (name === "p_good") return this.pGood[place] || null;
    return (this.signals[place] && this.signals[place][name]) || null;
  }

  /** [instruction, text, header, source, grades by round] of pair i. */
  async texts(i) {
    const number = Math.floor(i / this.index.chunk);
    if (!this.opened.has(number)) {
      if (this.opened.size >= 8) this.opened.delete(this.opened.keys().next().value);
      this.opened.set(number, await this.chunk(number));
    }
    return this.opened.get(number)[i % this.index.chunk];
  }

  async chunk(number) {
    await parsed;
    return unpack(byId(`pairs-texts-${number}`));
  }

  /** Lower-case instruction, header, domain and id of every pair. */
  get titles() {
    if (!this.foldedTitles) {
      const { instruction, header, domains, id } = this.index;
      this.foldedTitles = id.map((name, i) =>
        `${instruction[i]}\n${header[i]}\n${domains[this.domain[i]]}\n${name}`.toLowerCase());
    }
    return this.foldedTitles;
  }

  /** Lower-case texts of one chunk, ready to be searched; kept once they are. */
  async fold(number) {
    const texts = (await this.chunk(number)).map((row) => `${row[0]}\n${row[1]}`.toLowerCase());
    let end = 0;
    this.folded[number] = { text: texts.join("\0"), ends: texts.map((text) => (end += text.length + 1)) };
  }

  /** Sets found[i] = 1 for the pairs of a folded chunk whose whole text holds the (lower-case) words. */
  search(number, words, found) {
    const { text, ends } = this.folded[number];
    const first = number * this.index.chunk;
    let row = 0;
    for (let at = text.indexOf(words); at !== -1 && row < ends.length; at = text.indexOf(words, ends[row - 1])) {
      while (ends[row] <= at) row += 1;
      found[first + row] = 1;
      row += 1;
    }
  }
}
