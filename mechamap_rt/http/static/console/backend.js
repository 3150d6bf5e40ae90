import { h } from './dom.js';
import { Latencies, milliseconds, now } from './latency.js';

const BURST = 50;
const AT_ONCE = 4; // below a browser's six connections a host: sentAt must not include waiting for one
const SAMPLES = {
  'comment.created': { id: 12, title: 'Bình luận mới về cơ cấu bánh răng ⚙️', author: 'Nguyễn Văn An' },
  'thread.like.updated': { thread_id: 1, likes: 27 },
  'thread.stats.updated': { thread_id: 1, views: 1408, replies: 36 },
  notification: { id: 901, title: 'Bạn có thông báo mới', message: 'Trần Thị Bình đã trả lời: dung sai lắp ghép H7/g6' },
  'message.sent': { id: 77, conversation_id: 1, body: 'Gửi anh bản vẽ trục vít me, tỉ lệ 1:2' },
};

/** The bar that publishes as the site's backend would, with its API key. */
export class Backend {
  #form;
  #fault;
  #answer;
  #config;
  #sample = '';
  #busy = false;

  constructor(form, config) {
    this.#form = form;
    this.#config = config;
    this.#fault = form.querySelector('#publish-fault');
    this.#answer = form.querySelector('.answer');
    form.querySelector('#channel-names').append(...config.current.channels.map(({ name, hint }) => h('option', { value: name, label: hint })));
    form.querySelector('#event-names').append(...Object.keys(SAMPLES).map((value) => h('option', { value })));
    this.#offerSample();
    form.elements.event.addEventListener('input', () => this.#offerSample());
    form.elements.data.addEventListener('input', () => this.#read());
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#run(1);
    });
    form.elements.burst.addEventListener('click', () => this.#run(BURST));
  }

  /** A sample for a known event, unless somebody wrote something else there. */
  #offerSample() {
    const { event, data } = this.#form.elements;
    // an event may be called "constructor"
    const sample = Object.hasOwn(SAMPLES, event.value) && SAMPLES[event.value];
    if (!sample || data.value !== this.#sample) return;
    this.#sample = data.value = JSON.stringify(sample, null, 2);
    this.#say('');
  }

  /** What the form holds, or null after saying what is wrong with it. */
  #read() {
    const { channel, event, data } = this.#form.elements;
    for (const field of [channel, event]) {
      if (!field.value.trim()) return this.#say(`${field.name === 'event' ? 'An event name' : 'A channel'} is needed.`, field);
    }
    let value;
    try {
      value = JSON.parse(data.value.trim() || '{}');
    } catch (error) {
      return this.#say(`Data is not valid JSON: ${error.message}`, data);
    }
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      return this.#say('Data must be a JSON object, such as {"title": "Bình luận mới"}.', data);
    }
    this.#say('');
    return { channel: channel.value.trim(), event: event.value.trim(), data: value };
  }

  #say(text, field = null) {
    for (const element of this.#form.elements) element.removeAttribute('aria-invalid');
    field?.setAttribute('aria-invalid', 'true');
    this.#fault.textContent = text;
    this.#fault.hidden = !text;
    return null;
  }

  async #run(count) {
    if (this.#busy) return;
    const message = this.#read();
    if (!message) {
      this.#form.querySelector('[aria-invalid]').focus();
      return;
    }
    this.#busy = true;
    // said only when it takes a while: painting it would be measured as latency
    const slow = setTimeout(() => this.#report('busy', `Publishing ${count} …`), 250);
    const started = now();
    const answers = await this.#publish(message, count);
    clearTimeout(slow);
    this.#summarise(answers, now() - started);
    this.#busy = false;
  }

  async #publish(message, count) {
    const answers = [];
    let next = 0;
    const lane = async () => {
      while (next < count) {
        next += 1;
        const extra = count > 1 ? { burst: next } : {};
        answers.push(await this.#post({ ...message, data: { ...message.data, ...extra, sentAt: now() } }));
      }
    };
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, lane));
    return answers;
  }

  async #post(message) {
    const started = now();
    try {
      const response = await fetch('/api/broadcast', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'X-WebSocket-API-Key': this.#config.current.apiKey },
        body: JSON.stringify(message),
      });
      const body = await response.json().catch(() => ({}));
      return { ok: response.ok, status: response.status, body, took: now() - started };
    } catch (error) {
      return { ok: false, status: 0, body: { message: error.message }, took: now() - started };
    }
  }

  #summarise(answers, took) {
    const failed = answers.filter((answer) => !answer.ok);
    const reason = failed.length ? failureText(failed[0]) : '';
    if (answers.length === 1) {
      const [answer] = answers;
      this.#report(answer.ok ? 'ok' : 'bad', answer.ok ? `${people(answer.body.subscriberCount)}, answered in ${milliseconds(answer.took)}` : reason);
      return;
    }
    const times = new Latencies();
    for (const answer of answers) times.add(answer.took);
    const [p50, p99] = times.quantiles(0.5, 0.99);
    const delivered = answers.reduce((sum, answer) => sum + (answer.body.subscriberCount ?? 0), 0);
    const good = `${answers.length - failed.length} published, ${delivered} deliveries, in ${milliseconds(took)} (answer p50 ${milliseconds(p50)}, p99 ${milliseconds(p99)})`;
    this.#report(failed.length ? 'bad' : 'ok', failed.length ? `${good}. ${failed.length} failed: ${reason}` : good);
  }

  #report(state, text) {
    this.#answer.dataset.state = state;
    this.#answer.textContent = text;
  }
}

const people = (count) => `${count} subscriber${count === 1 ? '' : 's'}`;

function failureText({ status, body }) {
  if (!status) return `No answer: ${body.message}`;
  const words = [...new Set([body.error, body.message].filter((word) => typeof word === 'string'))];
  return `HTTP ${status}: ${words.join(' – ') || 'no reason given'}`;
}
