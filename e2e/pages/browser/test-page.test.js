/** Tests the self-test page in Chromium and Firefox, against servers with a relay, with an unreachable one and without. */

import assert from 'node:assert/strict';
import {createSocket} from 'node:dgram';
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {Device, launch, skip} from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {keepScreenshot, sizes} from '../lib/looks.js';
import {ReverseProxy} from '../lib/reverse-proxy.js';
import {Server} from '../lib/server.js';

/** @typedef {import('playwright-core').Page} Page */

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (!skip) browser = await launch();
});

after(async () => {
  await browser?.close();
});

/**
 * Runs a test with its own server.
 * @param {string[]} flags
 * @param {(server: Server) => Promise<void>} use
 */
async function withServer(flags, use) {
  const server = new Server(flags);
  await server.start();
  try {
    await use(server);
  } finally {
    await server.remove();
  }
}

/** Returns the flags for a relay on a free UDP port of 127.0.0.1. */
async function relayFlags() {
  const socket = await openSocket();
  const {port} = socket.address();
  await new Promise(resolve => socket.close(() => resolve(undefined)));
  return ['-turn', '127.0.0.1', '-turn-bind', `127.0.0.1:${port}`];
}

/** @returns {Promise<import('node:dgram').Socket>} */
function openSocket() {
  return new Promise(resolve => {
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1', () => resolve(socket));
  });
}

/** Runs in the page: whether the checks have ended. */
const ended = () => document.querySelector('#again')?.getAttribute('aria-disabled') === 'false';

/** Runs in the page: the state of each check. */
const results = () => Object.fromEntries([...document.querySelectorAll('#checks .check')].map(item =>
  [item.querySelector('.check-name')?.textContent, /** @type {HTMLElement} */ (item).dataset.state]));

const relayResults = {'Browser': 'ok', 'Server': 'ok', 'Mailbox': 'ok', 'WebSocket': 'ok', 'Event stream': 'ok', 'STUN': 'ok', 'TURN over UDP': 'ok', 'TURN over TLS': 'warning'};

/** @param {Page} page @param {string} device @param {string} state */
async function waitForDevice(page, device, state) {
  await page.locator(`#${device}-row .check[data-state="${state}"]`).waitFor({timeout: 60_000});
}

test('Chromium: all checks, camera and microphone, the report, and a second run', {skip}, async () =>
  withServer(await relayFlags(), async server => {
    const device = await Device.create(browser, server.origin, {permissions: ['clipboard-read', 'clipboard-write', 'camera', 'microphone']});
    const page = await device.open('/test.html');
    await page.waitForFunction(ended);
    assert.deepEqual(await page.evaluate(results), relayResults);
    await page.getByRole('button', {name: 'Test camera'}).click();
    await page.getByRole('button', {name: 'Test microphone'}).click();
    await waitForDevice(page, 'camera', 'ok');
    await waitForDevice(page, 'microphone', 'ok');
    for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
      await page.emulateMedia({colorScheme});
      await checkAppearance(page, `test-${colorScheme}`);
    }
    await page.getByRole('button', {name: 'Copy report'}).click();
    await page.getByRole('button', {name: 'Copied'}).waitFor();
    const report = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(report, /^inbox self-test, .*\nChrome \d+ on Linux\nBrowser: ok.*\nServer: ok/);
    assert.match(report, /TURN over UDP: ok, turnOk, \d+ ms\n.*\nCamera: ok, cameraOk\nMicrophone: ok, microphoneOk$/);
    assert.doesNotMatch(report, /127\.0|localhost|:\d{4}/);
    await page.getByRole('button', {name: 'Camera off'}).click();
    await page.getByText('It worked, and is off now.').waitFor();
    await page.getByRole('button', {name: 'Run again'}).click();
    await page.waitForFunction(() => document.querySelector('#again')?.getAttribute('aria-disabled') === 'true');
    await page.waitForFunction(ended);
    assert.deepEqual(await page.evaluate(results), relayResults);
    await device.close();
  }));

test('Firefox: all checks, camera and microphone', {skip: firefox.skip}, async () =>
  withServer(await relayFlags(), async server => {
    const firefoxBrowser = await firefox.launch();
    try {
      /** @type {string[]} */
      const errors = [];
      const page = await firefox.open(firefoxBrowser, `${server.origin}/test.html`, errors);
      await page.waitForFunction(ended);
      assert.deepEqual(await page.evaluate(results), relayResults);
      await page.bringToFront();
      await page.locator('#camera').click();
      await page.waitForSelector('#camera-row .check[data-state="ok"]');
      await page.locator('#microphone').click();
      // Firefox processes no audio on a machine without an audio device.
      await page.waitForFunction(() => /It hears you|cannot show its level/.test(document.querySelector('#microphone-row')?.textContent ?? ''));
      assert.deepEqual(errors, []);
    } finally {
      await firefoxBrowser.close();
    }
  }));

test('a blocked port and a rejected URL are failures with advice; the server offers no STUN', {skip}, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'inbox-test-page-'));
  const silent = await openSocket();
  const file = join(directory, 'ice.json');
  const {port} = silent.address();
  writeFileSync(file, JSON.stringify([{urls: [`turn:127.0.0.1:${port}?transport=udp`, 'turn:127.0.0.1:9?transport=tcp'], username: 'u', credential: 'c'}]));
  try {
    await withServer(['-turn', 'off', '-ice-servers', file], async server => {
      const device = await Device.create(browser, server.origin);
      const page = await device.open('/test.html');
      await page.waitForFunction(ended);
      assert.deepEqual(await page.evaluate(results), {
        'Browser': 'ok', 'Server': 'ok', 'Mailbox': 'ok', 'WebSocket': 'ok', 'Event stream': 'ok', 'STUN': 'warning', 'TURN over UDP': 'failed', 'TURN over TCP': 'failed', 'TURN over TLS': 'warning',
      });
      await page.getByText('Something that calls need does not work').waitFor();
      await page.getByText('A firewall or a VPN probably blocks it').first().waitFor();
      await checkAppearance(page, 'test-failed');
      await device.close();
    });
  } finally {
    silent.close();
    rmSync(directory, {recursive: true});
  }
});

test('no relay, then no server: the other checks are skipped, and the page recovers', {skip}, () =>
  withServer(['-turn', 'off'], async server => {
    const device = await Device.create(browser, server.origin);
    device.allowError(/net::ERR_CONNECTION_REFUSED/);
    const page = await device.open('/test.html');
    await page.waitForFunction(ended);
    const noRelay = {'Browser': 'ok', 'Server': 'ok', 'Mailbox': 'ok', 'WebSocket': 'ok', 'Event stream': 'ok', 'STUN': 'warning', 'TURN over UDP': 'failed', 'TURN over TLS': 'failed'};
    assert.deepEqual(await page.evaluate(results), noRelay);
    await server.stop();
    await page.getByRole('button', {name: 'Run again'}).click();
    await page.locator('#checks .check[data-state="skipped"]').first().waitFor();
    assert.deepEqual(await page.evaluate(results),
      {'Browser': 'ok', 'Server': 'failed', 'Mailbox': 'skipped', 'WebSocket': 'skipped', 'Event stream': 'skipped', 'STUN': 'skipped', 'TURN over UDP': 'skipped', 'TURN over TLS': 'skipped'});
    await server.start();
    await page.getByRole('button', {name: 'Run again'}).click();
    await page.waitForFunction(wanted => document.querySelectorAll('#checks .check').length === wanted
      && document.querySelector('#checks .check[data-state="skipped"]') === null, Object.keys(noRelay).length);
    await page.waitForFunction(ended);
    assert.deepEqual(await page.evaluate(results), noRelay);
    await device.close();
  }));

test('proxies that block a WebSocket, or also hold back event streams', {skip}, () =>
  withServer(['-turn', 'off', '-https=false', '-trusted-proxies', '127.0.0.1'], async server => {
    const proxy = new ReverseProxy(server.origin.replace('https:', 'http:'));
    await proxy.start();
    const device = await Device.create(browser, proxy.origin);
    device.allowError(/WebSocket connection .* failed/);
    proxy.webSockets = 'refuse';
    const page = await device.open('/test.html');
    await page.waitForFunction(ended);
    assert.deepEqual(await page.evaluate(results), {
      'Browser': 'ok', 'Server': 'ok', 'Mailbox': 'ok', 'WebSocket': 'warning', 'Event stream': 'ok', 'STUN': 'warning', 'TURN over UDP': 'failed', 'TURN over TLS': 'failed',
    });
    proxy.buffers = true;
    await page.getByRole('button', {name: 'Run again'}).click();
    await page.getByText('A proxy holds back event streams.').waitFor();
    await page.waitForFunction(ended);
    await device.context.close(); // before the proxy, whose end is an error
    proxy.stop();
    await device.close();
  }));

test('a camera that is denied, and a prompt that stays unanswered', {skip}, () =>
  withServer(['-turn', 'off'], async server => {
    const device = await Device.create(browser, server.origin);
    await device.context.addInitScript(() => {
      if (navigator.mediaDevices) navigator.mediaDevices.getUserMedia = constraints => (constraints?.video
        ? Promise.reject(new DOMException('', 'NotAllowedError'))
        : new Promise(() => {}));
    });
    const page = await device.open('/test.html');
    await page.getByRole('button', {name: 'Test camera'}).click();
    await page.getByText('Access was denied.').waitFor();
    await page.getByRole('button', {name: 'Test microphone'}).click();
    await page.getByText('Answer its question at the top of the window.').waitFor();
    await page.getByRole('button', {name: 'Microphone off'}).click();
    await page.getByRole('button', {name: 'Test microphone'}).waitFor();
    await device.close();
  }));

/**
 * Fails on serious findings of axe and on horizontal scrolling, at all sizes.
 * @param {Page} page
 * @param {string} state
 */
async function checkAppearance(page, state) {
  const before = page.viewportSize();
  for (const [size, viewport] of Object.entries(sizes)) {
    await page.setViewportSize(viewport);
    await keepScreenshot(page, `${state}-${size}`);
    await page.evaluate(axe);
    const {violations} = await page.evaluate(() => /** @type {any} */ (window).axe.run());
    const serious = violations.filter((/** @type {any} */ {impact}) => ['serious', 'critical'].includes(impact));
    assert.deepEqual(serious.map((/** @type {any} */ v) => `${v.id}: ${v.nodes[0].html}`), [], `${state} ${size}`);
    const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= width, `${state} ${size}: the page is ${content} px wide, the window ${width} px`);
  }
  if (before) await page.setViewportSize(before);
}
