import { bytes, clock, count, h, span } from './dom.js';

const GOOD = new Set(['confirmed', 'written', 'sender']);

/** What is known of a user: devices, their channels, and out with them. */
export function userView(found, disconnect) {
  const rows = found.connections.map((each) => h(
    'div', { class: 'device', 'data-testid': 'device' },
    h('div', {}, `${each.protocol}, ${each.transport}, from ${each.address || 'a unix socket'}`),
    h('div', { class: 'muted' }, `since ${clock(each.connectedAt)} in `, h('span', { class: 'mono' }, each.worker), `, ${count(each.channels)} channels`),
    h('div', { class: 'chips' }, ...(each.subscriptions ?? []).map((name) => h('span', { class: 'chip' }, name))),
  ));
  const name = found.connections[0]?.name;
  const title = `User ${found.userId}${name ? `, ${name}` : ''}`;
  if (!found.connected) return h('div', { class: 'result' }, h('h3', {}, title), h('p', { class: 'verdict' }, 'Not connected.'));
  const button = h('button', { type: 'button', class: 'danger small', 'data-testid': 'disconnect', onclick: () => disconnect(found.userId) }, 'Disconnect all');
  const head = h('div', { class: 'bar' }, h('h3', {}, title), h('span', { class: 'muted' }, `${count(found.connectionCount)} devices`), h('div', { class: 'buttons' }, button));
  return h('div', { class: 'result' }, head, ...rows);
}

/** What became of a message. */
export function storyView(story) {
  const publication = story.publication;
  const parts = [h('h3', { class: 'mono' }, story.id)];
  if (story.user) {
    const kind = GOOD.has(story.user.outcome) ? 'good' : 'bad';
    parts.push(h('p', { class: `verdict ${kind}`, 'data-testid': 'verdict' }, h('b', {}, `User ${story.user.id}: ${words(story.user.outcome)}. `), story.user.explanation));
    parts.push(...story.user.connections.map((each) => h(
      'div', { class: 'device' },
      h('div', {}, h('b', {}, words(each.outcome)), ` · ${each.protocol}, ${each.transport}, in `, h('span', { class: 'mono' }, each.worker)),
      h('div', { class: 'muted' }, `from ${clock(each.since)}${each.until ? ` to ${clock(each.until)} (${words(each.reason)})` : ''}. ${each.explanation}`),
    )));
  }
  if (publication) {
    parts.push(h('dl', { class: 'facts' },
      ...pair('event', publication.event), ...pair('channel', publication.channel),
      ...pair('accepted', `${clock(publication.at)}, by ${publication.worker}, from ${publication.source}`),
      ...pair('request', publication.request || '–'),
      ...pair('delivery', `${publication.class}, priority ${publication.priority}, ${bytes(publication.bytes)}`)));
  }
  parts.push(h('dl', { class: 'facts' }, ...pair('recipients', count(story.recipients)), ...pair('lost', count(story.lost))));
  for (const each of story.workers) {
    const reasons = Object.entries(each.byReason).map(([reason, number]) => `${words(reason)}: ${count(number)}`).join(', ');
    parts.push(h('div', { class: 'device' },
      h('div', {}, h('span', { class: 'mono' }, each.worker), ` delivered to ${count(each.recipients)}${each.at ? ` at ${clock(each.at)}` : ''}${reasons ? `; ${reasons}` : ''}`),
      h('div', { class: 'chips' }, ...each.users.map((user) => h('span', { class: 'chip' }, `user ${user}`)))));
  }
  return h('div', { class: 'result' }, ...parts);
}

function pair(name, value) {
  return [h('dt', {}, name), h('dd', { class: name === 'channel' || name === 'request' ? 'mono' : '' }, String(value))];
}

function words(name) {
  return String(name).replaceAll('_', ' ');
}

/** Channels, users or events, with bars. */
export function ranksView(rows, click) {
  if (!rows.length) return h('p', { class: 'muted' }, 'Nothing yet.');
  const most = Math.max(...rows.map((row) => row.count));
  return h('ul', { class: 'ranks' }, ...rows.map((row) => h(
    'li', {}, click ? h('button', { type: 'button', class: 'small', onclick: () => click(row.name) }, row.name) : h('span', { class: 'mono' }, row.name),
    h('span', {}, count(row.count)), h('i', { 'width%': Math.max(1, 100 * row.count / most) }),
  )));
}

export function errorsView(errors) {
  if (!errors.length) return h('p', { class: 'muted' }, 'None since the start.');
  return h('div', {}, ...errors.slice(0, 30).map((each) => h(
    'div', { class: 'error' },
    h('p', { class: 'meta' }, h('span', { class: 'level' }, each.level), ` · ${clock(each.time)} · ${span(Math.max(0, Date.now() / 1000 - each.time))} ago · ${each.logger}`),
    h('p', {}, each.message),
  )));
}
