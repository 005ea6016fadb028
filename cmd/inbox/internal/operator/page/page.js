/** Polls the state of the server and shows it. A hidden page does not poll. */

import {moment} from './format.js';
import {Refusals, Relay, Tiles, certificates, facts, warnings} from './view.js';

/** @typedef {import('./status.js').Status} Status */

const interval = 5000;
const timeout = 10000;

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

const tiles = new Tiles();
const relay = new Relay();
const refusals = new Refusals();
byId('tiles').append(...tiles.elements);
byId('turn').append(...relay.elements);
byId('refusals-chart').append(...refusals.chartElements);

/** @type {Date | undefined} */
let lastAnswer;

/** @param {Status} s */
function show(s) {
  setState(s.ready ? 'Ready' : `Not ready: ${s.failing.join(', ')}`, s.ready ? 'good' : 'bad');
  byId('version').textContent = s.version;
  byId('facts').replaceChildren(...facts(s));
  tiles.update(s);
  relay.update(s);
  refusals.update(s);
  byId('refusals').replaceChildren(refusals.table(s));
  fill('certificates', s.certificates, () => certificates(s));
  fill('warnings', s.warnings, () => warnings(s));
  byId('updated').textContent = `Updated ${moment(new Date(), new Date())}, every ${interval / 1000} seconds.`;
  byId('main').hidden = byId('foot').hidden = false;
}

/** @type {Record<string, string>} */
const shown = {};

/**
 * Replaces a list if it has changed, so that a selection or a scroll position stays.
 * @param {string} id
 * @param {unknown} data
 * @param {() => HTMLElement[]} render
 */
function fill(id, data, render) {
  const minute = Math.floor(Date.now() / 60000); // durations change with it
  const key = minute + JSON.stringify(data);
  if (shown[id] === key) return;
  shown[id] = key;
  const open = byId(id).querySelector('details')?.open ?? false;
  byId(id).replaceChildren(...render());
  const details = byId(id).querySelector('details');
  if (details) details.open = open;
}

/**
 * @param {string} text
 * @param {string} tone
 */
function setState(text, tone) {
  const state = byId('state');
  if (state.textContent !== text) state.textContent = text; // otherwise a screen reader repeats it
  state.dataset.tone = tone;
}

async function poll() {
  let text = '';
  try {
    const response = await fetch('status.json', {signal: AbortSignal.timeout(timeout), cache: 'no-store', credentials: 'omit'});
    text = await response.text();
    if (!response.ok) throw new Error(`The server answered with ${response.status}.`);
  } catch {
    const since = lastAnswer ? ` since ${moment(lastAnswer, new Date())}` : '';
    setState('No answer', 'bad');
    fail(`The server has not answered${since}. This page tries again every ${interval / 1000} seconds.`);
    return;
  }
  try {
    show(JSON.parse(text));
    lastAnswer = new Date();
    fail('');
  } catch (error) {
    console.warn(error);
    setState('Unknown', 'bad');
    fail('The answer is not the state that this page expects. Reload the page: the server can have been upgraded.');
  }
}

/** @param {string} text of the notice; empty: none */
function fail(text) {
  const notice = byId('notice');
  notice.hidden = text === '';
  if (notice.textContent !== text) notice.textContent = text;
  document.body.classList.toggle('stale', text !== '');
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let polling = false;

async function run() {
  clearTimeout(timer);
  if (polling || document.hidden) return;
  polling = true;
  await poll();
  polling = false;
  if (!document.hidden) timer = setTimeout(run, interval);
}

document.addEventListener('visibilitychange', run);
run();
