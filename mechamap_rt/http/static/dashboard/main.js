import { $, bytes, clock, count, h, millis, rate, span } from './dom.js';
import { Chart, quantile } from './charts.js';
import { Live, api } from './live.js';
import { errorsView, ranksView, storyView, userView } from './lookup.js';

const KEPT_IN = 'mechamap.operator';
const TABS = { channels: 'Channels', users: 'Users', events: 'Events' };

const state = { secret: '', live: null, last: null, tab: 'channels', wanted: null, wantedUntil: 0, pending: null };
const charts = {
  messages: new Chart('Messages a second', [{ name: 'to clients', style: 'one' }], rate),
  latency: new Chart('Publish to socket', [{ name: 'p99', style: 'three' }, { name: 'p95', style: 'two' }, { name: 'p50', style: 'one' }], millis),
  connections: new Chart('Connections', [{ name: 'connections', style: 'one' }], count),
  requests: new Chart('HTTP requests a second', [{ name: 'answered', style: 'one' }, { name: 'errors', style: 'three' }], rate),
};
$('charts').append(...Object.values(charts).map((chart) => chart.element));

// entering and leaving

function enter(secret) {
  state.secret = secret;
  state.live?.end();
  state.live = new Live(secret, {
    welcome() {
      sessionStorage.setItem(KEPT_IN, secret);
      $('door').hidden = true;
      $('board').hidden = $('leave').hidden = false;
      pill('connected', 'good');
      refresh();
    },
    figures,
    refused(message) {
      leave();
      $('refused').textContent = message;
      $('refused').hidden = false;
      $('secret').focus();
    },
    lost() { pill('connection lost, trying again', 'bad'); },
  });
}

function leave() {
  state.live?.end();
  state.live = state.last = null;
  state.secret = '';
  sessionStorage.removeItem(KEPT_IN);
  $('door').hidden = false;
  $('board').hidden = $('leave').hidden = true;
  $('version').textContent = '';
  pill('', '');
}

function pill(text, kind) {
  $('state').textContent = text;
  $('state').className = `pill ${kind}`;
}

$('door').addEventListener('submit', (event) => {
  event.preventDefault();
  $('refused').hidden = true;
  enter($('secret').value.trim());
  $('secret').value = '';
});
$('leave').addEventListener('click', leave);

// figures

function figures(now) {
  const before = state.last;
  state.last = now;
  const raised = now.alerts.length;
  if (raised) pill(raised === 1 ? '1 alert' : `${raised} alerts`, 'bad');
  else if (now.degraded) pill('degraded', 'warn');
  else pill('healthy', 'good');
  $('version').textContent = now.host.version ? `mechamap_rt ${now.host.version} · host ${now.host.host}` : '';
  const passed = before ? now.at - before.at : 0;
  const since = (name) => (before ? now.totals[name] - before.totals[name] : 0);
  // counters begin anew with a worker: such a second says nothing
  const known = passed > 0 && ['delivered', 'published', 'requests', 'errors'].every((name) => since(name) >= 0);
  const each = (name) => (known ? since(name) / passed : null);
  const counts = known ? now.latency[0].map((value, at) => value - before.latency[0][at]) : [];
  const part = (share) => (counts.length && counts.every((value) => value >= 0) ? quantile(counts, now.bounds, share) : null);
  const latency = { p50: part(0.5), p95: part(0.95), p99: part(0.99) };
  charts.messages.add(now.at, [each('delivered')]);
  charts.latency.add(now.at, [latency.p99, latency.p95, latency.p50]);
  charts.connections.add(now.at, [now.totals.connections]);
  charts.requests.add(now.at, [each('requests'), each('errors')]);
  tiles(now, each, latency);
  workers(now);
  alerts(now);
}

function tile(title, value, unit, more) {
  return h('div', { class: 'tile' }, h('h3', {}, title), h('strong', {}, value, unit ? h('i', {}, unit) : ''), h('small', {}, more));
}

function tiles(now, each, latency) {
  const rated = (name) => (each(name) === null ? '–' : rate(each(name)));
  const kinds = Object.entries(now.kinds).map(([kind, number]) => `${kind} ${count(number)}`).join(' · ');
  const [p50, unit] = latency.p50 === null ? ['–', ''] : millis(latency.p50).split(' ');
  const memory = now.processes.reduce((sum, row) => sum + row.rss, 0);
  const cpu = now.processes.reduce((sum, row) => sum + row.cpu, 0);
  $('tiles').replaceChildren(
    tile('People online', count(now.totals.users), '', `${count(now.totals.subscriptions)} subscriptions`),
    tile('Connections', count(now.totals.connections), '', kinds || 'nobody yet'),
    tile('Messages to clients', rated('delivered'), '/s', `${rated('published')} publications/s`),
    tile('Publish to socket', p50, unit, latency.p99 === null ? 'nothing published' : `p99 ${millis(latency.p99)}`),
    tile('HTTP', rated('requests'), '/s', `${count(now.totals.errors)} errors in all`),
    tile('Processor', cpu.toFixed(0), '%', `${now.processes.length} processes, ${bytes(memory)}`),
  );
}

function meter(value, most, text, high) {
  return h('span', { class: `meter${high ? ' high' : ''}` }, h('i', {}, h('b', { 'width%': Math.min(100, 100 * value / most) })), text);
}

function workers(now) {
  const local = new Map((now.host.workers ?? []).map((worker) => [worker.node, worker]));
  const rows = [...now.processes].sort((one, other) => one.worker.localeCompare(other.worker)).map((row) => {
    const worker = local.get(row.worker);
    const button = worker && now.host.mode === 'cluster'
      ? h('button', { type: 'button', class: 'small', 'data-testid': `restart-${worker.worker}`, onclick: () => steer('restart', { worker: worker.worker }, `Restart worker ${worker.worker}? Its clients come back to others.`) }, 'Restart')
      : '';
    return h('tr', {},
      h('td', {}, worker ? `${worker.worker} ` : '', h('span', { class: 'mono muted' }, row.worker)),
      h('td', {}, worker ? worker.state : 'another host'),
      h('td', {}, span(row.uptime)),
      h('td', { class: 'number' }, count(row.connections)),
      h('td', {}, meter(row.cpu, 100, `${row.cpu.toFixed(0)} %`, row.cpu > 80)),
      h('td', { class: 'number' }, bytes(row.rss)),
      h('td', { class: 'number' }, millis(row.lag)),
      h('td', { class: 'number' }, bytes(row.queued)),
      h('td', {}, button));
  });
  const head = [['Worker', ''], ['State', ''], ['Up for', ''], ['Connections', 'number'], ['CPU', ''], ['Memory', 'number'], ['Lag', 'number'], ['Waiting', 'number'], ['', '']];
  $('workers').replaceChildren(
    h('thead', {}, h('tr', {}, ...head.map(([title, kind]) => h('th', { class: kind }, title)))),
    h('tbody', {}, ...rows));
  steering(now.host);
}

function steering(host) {
  // what was asked for a moment ago is not in the figures yet
  if (state.wanted === host.wanted || Date.now() > state.wantedUntil) state.wanted = null;
  const wanted = state.wanted ?? host.wanted;
  const key = `${host.mode} ${host.state} ${wanted}`;
  if (state.steering === key) return;
  state.steering = key;
  if (host.mode !== 'cluster') return $('steering').replaceChildren(h('span', { class: 'muted' }, 'a single process'));
  const busy = host.state !== 'running';
  const scale = (by) => () => steer('scale', { workers: wanted + by }, `${wanted + by} workers instead of ${wanted}?`);
  $('steering').replaceChildren(
    h('button', { type: 'button', disabled: busy || wanted <= 1, 'data-testid': 'fewer', 'aria-label': 'One worker fewer', onclick: scale(-1) }, '− 1'),
    h('button', { type: 'button', disabled: busy, 'data-testid': 'more', 'aria-label': 'One worker more', onclick: scale(1) }, '+ 1'),
    h('button', { type: 'button', disabled: busy, 'data-testid': 'reload', onclick: () => steer('reload', {}, 'Reload? New workers take the place of all, with the settings as they are in the file now.') }, busy ? host.state : 'Reload'));
}

function alerts(now) {
  const key = JSON.stringify([now.alerts, now.history.length]);
  if (state.alerts === key) return;
  state.alerts = key;
  const raised = now.alerts.map((each) => h('div', { class: 'alert', role: 'alert' }, h('b', {}, each.name), h('span', {}, each.message), h('time', {}, `since ${clock(each.since)}`)));
  const past = now.history.map((each) => h('li', {}, `${each.name}: ${each.message}, from ${clock(each.since)} to ${clock(each.until)}`));
  const history = past.length ? [h('details', { class: 'past' }, h('summary', {}, `${past.length} cleared`), h('ul', {}, ...past))] : [];
  $('alerts').replaceChildren(...raised, ...history);
}

// steering

function sure(question) {
  $('question').textContent = question;
  $('sure').showModal();
  return new Promise((resolve) => $('sure').addEventListener('close', () => resolve($('sure').returnValue === 'yes'), { once: true }));
}

function say(text, bad) {
  $('said').textContent = text;
  $('said').className = bad ? 'said bad' : 'said';
}

async function steer(command, body, question) {
  if (!await sure(question)) return;
  say(`${command}: asked for…`);
  try {
    const done = await api(state.secret, 'POST', `/api/cluster/${command}`, body);
    if (command === 'scale') {
      state.wanted = body.workers;
      state.wantedUntil = Date.now() + 10_000;
      steering(state.last.host);
    }
    say(done.state === 'done' ? `${command}: done` : `${command}: under way`);
  } catch (error) {
    say(`${command}: ${error.message}`, true);
  }
}

// looking up

$('lookup').addEventListener('submit', (event) => {
  event.preventDefault();
  look($('asked').value.trim(), $('whose').value.trim());
});

async function look(asked, whose) {
  try {
    if (/^\d+$/.test(asked)) {
      $('found').replaceChildren(userView(await api(state.secret, 'GET', `/api/connections/user/${asked}`), disconnect));
    } else {
      const query = whose ? `?user=${encodeURIComponent(whose)}` : '';
      $('found').replaceChildren(storyView(await api(state.secret, 'GET', `/api/trace/${encodeURIComponent(asked)}${query}`)));
    }
  } catch (error) {
    $('found').replaceChildren(h('p', { class: 'fault', role: 'alert' }, error.message));
  }
}

async function disconnect(user) {
  if (!await sure(`Disconnect user ${user} everywhere? The clients stay away until their user brings them back.`)) return;
  try {
    await api(state.secret, 'POST', `/api/connections/disconnect/${user}`, { reason: 'An administrator ended the connection' });
  } catch (error) {
    say(error.message, true);
  }
  await look(String(user), '');
}

// what is asked for every few seconds

$('tabs').append(...Object.entries(TABS).map(([of, title]) => h(
  'button', { type: 'button', role: 'tab', class: 'small', 'aria-selected': of === state.tab, 'data-of': of, onclick: () => { state.tab = of; refresh(); } }, title,
)));

async function refresh() {
  clearTimeout(state.pending);
  if (!state.secret) return;
  for (const tab of $('tabs').children) tab.setAttribute('aria-selected', tab.dataset.of === state.tab);
  try {
    const [top, errors] = await Promise.all([
      api(state.secret, 'GET', `/api/top?of=${state.tab}&limit=10`),
      api(state.secret, 'GET', '/api/cluster/errors'),
    ]);
    const click = state.tab === 'users' ? (name) => { $('asked').value = name; look(name, ''); } : null;
    $('top').replaceChildren(ranksView(top.top, click));
    $('errors').replaceChildren(errorsView(errors.errors));
  } catch {
    // the pill says that the server is away
  }
  state.pending = setTimeout(refresh, 5000);
}

const kept = sessionStorage.getItem(KEPT_IN);
if (kept) enter(kept);
else $('secret').focus();
