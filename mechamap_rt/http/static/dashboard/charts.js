import { h, s } from './dom.js';

const HEIGHT = 150;
const LEFT = 54;
const BOTTOM = 18;
const TOP = 6;
/** Samples that are kept and shown: ten minutes. */
export const KEPT = 600;

/** A line chart of the last ten minutes, one sample a second. */
export class Chart {
  /**
   * @param {string} title
   * @param {{name: string, style: string}[]} series
   * @param {(value: number) => string} format
   */
  constructor(title, series, format) {
    this.series = series;
    this.format = format;
    this.samples = [];
    this.at = null;
    this.values = series.map(() => h('span'));
    const legend = series.map((each, number) => h(
      'span', {}, h('b', { class: each.style }), series.length > 1 ? `${each.name} ` : '', this.values[number],
    ));
    this.wide = 600;
    this.svg = s('svg', { role: 'img', 'aria-label': title });
    new ResizeObserver(([entry]) => {
      this.wide = Math.max(200, entry.contentRect.width);
      this.draw();
    }).observe(this.svg);
    this.svg.addEventListener('pointermove', (event) => this.point(event));
    this.svg.addEventListener('pointerleave', () => { this.at = null; this.draw(); });
    this.element = h('div', { class: 'chart' }, h('header', {}, h('h2', {}, title), h('div', { class: 'legend' }, ...legend)), this.svg);
    this.draw();
  }

  /** @param {(number|null)[]} values of each series; null for nothing known */
  add(moment, values) {
    this.samples.push({ moment, values });
    if (this.samples.length > KEPT) this.samples.shift();
    this.draw();
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (this.wide - LEFT);
    const number = this.samples.length - 1 - Math.round((1 - share) * (this.shown() - 1));
    this.at = number >= 0 && number < this.samples.length ? number : null;
    this.draw();
  }

  /** How many samples the width stands for: a minute at first, ten in the end. */
  shown() {
    return Math.min(KEPT, Math.max(60, this.samples.length));
  }

  draw() {
    const most = nice(Math.max(0, ...this.samples.flatMap((each) => each.values.map((value) => value ?? 0))));
    const shown = this.shown();
    const x = (number) => LEFT + (this.wide - LEFT) * (1 - (this.samples.length - 1 - number) / (shown - 1));
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(most * share);
      parts.push(s('line', { class: 'grid', x1: LEFT, x2: this.wide, y1: at, y2: at }));
    }
    this.series.forEach((each, place) => {
      const points = this.samples.map((sample, number) => [sample.values[place], number]).filter(([value]) => value !== null);
      if (points.length < 2) return;
      const line = points.map(([value, number], at) => `${at ? 'L' : 'M'}${x(number).toFixed(1)} ${y(value).toFixed(1)}`).join('');
      if (place === 0 && this.series.length === 1) {
        const ends = `L${x(points.at(-1)[1]).toFixed(1)} ${y(0)}L${x(points[0][1]).toFixed(1)} ${y(0)}Z`;
        parts.push(s('path', { class: `area ${each.style}`, d: line + ends }));
      }
      parts.push(s('path', { class: each.style, d: line }));
    });
    const number = this.at ?? this.samples.length - 1;
    if (this.at !== null) parts.push(s('line', { class: 'cursor', x1: x(number), x2: x(number), y1: TOP, y2: HEIGHT - BOTTOM }));
    this.svg.replaceChildren(...parts, ...this.labels(most, shown, y));
    this.series.forEach((each, place) => {
      const value = this.samples[number]?.values[place];
      this.values[place].textContent = value === null || value === undefined ? '–' : this.format(value);
    });
  }

  labels(most, shown, y) {
    const label = (x, at, text, anchor) => s('text', { class: 'axis', x, y: at, 'text-anchor': anchor }, text);
    return [
      ...[0, 0.5, 1].map((share) => label(LEFT - 6, y(most * share) + 4, share ? this.format(most * share) : '0', 'end')),
      label(LEFT, HEIGHT - 3, `${Math.round(shown / 60)} min ago`, 'start'),
      label(this.wide, HEIGHT - 3, 'now', 'end'),
    ];
  }
}

/** The next number that is good to read, for the top of an axis. */
function nice(value) {
  if (!value) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((each) => each * size).find((each) => each >= value);
}

/** The value under which this part of the observations lies, in seconds; interpolated within a bound. */
export function quantile(counts, bounds, part) {
  const total = counts.reduce((sum, each) => sum + each, 0);
  if (!total) return null;
  let passed = 0;
  let below = 0;
  for (let at = 0; at < bounds.length; at += 1) {
    if (counts[at] && passed + counts[at] >= part * total) {
      return below + (bounds[at] - below) * (part * total - passed) / counts[at];
    }
    passed += counts[at];
    below = bounds[at];
  }
  return below;
}
