/** Tests calls in Firefox, and between Firefox and Chromium. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import {enterCode, shownDigits} from '../lib/codes.js';
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

test('a two-way call between Firefox and Chromium', {skip}, async () => {
  errors = [];
  const ann = await chromium.Device.create(chromiumBrowser, server.origin);
  const first = await firefox.open(firefoxBrowser, server.origin + '/call.html', errors);
  await firefox.press(first, '#join');
  await firefox.waitForTitle(first, 'Waiting for the other device');
  const second = await ann.open(await firefox.sharedLink(first));
  await Promise.all([firefox.waitForPicture(first), chromium.waitForPicture(second)]);
  await firefox.waitForTitle(first, 'Connected');
  await firefox.press(first, '#camera-button');
  await chromium.waitForText(second, 'The other camera is off');
  await firefox.press(first, '#camera-button');
  await firefox.press(first, '#microphone-button');
  await chromium.waitForText(second, 'The other microphone is off');
  await chromium.waitForPicture(second);
  await firefox.press(first, '#more');
  await first.waitForFunction(() => document.querySelector('#stats')?.textContent?.includes('direct'));
  await first.keyboard.press('Escape');
  await firefox.press(first, '#hang-up');
  await chromium.waitForTitle(second, 'The other device has hung up');
  await firefox.press(first, '#join');
  await second.getByRole('button', {name: 'Answer'}).click();
  await Promise.all([firefox.waitForPicture(first), chromium.waitForPicture(second)]);
  await first.reload(); // the tab was in the call, so it joins again without a press
  await Promise.all([firefox.waitForPicture(first), chromium.waitForPicture(second)]);
  await first.close();
  await chromium.waitForTitle(second, 'The other device has left');
  await ann.close();
  assert.deepEqual(errors, []);
});

test('a two-way call by short code that only a relay connects', {skip}, () => withRelay(async ({origin}) => {
  errors = [];
  const first = await firefox.open(firefoxBrowser, `${origin}/call.html`, errors, [chromium.useRelaysOnly]);
  await firefox.press(first, '#join');
  const code = await first.waitForFunction(() => /^[2-9A-Z]{3} [2-9A-Z]{3}$/.exec(document.querySelector('.code-text')?.textContent ?? '')?.[0]);
  const ann = await chromium.Device.create(chromiumBrowser, origin);
  await ann.context.addInitScript(chromium.useRelaysOnly);
  const second = await ann.open('/');
  await enterCode(second, await code.jsonValue() ?? '');
  const digits = await shownDigits(second);
  await first.waitForFunction(want => document.querySelector('.code-digits')?.textContent === want, {}, digits);
  await second.getByRole('button', {name: 'The digits are the same'}).click();
  await first.bringToFront();
  await first.locator('.code-box button ::-p-text(Let in)').click();
  await second.waitForURL(/call\.html#/);
  await second.getByRole('button', {name: 'Join the call'}).or(second.getByRole('button', {name: 'Hang up'})).first().waitFor();
  await Promise.all([firefox.waitForPicture(first), chromium.waitForPicture(second)]);
  assert.equal(await second.evaluate(chromium.isRelayed), true);
  assert.equal((await second.goto(`${origin}/`))?.status(), 200);
  await firefox.waitForTitle(first, 'The other device has left');
  await first.close();
  await ann.close();
  assert.deepEqual(errors, []);
}));

test('a server and its relay restart during a call in Firefox: the picture returns', {skip}, t => withRelay((relayServer, relay) =>
  restartDuringCall(relayServer, relay, t)));

/**
 * Runs a test with a server that has a relay.
 * @param {(server: Server, relay: Relay) => Promise<void>} use
 */
async function withRelay(use) {
  const relay = new Relay();
  await relay.start();
  const relayServer = new Server(relay.serverFlags('udp'));
  await relayServer.start();
  try {
    await use(relayServer, relay);
  } finally {
    await relayServer.remove();
    await relay.remove();
  }
}

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
