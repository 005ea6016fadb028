/**
 * Real clients of PeerJS and y-webrtc on a private server, on pages of other origins: with an
 * invitation or a guest pass as docs/private.md says, without, and after it was revoked.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import * as chromium from '../lib/browser.js';
import {defineHelpers} from '../lib/peerjs-scenes.js';
import {Server} from '../lib/server.js';
import {TopicsSite} from '../lib/topics-site.js';

const {skip} = chromium;
const peerjs = fileURLToPath(new URL('../node_modules/peerjs/dist/peerjs.min.js', import.meta.url));
const site = new TopicsSite();
/** @type {Server} */
let server;
/** @type {chromium.Browser} */
let browser;

before(async () => {
  if (skip) return;
  await site.start();
  server = new Server(['-access', 'invited', '-compat', 'peerjs,topics', '-https=false', '-turn', 'off']);
  await server.start();
  browser = await chromium.launch();
});

after(async () => {
  await browser?.close();
  site.stop();
  await server?.remove();
});

const origin = () => server.origin.replace('https:', 'http:');

/** Opens a page of another site. @param {string} host */
async function openPage(host) {
  const page = await browser.newPage();
  await page.goto(site.origin(`${host}.localhost`) + '/yjs');
  return page;
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

test('PeerJS with the option key', {skip}, async () => {
  const token = server.invite('peerjs');
  let pass = '';
  await waitUntil('a guest pass', async () => { // the server learns of an invitation within a second
    const response = await fetch(`${origin()}/guest-pass`, {
      method: 'POST', headers: {'Inbox-Invite': token}, body: JSON.stringify({names: ['anna', 'ben']}),
    });
    pass = (await response.json()).pass;
    return response.ok;
  });
  const at = {host: 'localhost', port: Number(new URL(server.origin).port), secure: false};
  const page = await openPage('peerjs');
  await page.addScriptTag({path: peerjs});
  await page.evaluate(defineHelpers);
  assert.equal(await page.evaluate(refusal, {id: 'anna', options: at}), 'invalid-key');
  assert.equal(await page.evaluate(refusal, {options: at}), 'server-error');
  assert.equal(await page.evaluate(refusal, {id: 'carol', options: {...at, key: pass}}), 'invalid-key');
  assert.equal(await page.evaluate(connectGuest, {host: {...at, key: token}, guest: {...at, key: pass}}), 'hello');
  server.revoke('peerjs');
  assert.deepEqual(await page.evaluate(endOfGuest), ['invalid-key', 'invalid-key', 'still here']);
  await page.close();
});

test('y-webrtc with an invitation in its URL', {skip}, async () => {
  const url = `${origin().replace('http:', 'ws:')}/topics?invite=${server.invite('yjs')}`;
  const [anna, ben, stranger] = await Promise.all(['anna', 'ben', 'stranger'].map(openPage));
  /** @param {typeof anna} page @param {string} method @param {unknown[]} args */
  const call = (page, method, ...args) => page.evaluate(([name, rest]) => /** @type {any} */ (window).page[name](...rest), /** @type {[string, any[]]} */ ([method, args]));
  const signaling = async (/** @type {typeof anna} */ page) => JSON.parse(await call(page, 'state')).signaling[0];
  await call(stranger, 'join', 'room', url.replace(/\?.*/, ''));
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
});
