import { clock, h } from './dom.js';
import { milliseconds } from './latency.js';

const ROWS = 200;
const MARKS = { event: ['↓', 'event'], answer: ['✓', 'answer'], error: ['!', 'error'], sent: ['↑', 'sent'] };

/** The event log of a pane: newest first, at most 200 rows, drawn once a frame so that a burst stays smooth. */
export class EventLog {
  #list;
  #waiting = [];
  #scheduled = false;
  #drawn;

  /** @param {() => void} drawn called after rows were drawn or cleared */
  constructor(list, drawn) {
    this.#list = list;
    this.#drawn = drawn;
  }

  get isEmpty() {
    return !this.#list.firstElementChild;
  }

  add(entry) {
    this.#waiting.push(entry);
    if (this.#waiting.length > ROWS) this.#waiting.shift();
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => this.#draw());
  }

  clear() {
    this.#waiting = [];
    this.#list.replaceChildren();
    this.#drawn();
  }

  #draw() {
    this.#scheduled = false;
    this.#list.prepend(...this.#waiting.map(row).reverse());
    this.#waiting = [];
    while (this.#list.childElementCount > ROWS) this.#list.lastElementChild.remove();
    this.#drawn();
  }
}

function row({ kind, event, channel, data, at, latency }) {
  const [mark, meaning] = MARKS[kind];
  const body = h('pre');
  const details = h('details', {
    ontoggle: () => {
      if (details.open && !body.textContent) body.textContent = JSON.stringify(data, null, 2) ?? 'no data';
    },
  },
    h('summary', {},
      h('span', { class: 'mark', title: meaning, 'aria-label': meaning, role: 'img' }, mark),
      h('time', { datetime: new Date(at).toISOString() }, clock(at)),
      h('span', { class: 'name' }, String(event)),
      h('span', { class: 'channel' }, channel ?? ''),
      h('span', { class: 'ms' }, latency === null ? '' : milliseconds(latency))),
    body);
  return h('li', {
    dataset: { testid: 'row', kind, event: String(event), channel: channel ?? '', latency: latency === null ? '' : latency.toFixed(3) },
  }, details);
}
