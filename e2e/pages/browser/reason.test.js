/** Tests that the pages say why a call does not connect. Networks without a path are in e2e/turn. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @typedef {import('playwright-core').Page} Page */

/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {Server} */
let server;

before(async () => {
  if (skip) return;
  browser = await launch();
  server = new Server(['-turn', 'off']);
  await server.start();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/** Runs in the page: connections get no candidates of the remote peer while localStorage says so. */
function withoutPaths() {
  const {addIceCandidate} = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.addIceCandidate = function (/** @type {any[]} */ ...args) {
    if (localStorage.getItem('path') === 'none') return Promise.resolve();
    return Reflect.apply(addIceCandidate, this, args);
  };
}

/** @returns {Promise<{device: Device, camera: Page, screen: Page}>} a call that has no path */
async function callWithoutPath() {
  const device = await Device.create(browser, server.origin);
  await device.context.addInitScript(withoutPaths);
  const screen = await device.open('/receive.html');
  await screen.evaluate(() => localStorage.setItem('path', 'none'));
  const camera = await device.open(await sharedLink(screen));
  await waitForTitle(camera, 'The other screen is waiting');
  await pressStart(camera);
  return {device, camera, screen};
}

test('both pages say why, offer the self-test and a new try, and connect as soon as there is a path', {skip}, async () => {
  const {device, camera, screen} = await callWithoutPath();
  for (const page of [camera, screen]) {
    await waitForTitle(page, 'These networks do not connect directly', 60_000);
    const hint = await page.locator('.status-hint').textContent();
    assert.match(hint ?? '', /same Wi-Fi.*Tried: a direct path\. The server does not offer STUN or a relay \(TURN\)\. This page keeps trying\.$/);
  }
  const popup = screen.waitForEvent('popup');
  await screen.getByRole('link', {name: 'Test this device'}).click();
  const selfTest = await popup;
  await selfTest.getByRole('heading', {name: 'Test this device'}).waitFor();
  await selfTest.close();
  await camera.evaluate(() => localStorage.setItem('path', 'open'));
  await camera.getByRole('button', {name: 'Try again now'}).click();
  await waitForPicture(screen, 60_000);
  for (const page of [camera, screen]) {
    await waitForTitle(page, 'Connected');
    assert.equal(await page.locator('.status-actions').isVisible(), false);
  }
  await device.close();
});

test('the reason ends when the camera stops', {skip}, async () => {
  const {device, camera, screen} = await callWithoutPath();
  await waitForTitle(screen, 'These networks do not connect directly', 60_000);
  await camera.getByRole('button', {name: 'Stop'}).click();
  await waitForTitle(camera, 'The other screen is waiting');
  await waitForTitle(screen, 'The camera page is open');
  await device.close();
});

test('an error of the server offers the self-test', {skip}, async () => {
  const own = new Server();
  await own.start();
  try {
    const device = await Device.create(browser, own.origin);
    device.allowError(/net::ERR_|status of 503/);
    const screen = await device.open('/receive.html');
    await waitForTitle(screen, 'Waiting for the camera');
    await own.stop();
    await waitForTitle(screen, 'The server cannot be reached', 60_000);
    await screen.locator('.status-actions').getByRole('link', {name: 'Test this device'}).waitFor();
    await device.close();
  } finally {
    await own.remove();
  }
});
