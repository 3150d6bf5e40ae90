const QUIET_AFTER = 3000; // no key pressed for so long: typing_stop
const AGAIN_AFTER = 5000; // the server forgets a typing_start after 10 s
const FORGET_AFTER = 12_000;

/** Tells the others that this user is typing: one start, renewed, and one stop. */
export class TypingOut {
  #send;
  #channel = null;
  #startedAt = 0;
  #timer = 0;

  /** @param {(event: string, channel: string) => void} send */
  constructor(send) {
    this.#send = send;
  }

  nudge(channel) {
    if (!channel) return;
    if (this.#channel !== channel) this.stop();
    if (this.#channel === null || Date.now() - this.#startedAt > AGAIN_AFTER) {
      this.#channel = channel;
      this.#startedAt = Date.now();
      this.#send('typing_start', channel);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.stop(), QUIET_AFTER);
  }

  stop() {
    clearTimeout(this.#timer);
    if (this.#channel === null) return;
    this.#send('typing_stop', this.#channel);
    this.#channel = null;
  }

  /** The connection is gone: the server says the stop by itself. */
  forget() {
    clearTimeout(this.#timer);
    this.#channel = null;
  }
}

/** Who is typing, from user_typing and user_stopped_typing. */
export class Typists {
  #people = new Map();
  #element;

  constructor(element) {
    this.#element = element;
  }

  heard(event, data) {
    const key = `${data?.userId} ${data?.channel}`;
    if (event === 'user_typing') {
      clearTimeout(this.#people.get(key)?.timer);
      const timer = setTimeout(() => this.#drop(key), FORGET_AFTER);
      this.#people.set(key, { timer, name: data?.name ?? `User ${data?.userId}` });
      this.#draw();
    } else if (event === 'user_stopped_typing') {
      this.#drop(key);
    }
  }

  clear() {
    for (const key of [...this.#people.keys()]) this.#drop(key);
  }

  #drop(key) {
    clearTimeout(this.#people.get(key)?.timer);
    this.#people.delete(key);
    this.#draw();
  }

  #draw() {
    const names = [...new Set([...this.#people.values()].map((person) => person.name))];
    this.#element.textContent = names.length ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} typing …` : '';
  }
}
