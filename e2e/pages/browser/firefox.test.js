/** Tests calls in Firefox, and between Firefox and Chromium. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {Relay} from '../lib/relay.js';
import {Server} from '../lib/server.js';

const skip = firefox.skip || chromium.skip;

/** @type {Server} */
let server;
/** @type {firefox.Browser} */
let firefoxBrowser;
/** @type {chromium.Browser} */
let chromiumBrowser;
/** @type {string[]} console errors of Firefox */
let errors = [];

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  [firefoxBrowser, chromiumBrowser] = await Promise.all([firefox.launch(), chromium.launch()]);
});

after(async () => {
  await Promise.all([firefoxBrowser?.close(), chromiumBrowser?.close()]);
  await server?.remove();
});

test('a call in Firefox, before and after each page reloads', {skip}, async () => {
  errors = [];
  const camera = await firefox.open(firefoxBrowser, server.origin + '/send.html', errors);
  const screen = await firefox.open(firefoxBrowser, await firefox.sharedLink(camera), errors);
  await firefox.waitForTitle(screen, 'The camera page is open');
  await firefox.pressStart(camera);
  await firefox.waitForTitle(camera, 'Connected');
  await firefox.waitForPicture(screen);
  await screen.reload();
  await firefox.waitForPicture(screen);
  await camera.bringToFront();
  await camera.reload();
  await firefox.waitForTitle(screen, 'The camera page is open');
  await firefox.pressStart(camera);
  await firefox.waitForTitle(camera, 'Connected');
  await firefox.waitForPicture(screen);
  await Promise.all([camera.close(), screen.close()]);
  assert.deepEqual(errors, []);
});

test('from Firefox to Chromium', {skip}, async () => {
  errors = [];
  const ann = await chromium.Device.create(chromiumBrowser, server.origin);
  const screen = await ann.open('/receive.html');
  const camera = await firefox.open(firefoxBrowser, await chromium.sharedLink(screen), errors);
  await firefox.waitForTitle(camera, 'The other screen is waiting');
  await firefox.pressStart(camera);
  await chromium.waitForPicture(screen);
  await camera.close();
  await ann.close();
  assert.deepEqual(errors, []);
});

test('from Chromium to Firefox', {skip}, async () => {
  errors = [];
  const ann = await chromium.Device.create(chromiumBrowser, server.origin);
  const camera = await ann.open('/send.html');
  const screen = await firefox.open(firefoxBrowser, await chromium.sharedLink(camera), errors);
  await chromium.waitForTitle(camera, 'The other screen is waiting');
  await chromium.pressStart(camera);
  await firefox.waitForPicture(screen);
  await screen.close();
  await ann.close();
  assert.deepEqual(errors, []);
});

test('a server and its relay restart during a call in Firefox: the picture returns', {skip}, async t => {
  const relay = new Relay();
  await relay.start();
  const relayServer = new Server(relay.serverFlags('udp'));
  await relayServer.start();
  try {
    await restartDuringCall(relayServer, relay, t);
  } finally {
    await relayServer.remove();
    await relay.remove();
  }
});

/**
 * @param {Server} relayServer
 * @param {Relay} relay
 * @param {import('node:test').TestContext} t
 */
async function restartDuringCall(relayServer, relay, t) {
  /** @param {string} url */
  const open = url => firefox.open(firefoxBrowser, url, [], [chromium.useRelaysOnly]);
  const screen = await open(`${relayServer.origin}/receive.html`);
  const camera = await open(await firefox.sharedLink(screen));
  await firefox.waitForTitle(screen, 'The camera page is open');
  await firefox.pressStart(camera);
  await firefox.waitForTitle(camera, 'Connected');
  await firefox.waitForPicture(screen);
  const ufrag = await screen.evaluate(chromium.remoteUfrag);
  await Promise.all([relayServer.stop(), relay.stop()]);
  await relay.start();
  await relayServer.start();
  const started = Date.now();
  await chromium.waitForRestart(screen, ufrag);
  await firefox.waitForPicture(screen);
  t.diagnostic(`the picture moves again ${Date.now() - started} ms after the restart`);
  await Promise.all([camera.close(), screen.close()]);
}
