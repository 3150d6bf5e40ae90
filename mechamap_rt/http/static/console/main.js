import { Backend } from './backend.js';
import { Pane } from './pane.js';

async function readConfig() {
  const response = await fetch('/console/config.json', { cache: 'no-store' });
  if (!response.ok) throw new Error(`/console/config.json answered ${response.status}`);
  return response.json();
}

const config = {
  current: null,
  async fresh() {
    return (this.current = await readConfig());
  },
};

try {
  const { users, version } = await config.fresh();
  if (!users?.length) throw new Error('/console/config.json lists no demo users');
  document.getElementById('server').textContent = `mechamap_rt ${version} at ${location.host}`;
  new Backend(document.getElementById('backend'), config);
  const template = document.getElementById('pane-template');
  const panes = ['left', 'right'].map((side, index) => new Pane(template, side, config, index));
  document.getElementById('panes').append(...panes.map((pane) => pane.root));
  document.body.dataset.ready = 'true';
} catch (error) {
  const fault = document.getElementById('fault');
  fault.textContent = `The console could not start: ${error.message}.`;
  fault.hidden = false;
  document.getElementById('server').textContent = '';
}
