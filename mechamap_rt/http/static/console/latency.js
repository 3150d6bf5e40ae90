const LONGEST = 3_600_000; // an older sentAt is somebody's data, not a measurement
const KEPT = 2000;

/** Milliseconds since the epoch with a fraction: one clock for every tab of this machine. */
export const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000) / 1000;

/** Milliseconds from the console's own stamp in `data` to `arrived`; null when there is none. */
export function latencyOf(data, arrived) {
  const sent = data?.sentAt;
  if (typeof sent !== 'number') return null;
  const took = arrived - sent;
  return took > -50 && took < LONGEST ? Math.max(0, took) : null;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  return `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** Quantiles (nearest rank) of the most recent measurements; `count` is of all of them. */
export class Latencies {
  #values = [];
  count = 0;

  add(value) {
    this.#values[this.count % KEPT] = value;
    this.count += 1;
  }

  quantiles(...ranks) {
    const sorted = Float64Array.from(this.#values).sort();
    return ranks.map((rank) => (sorted.length ? sorted[Math.ceil(rank * sorted.length) - 1] : null));
  }

  clear() {
    this.#values = [];
    this.count = 0;
  }
}
