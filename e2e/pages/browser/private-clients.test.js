/**
 * Real clients of PeerJS, y-webrtc and Trystero on a private server, on pages of other origins: with
 * an invitation or a guest pass as docs/private.md says, without, and after it was revoked.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {defineHelpers} from '../lib/peerjs-scenes.js';
import {Server} from '../lib/server.js';
import {TopicsSite} from '../lib/topics-site.js';

/**
 * Page is a page of Playwright or Puppeteer.
 * @typedef {{goto: (url: string) => Promise<unknown>, evaluate: (fn: any, ...args: any[]) => Promise<any>, addScriptTag: (script: {path: string}) => Promise<unknown>, close: () => Promise<void>}} Page
 * @typedef {{newPage: () => Promise<any>, close: () => Promise<void>}} Browser
 */

const peerjs = fileURLToPath(new URL('../node_modules/peerjs/dist/peerjs.min.js', import.meta.url));
const site = new TopicsSite();

before(() => site.start());
after(() => site.stop());

/** Returns the origin of a server without TLS. @param {Server} server */
const origin = server => server.origin.replace('https:', 'http:');

/**
 * Opens a page of another site.
 * @param {Browser} browser
 * @param {string} host
 * @param {string} path
 */
async function openPage(browser, host, path) {
  const page = /** @type {Page} */ (await browser.newPage());
  await page.goto(site.origin(`${host}.localhost`) + path);
  return page;
}

/** Runs in a page: calls a method of its script. @param {[string, ...unknown[]]} call */
function callPage([method, ...args]) {
  return /** @type {any} */ (window).page[method](...args);
}

/** @param {Page} page @param {[string, ...unknown[]]} call */
const call = (page, ...call) => page.evaluate(callPage, call);

/** Returns the URL of the topics for an invitation or a guest pass. @param {Server} server @param {string} token */
const topics = (server, token) => `${origin(server).replace('http:', 'ws:')}/topics${token && `?invite=${token}`}`;

/**
 * Returns a guest pass for two names. The server learns of an invitation within a second.
 * @param {Server} server
 * @param {string} token
 */
async function guestPass(server, token) {
  let pass = '';
  await waitUntil('a guest pass', async () => {
    const response = await fetch(`${origin(server)}/guest-pass`, {
      method: 'POST', headers: {'Inbox-Invite': token}, body: JSON.stringify({names: ['anna', 'ben']}),
    });
    pass = (await response.json()).pass;
    return response.ok;
  });
  return pass;
}

/** Waits until a function returns true. @param {string} what @param {() => Promise<boolean>} isDone */
async function waitUntil(what, isDone) {
  for (const deadline = Date.now() + 30_000; !await isDone();) {
    assert.ok(Date.now() < deadline, `timeout: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** Runs in the page: returns the error of a peer. @param {{id?: string, options: object}} peer */
async function refusal({id, options}) {
  const {create, until} = /** @type {any} */ (window);
  return (await until(create(id, options), 'error')).type;
}

/** Runs in the page: a host and its guest connect. @param {{host: object, guest: object}} options */
async function connectGuest({host, guest}) {
  const win = /** @type {any} */ (window);
  win.peers = [await win.open('anna', host), await win.open('ben', guest)];
  win.echo(win.peers[0]);
  win.connection = win.peers[1].connect('anna');
  win.ends = win.peers.map((/** @type {any} */ peer) => win.until(peer, 'error'));
  return win.ask(win.connection, 'hello');
}

/** Runs in the page: returns the errors that end both peers, and what their connection still echoes. */
async function endOfGuest() {
  const {ask, connection, ends} = /** @type {any} */ (window);
  const errors = await Promise.all(ends);
  return [...errors.map(error => error.type), await ask(connection, 'still here')];
}

/** Tests PeerJS with the option key. @param {Browser} browser @param {Server} server */
async function testPeerJS(browser, server) {
  const token = server.invite('peerjs');
  const pass = await guestPass(server, token);
  const at = {host: 'localhost', port: Number(new URL(server.origin).port), secure: false};
  const page = await openPage(browser, 'peerjs', '/yjs');
  await page.addScriptTag({path: peerjs});
  await page.evaluate(defineHelpers);
  assert.equal(await page.evaluate(refusal, {id: 'anna', options: at}), 'invalid-key');
  assert.equal(await page.evaluate(refusal, {options: at}), 'server-error');
  assert.equal(await page.evaluate(refusal, {id: 'carol', options: {...at, key: pass}}), 'invalid-key');
  assert.equal(await page.evaluate(connectGuest, {host: {...at, key: token}, guest: {...at, key: pass}}), 'hello');
  server.revoke('peerjs');
  assert.deepEqual(await page.evaluate(endOfGuest), ['invalid-key', 'invalid-key', 'still here']);
  await page.close();
}

/** Tests y-webrtc with an invitation in its URL. @param {Browser} browser @param {Server} server */
async function testYjs(browser, server) {
  const url = topics(server, server.invite('yjs'));
  const [anna, ben, stranger] = await Promise.all(['anna', 'ben', 'stranger'].map(host => openPage(browser, host, '/yjs')));
  const signaling = async (/** @type {Page} */ page) => JSON.parse(await call(page, 'state')).signaling[0];
  await call(stranger, 'join', 'room', topics(server, ''));
  await call(anna, 'join', 'room', url);
  await waitUntil('an announcement', () => call(anna, 'announced'));
  await call(ben, 'join', 'room', url);
  await call(anna, 'write', 'hello');
  await waitUntil('the document', async () => (await call(ben, 'lines')).length === 1);
  await waitUntil('a refusal', async () => (await signaling(stranger)).unsuccessfulReconnects > 0);
  server.revoke('yjs');
  for (const page of [anna, ben]) {
    await waitUntil('the end', async () => { const {connected, unsuccessfulReconnects} = await signaling(page); return !connected && unsuccessfulReconnects > 0; });
  }
  await call(ben, 'write', 'still here');
  await waitUntil('the document', async () => (await call(anna, 'lines')).length === 2);
  assert.deepEqual(await call(stranger, 'lines'), []);
  await Promise.all([anna, ben, stranger].map(page => page.close()));
}

/** Tests Trystero with an invitation, and a guest pass, in its URL. @param {Browser} browser @param {Server} server */
async function testTrystero(browser, server) {
  const token = server.invite('trystero');
  const pass = await guestPass(server, token);
  const [anna, ben, stranger] = await Promise.all(['anna', 'ben', 'stranger'].map(host => openPage(browser, host, '/trystero')));
  const hasPeer = (/** @type {Page} */ page) => waitUntil('a peer', async () => (await call(page, 'lines')).length > 0);
  await call(stranger, 'join', 'room', topics(server, ''));
  await call(anna, 'join', 'room', topics(server, token));
  await call(ben, 'join', 'room', topics(server, pass));
  await Promise.all([hasPeer(anna), hasPeer(ben)]);
  server.revoke('trystero');
  await waitUntil('the end', async () => {
    const response = await fetch(`${origin(server)}/guest-pass`, {method: 'POST', headers: {'Inbox-Invite': token}});
    return response.status === 403;
  });
  for (const page of [anna, ben]) assert.match(await call(page, 'state'), /"connectionState":"connected"/, 'the peers stay connected');
  assert.deepEqual(await call(stranger, 'lines'), []);
  await Promise.all([anna, ben, stranger].map(page => page.close()));
}

/** Tests the clients in a browser. They mostly wait. @param {typeof chromium | typeof firefox} engine @param {import('node:test').TestContext} t */
async function testClients(engine, t) {
  const server = new Server(['-access', 'invited', '-compat', 'peerjs,topics', '-https=false', '-turn', 'off']);
  await server.start();
  const browser = await engine.launch();
  t.after(async () => {
    await browser.close();
    await server.remove();
  });
  await Promise.all([
    t.test('PeerJS with the option key', () => testPeerJS(browser, server)),
    t.test('y-webrtc with an invitation in its URL', () => testYjs(browser, server)),
    engine === chromium && t.test('Trystero with an invitation in its URL', () => testTrystero(browser, server)),
  ]);
}

test('clients of other libraries', {concurrency: true}, async t => {
  await Promise.all([
    t.test('Chromium', {skip: chromium.skip, concurrency: true}, t => testClients(chromium, t)),
    t.test('Firefox', {skip: firefox.skip, concurrency: true}, t => testClients(firefox, t)),
  ]);
});
