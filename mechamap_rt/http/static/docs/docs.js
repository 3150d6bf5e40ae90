/** The HTTP API for people, made from /api/openapi.json. */
import { codeBox, h, paragraphs, prose } from './dom.js';
import { resolved, tables, typeOf } from './schema.js';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];
const HEADERS = { backendKey: 'X-WebSocket-API-Key: $LARAVEL_API_KEY', adminKey: 'X-Admin-Key: $ADMIN_KEY', bearer: 'Authorization: Bearer $TOKEN' };
const byId = (id) => document.getElementById(id);

function operationsOf(doc) {
  return Object.entries(doc.paths).flatMap(([path, methods]) => METHODS.filter((method) => methods[method]).map((method) => ({
    path, method: method.toUpperCase(), ...methods[method],
  })));
}

const pathNodes = (path) => path.split(/(\{[^}]+\})/).map((part) => (part.startsWith('{') ? h('i', {}, part) : part));

function curlOf(doc, operation, example) {
  const path = operation.path.replace(/\{(\w+)\}/g, (whole, name) => {
    const parameter = (operation.parameters ?? []).map((each) => resolved(doc, each)).find((each) => each.name === name);
    return encodeURIComponent(parameter?.example ?? name);
  });
  const lines = [`curl -s ${operation.method === 'GET' ? '' : `-X ${operation.method} `}${location.origin}${path}`];
  const scheme = Object.keys(operation.security?.find((each) => Object.keys(each).length) ?? {})[0];
  const open = !operation.security?.length || operation.security.some((each) => !Object.keys(each).length);
  if (scheme && !open) lines.push(`-H "${HEADERS[scheme] ?? scheme}"`);
  if (example !== undefined) {
    lines.push("-H 'Content-Type: application/json'");
    lines.push(`-d '${JSON.stringify(example).replaceAll("'", String.raw`'\''`)}'`);
  }
  return lines.join(' \\\n  ');
}

function parametersOf(doc, operation) {
  const parameters = (operation.parameters ?? []).map((each) => resolved(doc, each));
  if (!parameters.length) return [];
  const line = (each) => h('tr', {},
    h('td', {}, h('code', {}, each.name), ...(each.required ? [h('span', { class: 'required' }, 'required')] : [])),
    h('td', { class: 'type' }, `${each.in}, ${typeOf(doc, each.schema ?? {})}`),
    h('td', {}, ...prose(each.description)));
  return [h('h4', {}, 'Parameters'), h('div', { class: 'scroll' }, h('table', {}, h('tbody', {}, ...parameters.map(line))))];
}

function bodyOf(doc, operation) {
  const content = operation.requestBody?.content?.['application/json'];
  if (!content) return [h('h4', {}, 'Example'), codeBox(curlOf(doc, operation), `the request ${operation.operationId}`)];
  const examples = Object.entries(content.examples ?? {});
  return [
    h('h4', {}, operation.requestBody.required ? 'Body' : 'Body, which may be left out'), ...tables(doc, content.schema),
    h('h4', {}, examples.length > 1 ? 'Examples' : 'Example'),
    ...examples.flatMap(([name, example]) => [
      ...(examples.length > 1 ? [h('p', { class: 'variant' }, name)] : []),
      codeBox(curlOf(doc, operation, example.value), `the example ${name}`),
    ]),
  ];
}

function answersOf(doc, operation) {
  const answer = ([status, value]) => {
    const found = resolved(doc, value);
    const content = Object.entries(found.content ?? {})[0];
    const headers = Object.keys(found.headers ?? {});
    const heading = h('summary', {}, h('span', { class: `status ${status < 400 ? 'good' : 'bad'}` }, status), ' ', ...prose(found.description));
    const within = h('div', { class: 'within' });
    if (headers.length) within.append(h('p', { class: 'bounds' }, 'Headers: ', ...headers.flatMap((each, at) => [at ? ', ' : '', h('code', {}, each)])));
    if (content) within.append(...(content[0].includes('json') ? tables(doc, content[1].schema ?? {}, { answer: true }) : [h('p', { class: 'type' }, content[0])]));
    return h('details', {}, heading, within);
  };
  return [h('h4', {}, 'Answers'), h('div', { class: 'answers' }, ...Object.entries(operation.responses).map(answer))];
}

function operationCard(doc, operation) {
  const body = h('div', { class: 'body' });
  const card = h('details', { class: 'operation card', id: operation.operationId, 'data-testid': 'operation' },
    h('summary', {}, h('span', { class: `badge ${operation.method}` }, operation.method),
      h('span', { class: 'path' }, ...pathNodes(operation.path)), h('span', { class: 'summary' }, operation.summary)),
    body);
  // most are never opened
  card.addEventListener('toggle', () => {
    if (!card.open || body.childElementCount) return;
    body.append(...paragraphs(operation.description));
    if (operation['x-who']) body.append(h('p', { class: 'who' }, ...prose(operation['x-who'])));
    body.append(...parametersOf(doc, operation), ...bodyOf(doc, operation), ...answersOf(doc, operation));
  });
  return card;
}

function openNamed() {
  const card = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (card?.classList.contains('operation')) {
    // what it says is filled in when it opens, and the page is longer then
    if (!card.open) card.addEventListener('toggle', () => card.scrollIntoView(), { once: true });
    card.open = true;
    card.scrollIntoView();
    card.querySelector('summary').focus({ preventScroll: true });
  }
  for (const link of document.querySelectorAll('nav a')) {
    link.toggleAttribute('aria-current', link.hash === location.hash && location.hash !== '');
  }
}

function searchable(sections) {
  const box = byId('search');
  const look = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let any = false;
    for (const section of sections) {
      let some = false;
      for (const { text, card, link } of section.entries) {
        const found = words.every((word) => text.includes(word));
        card.hidden = link.hidden = !found;
        some ||= found;
      }
      section.element.hidden = section.heading.hidden = !some;
      any ||= some;
    }
    byId('nothing').hidden = any;
  };
  box.addEventListener('input', look);
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !/INPUT|TEXTAREA/.test(document.activeElement?.tagName ?? '')) {
      event.preventDefault();
      box.focus();
    } else if (event.key === 'Escape' && document.activeElement === box) {
      box.value = '';
      look();
    }
  });
}

function show(doc) {
  byId('version').textContent = `version ${doc.info.version} · OpenAPI ${doc.openapi}`;
  const schemes = Object.values(doc.components.securitySchemes).map((each) => h('li', {}, h('code', {}, each.name ?? 'Authorization: Bearer …'), ' ', ...prose(each.description)));
  byId('about').append(...paragraphs(doc.info.description), h('ul', {}, ...schemes));
  const operations = operationsOf(doc);
  const sections = doc.tags.map((tag) => {
    const heading = h('h2', {}, tag.name);
    const entries = operations.filter((each) => each.tags[0] === tag.name).map((operation) => ({
      text: JSON.stringify(operation).toLowerCase(),
      card: operationCard(doc, operation),
      link: h('a', { href: `#${operation.operationId}` }, h('span', { class: `badge ${operation.method}` }, operation.method), operation.path),
    }));
    byId('contents').append(heading, ...entries.map((each) => each.link));
    const element = h('section', {}, h('h2', {}, tag.name), h('p', { class: 'muted' }, ...prose(tag.description)), ...entries.map((each) => each.card));
    byId('groups').append(element);
    return { element, heading, entries };
  });
  searchable(sections);
  addEventListener('hashchange', openNamed);
  openNamed();
}

try {
  const answer = await fetch('/api/openapi.json');
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  show(await answer.json());
} catch (error) {
  byId('fault').textContent = `The description cannot be read: ${error.message}`;
  byId('fault').hidden = false;
}
