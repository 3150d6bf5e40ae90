import { h } from './dom.js';

const WORDS = { idle: 'not subscribed', wanted: 'subscribes on connect', asking: 'asking', subscribed: 'subscribed', refused: 'refused' };
const MARKS = { idle: '+', wanted: '…', asking: '…', subscribed: '✓', refused: '✕' };

/**
 * A pane's channels as chips. A chip that is chosen while there is no connection waits for the next one,
 * and what was subscribed is asked for again after a reconnect.
 */
export class Channels {
  #chips = new Map(); // name -> {state, error, own, suggested, hint, button}
  #parts;
  #link = null;
  #changed;

  /** @param {() => void} changed called after any subscription changed */
  constructor(parts, suggestions, changed) {
    this.#parts = parts;
    this.#changed = changed;
    for (const { name, hint } of suggestions) this.#chip(name, { hint, suggested: true });
    parts.channels.addEventListener('submit', (event) => {
      event.preventDefault();
      const name = parts.channel.value.trim();
      if (!name) return parts.channel.focus();
      if (this.#chip(name).state !== 'subscribed') this.#want(name);
      parts.channel.value = '';
    });
  }

  get subscribed() {
    return [...this.#chips].filter(([, chip]) => chip.state === 'subscribed').map(([name]) => name);
  }

  /** @param {string[]} already what the server subscribed by itself */
  connected(link, already) {
    this.#link = link;
    for (const name of already) this.#set(name, 'subscribed', { own: true });
    for (const [name, chip] of this.#chips) if (chip.state === 'wanted') this.#want(name);
  }

  disconnected() {
    this.#link = null;
    for (const [name, chip] of [...this.#chips]) {
      if (chip.own || chip.state === 'refused') this.#set(name, 'idle', { own: false });
      else if (chip.state === 'subscribed' || chip.state === 'asking') this.#set(name, 'wanted');
      if (!chip.suggested && chip.state === 'idle') this.#remove(name);
    }
  }

  answered(name, state, error) {
    if (name === undefined) return;
    if (state === 'unsubscribed') {
      this.#set(name, 'idle', { own: false });
      if (!this.#chips.get(name).suggested) this.#remove(name);
    } else {
      this.#set(name, state, { error });
    }
  }

  #want(name) {
    this.#set(name, this.#link ? 'asking' : 'wanted');
    this.#link?.subscribe(name);
  }

  #toggle(name) {
    const { state } = this.#chips.get(name);
    if (state === 'subscribed') this.#link?.unsubscribe(name);
    else if (state === 'wanted') this.#set(name, 'idle');
    else this.#want(name);
  }

  #chip(name, facts = {}) {
    let chip = this.#chips.get(name);
    if (!chip) {
      const button = h('button', { type: 'button', class: 'chip', dataset: { testid: `${this.#parts.prefix}-chip`, channel: name }, onclick: () => this.#toggle(name) });
      chip = { state: 'idle', button, ...facts };
      this.#chips.set(name, chip);
      this.#parts.chips.append(button);
      this.#draw(name, chip);
    }
    return chip;
  }

  #remove(name) {
    this.#chips.get(name).button.remove();
    this.#chips.delete(name);
    this.#changed();
  }

  #set(name, state, facts = {}) {
    const chip = this.#chip(name);
    Object.assign(chip, { error: undefined }, facts, { state });
    this.#draw(name, chip);
    this.#drawRefusals();
    this.#changed();
  }

  #draw(name, { button, state, hint }) {
    button.dataset.state = state;
    button.setAttribute('aria-pressed', state === 'subscribed' ? 'true' : state === 'idle' || state === 'refused' ? 'false' : 'mixed');
    button.title = hint ? `${hint} (${WORDS[state]})` : WORDS[state];
    button.replaceChildren(h('span', { 'aria-hidden': 'true' }, MARKS[state]), name);
  }

  #drawRefusals() {
    const refused = [...this.#chips].filter(([, chip]) => chip.state === 'refused');
    this.#parts.refusals.replaceChildren(...refused.map(([name, chip]) =>
      h('li', { dataset: { channel: name } }, h('code', {}, name), ` ${chip.error ?? 'refused'}`)));
  }
}
