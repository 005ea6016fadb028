/** Tests that the pages say why a call does not connect. Networks without a path are in e2e/turn. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {assertInView, waitForBothPictures} from '../lib/calls.js';
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

/** Runs in the page: its connections get no candidates of the remote peer until openPath. */
function withoutPath() {
  const win = /** @type {any} */ (window);
  const {addIceCandidate} = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.addIceCandidate = function (/** @type {any[]} */ ...args) {
    return win.pathIsOpen ? Reflect.apply(addIceCandidate, this, args) : Promise.resolve();
  };
}

/** @param {Page} page */
async function openPath(page) {
  await page.evaluate(() => { /** @type {any} */ (window).pathIsOpen = true; });
}

/**
 * Opens a page, and another with its link, that have no path to each other.
 * @param {string} page
 * @param {import('playwright-core').BrowserContextOptions[]} options of the two devices
 */
async function openWithoutPath(page, [one, two] = [{}, {}]) {
  const devices = [await Device.create(browser, server.origin, one), await Device.create(browser, server.origin, two)];
  for (const {context} of devices) await context.addInitScript(withoutPath);
  const first = await devices[0].open(page);
  return {devices, first, second: await devices[1].open(await sharedLink(first))};
}

/** Waits until a page says why, with its actions. @param {Page} page */
async function waitForReason(page) {
  await waitForTitle(page, 'These networks do not connect directly', 60_000);
  const hint = await page.locator('.status-hint').textContent();
  assert.match(hint ?? '', /same Wi-Fi.*Tried: a direct path\. The server does not offer STUN or a relay \(TURN\)\. This page keeps trying\.$/);
  await page.getByRole('link', {name: 'Test this device'}).waitFor();
}

/** @param {Page} page */
async function waitForNoActions(page) {
  await page.locator('.status-actions .button').first().waitFor({state: 'hidden'});
}

test('camera and screen say why and offer the self-test, until the camera stops; a later call connects', {skip}, async () => {
  const {devices, first: screen, second: camera} = await openWithoutPath('/receive.html');
  await waitForTitle(camera, 'The other screen is waiting');
  await pressStart(camera);
  for (const page of [camera, screen]) await waitForReason(page);
  const popup = screen.waitForEvent('popup');
  await screen.getByRole('link', {name: 'Test this device'}).click();
  await (await popup).getByRole('heading', {name: 'Test this device'}).waitFor();
  await camera.getByRole('button', {name: 'Stop', exact: true}).click();
  await waitForTitle(screen, 'The camera page is open');
  for (const page of [camera, screen]) {
    await waitForNoActions(page);
    await openPath(page);
  }
  await pressStart(camera);
  await waitForPicture(screen, 60_000);
  for (const device of devices) await device.close();
});

test('both sides of a two-way call say why, also on a phone held sideways, and connect after a new try', {skip}, async () => {
  const {devices, first, second} = await openWithoutPath('/call.html', [{viewport: {width: 844, height: 390}}, {viewport: {width: 390, height: 844}}]);
  for (const page of [first, second]) await waitForReason(page);
  await assertInView(first, ['.status', '#hang-up']);
  for (const page of [first, second]) await openPath(page);
  await first.getByRole('button', {name: 'Try again now'}).click();
  await waitForBothPictures(first, second);
  for (const page of [first, second]) await waitForNoActions(page);
  for (const device of devices) await device.close();
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
