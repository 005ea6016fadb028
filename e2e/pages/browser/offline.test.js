/**
 * Tests inbox.js with each transport in Chromium and Firefox on a device whose network is down for a
 * while. The device and the server are network namespaces with a cable between them: the browsers
 * learn nothing but that packets are lost, or what the system tells them.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {Namespace, skipNamespaces} from '../lib/namespace.js';
import {Server, freePort} from '../lib/server.js';

/**
 * @typedef {import('../../../public/transports.js').Transport} Transport
 * @typedef {{goto: (url: string) => Promise<unknown>, evaluate: (fn: any, arg?: any) => Promise<any>}} Page of Playwright or Puppeteer
 */

const skip = chromium.skip || firefox.skip || skipNamespaces;
const addresses = /** @type {[string, string]} */ (['192.168.79.1/24', '192.168.79.2/24']);
/** Milliseconds without a network. */
const outage = 15_000;
/** Milliseconds that the test waits for something. */
const TIMEOUT = 60_000;
/** @type {Transport[]} */
const transports = ['websocket', 'stream', 'poll'];
const numbersPerRound = 20;

/** @type {Namespace} */
let home;
/** @type {Namespace} */
let away;
/** @type {Server} */
let server;
/** What ends the browsers. @type {(() => Promise<unknown>)[]} */
const ends = [];
let origin = '';

before(async () => {
  if (skip) return;
  [home, away] = [new Namespace(), new Namespace()];
  home.connect(away, addresses);
  server = new Server([], {host: '0.0.0.0', namespace: home.name});
  await server.start();
  origin = server.origin.replace('localhost', '192.168.79.1');
});

after(async () => {
  await Promise.allSettled(ends.map(end => end()));
  await server?.remove();
  home?.remove();
  away?.remove();
});

/** Opens a page of the server in Chromium. @param {Namespace} where */
async function openChromium(where) {
  const browser = await chromium.launch([], where.script(chromium.executablePath));
  ends.push(() => browser.close());
  const page = await (await browser.newContext({ignoreHTTPSErrors: true})).newPage();
  await page.goto(`${origin}/robots.txt`);
  return page;
}

/** Opens a page of the server in Firefox, on the device that is away. */
async function openFirefox() {
  const port = await freePort();
  await away.forward(port); // of BiDi
  const browser = await firefox.launch(away.script(firefox.executablePath), port);
  ends.push(() => browser.close());
  const page = await browser.newPage();
  await page.goto(`${origin}/robots.txt`);
  return page;
}

/**
 * Runs in the page: opens inboxes, and records what they receive.
 * @param {{name: string, transport: string}[]} inboxes
 */
async function openInboxes(inboxes) {
  const {StreamInbox: Inbox} = await import(`${location.origin}/stream-inbox.js`);
  const all = Object.assign(window, {inboxes: /** @type {Record<string, any>} */ ({}), messages: /** @type {Record<string, any[]>} */ ({})});
  for (const {name, transport} of inboxes) {
    const inbox = new Inbox(`${location.origin}/inbox`, {name, password: `of ${name}`, transports: transport === 'poll' ? [] : [transport]});
    inbox.maxRetryDelay = 2_000;
    all.inboxes[name] = inbox;
    all.messages[name] = [];
    inbox.addEventListener('message', (/** @type {any} */ {detail: {id, data}}) => all.messages[name].push({id, n: data.n}));
    await inbox.start();
  }
}

/**
 * Runs in the page: sends the numbers from `first`, each when the one before it is stored.
 * @param {{from: string, to: string, first: number, count: number}} options
 */
async function sendNumbers({from, to, first, count}) {
  for (let n = first; n < first + count; n++) await /** @type {any} */ (window).inboxes[from].send(to, {n}, {wait: 120});
}

/** Runs in the page: what arrived, and over which transport more would. @param {string} name */
const readInbox = name => ({messages: /** @type {any} */ (window).messages[name], transport: /** @type {any} */ (window).inboxes[name].transport});

/**
 * Waits for a state of an inbox.
 * @param {Page} page
 * @param {string} name
 * @param {string} what
 * @param {(inbox: {messages: {id: string, n: number}[], transport: Transport}) => boolean} isReached
 */
async function until(page, name, what, isReached) {
  for (const deadline = Date.now() + TIMEOUT; ; await new Promise(resolve => setTimeout(resolve, 100))) {
    const inbox = await page.evaluate(readInbox, name);
    if (isReached(inbox)) return inbox.messages;
    assert.ok(Date.now() < deadline, `${name}: timeout: ${what}; got ${inbox.messages.length} messages over ${inbox.transport}`);
  }
}

/** Checks that all numbers arrived in order. @param {{id: string, n: number}[]} messages @param {number} count */
function checkNumbers(messages, count) {
  const numbers = messages.map(({n}) => n);
  assert.deepEqual(numbers.filter((n, i) => numbers.indexOf(n) === i), Array.from({length: count}, (_, n) => n));
  assert.equal(new Set(messages.map(({id}) => id)).size, messages.length, 'no ID twice');
}

test('no message is lost while the network of a device is down', {skip}, async t => {
  const pages = /** @type {Page[]} */ (await Promise.all([openChromium(home), openChromium(away), openFirefox()]));
  const [peer, ...devices] = pages;
  const pairs = devices.flatMap((page, i) => transports.map(transport => {
    const name = `${['chromium', 'firefox'][i]}-${transport}`;
    return {page, name, transport, peerName: `peer-of-${name}`};
  }));
  await peer.evaluate(openInboxes, pairs.map(({peerName}) => ({name: peerName, transport: 'websocket'})));
  for (const page of devices) await page.evaluate(openInboxes, pairs.filter(pair => pair.page === page).map(({name, transport}) => ({name, transport})));
  await Promise.all(pairs.map(({page, name, transport}) => until(page, name, transport, inbox => inbox.transport === transport)));

  /** Sends the numbers of a round both ways. @param {number} first */
  const sendRound = first => Promise.all(pairs.flatMap(({page, name, peerName}) => [
    page.evaluate(sendNumbers, {from: name, to: peerName, first, count: numbersPerRound}),
    peer.evaluate(sendNumbers, {from: peerName, to: name, first, count: numbersPerRound}),
  ]));
  await sendRound(0);
  for (const {page, name, peerName} of pairs) {
    await until(page, name, 'the first round', inbox => inbox.messages.length >= numbersPerRound);
    await until(peer, peerName, 'the first round', inbox => inbox.messages.length >= numbersPerRound);
  }

  away.setNetwork('down');
  const restored = Date.now() + outage;
  const sent = sendRound(numbersPerRound);
  await new Promise(resolve => setTimeout(resolve, restored - Date.now()));
  for (const {page, name} of pairs) assert.equal((await page.evaluate(readInbox, name)).messages.length, numbersPerRound, `${name} without a network`);
  away.setNetwork('up');
  await sent;
  for (const {page, name, peerName, transport} of pairs) {
    const total = 2 * numbersPerRound;
    const all = (/** @type {{messages: {n: number}[]}} */ inbox) => new Set(inbox.messages.map(({n}) => n)).size >= total;
    checkNumbers(await until(page, name, 'all numbers', all), total);
    checkNumbers(await until(peer, peerName, 'all numbers', all), total);
    await until(page, name, `${transport} again`, inbox => inbox.transport === transport);
  }
  t.diagnostic(`all messages arrived ${Date.now() - restored} ms after the network returned`);
});
