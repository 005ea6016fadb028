/** Tests which page of a room is active: several devices, tabs, reloads, and a device that was offline. */

import assert from 'node:assert/strict';
import {after, afterEach, before, beforeEach, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @typedef {import('../lib/browser.js').Page} Page */

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;
/** The profiles of three devices. @type {Device[]} */
let devices = [];

/** The console errors of Chromium when a server is unreachable, and when another device has the mailbox. */
const unreachable = /Failed to load resource: net::ERR_|WebSocket connection .* failed: .*net::ERR_/;
const otherReceiver = /status of 409/;

before(async () => {
  if (skip) return;
  server = new Server(['-burst', '5000']); // for forty reloads
  await server.start();
  browser = await launch();
});

beforeEach(async () => {
  if (skip) return;
  devices = await Promise.all([1, 2, 3].map(() => Device.create(browser, server.origin)));
  // A page asks once if it was superseded as its WebSocket opened, or when it was offline.
  for (const device of devices) device.allowError(otherReceiver);
});

afterEach(async () => {
  for (const device of devices) await device.close();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/** Connects a camera of the first device to a screen of the second one. */
async function startCall() {
  const [ann, ben] = devices;
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
  return {camera, screen};
}

test('a device that was offline leaves the room to one that was opened meanwhile, and asks', {skip}, async () => {
  const [, ben, cleo] = devices;
  ben.allowError(unreachable);
  const {camera, screen: first} = await startCall();
  await ben.context.setOffline(true);
  const second = await cleo.open(first.url());
  await waitForPicture(second);
  await ben.context.setOffline(false);
  await waitForTitle(first, 'Opened on another device');
  await waitForPicture(second);
  await waitForTitle(camera, 'Connected');
  await camera.getByText(/Chrome on Linux.* shows your camera\./).waitFor();

  await first.getByRole('button', {name: 'Use this device'}).click();
  await waitForPicture(first);
  await waitForTitle(second, 'Opened on another device');
  await second.getByRole('button', {name: 'Use this device'}).waitFor();
});

test('a camera that was offline does not end the call of another one', {skip}, async () => {
  const [ann, , cleo] = devices;
  ann.allowError(unreachable);
  const {camera: first, screen} = await startCall();
  await ann.context.setOffline(true);
  const second = await cleo.open(first.url());
  await pressStart(second);
  await waitForTitle(second, 'Connected');
  await waitForPicture(screen);
  await ann.context.setOffline(false);
  await waitForTitle(first, 'Opened on another device');
  await waitForPicture(screen);
  await waitForTitle(second, 'Connected');
});

test('a device that was offline alone returns without a question', {skip}, async () => {
  const [, ben] = devices;
  ben.allowError(unreachable);
  const {screen} = await startCall();
  for (let time = 0; time < 3; time++) {
    await ben.context.setOffline(true);
    await screen.waitForFunction(() => !navigator.onLine);
    await ben.context.setOffline(false);
  }
  await screen.reload();
  await waitForPicture(screen);
  await ben.context.setOffline(true);
  await screen.waitForFunction(() => !navigator.onLine);
  await ben.context.setOffline(false);
  await waitForPicture(screen);
  await waitForTitle(screen, 'Connected');
});

test('forty reloads, also in quick succession', {skip}, async () => {
  const [, ben] = devices;
  ben.allowError(/ERR_(ABORTED|NETWORK_CHANGED)/);
  const {camera, screen} = await startCall();
  for (let time = 0; time < 40; time++) {
    await screen.evaluate(() => location.reload()).catch(() => {}); // the page is gone before it answers
    if (time % 4 === 3) await waitForTitle(screen, 'Connected');
  }
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
});

test('back and forward, and a link to another room', {skip}, async () => {
  const {camera, screen} = await startCall();
  await screen.getByRole('link', {name: 'inbox'}).click();
  await screen.getByRole('link', {name: /start a call/i}).first().waitFor();
  await waitForTitle(camera, 'Waiting for the other screen');
  await screen.goBack();
  await waitForTitle(screen, 'Connected');
  await screen.goForward();
  await screen.goBack();
  await waitForTitle(screen, 'Connected');
  await waitForPicture(screen);
  await screen.evaluate(() => { location.hash = '#AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB'; });
  await waitForTitle(screen, 'Waiting for the camera');
  await waitForTitle(camera, 'Waiting for the other screen');
  await screen.goBack();
  await waitForTitle(screen, 'Connected');
  await waitForPicture(screen);
});

test('a signal that was altered on the way is refused, and the page says so', {skip}, async () => {
  const [ann, ben] = devices;
  await ann.context.addInitScript(() => void Reflect.deleteProperty(window, 'WebSocket')); // its frames cannot be altered here
  const alter = (/** @type {string} */ body) => body.replace(/"box":"..../, '"box":"AAAA');
  await ann.context.route('**/inbox?to=*', route => route.continue({postData: alter(route.request().postData() ?? '')}));
  const camera = await ann.open('/send.html');
  const screen = await ben.open(await sharedLink(camera));
  await pressStart(camera);
  await waitForTitle(screen, 'A message of the other device cannot be decrypted');
  await ann.context.unroute('**/inbox?to=*');
  await camera.reload();
  await pressStart(camera);
  await waitForPicture(screen);
});

/** Runs in the page: returns the slot that it has in its room. */
function slotOf() {
  return sessionStorage.getItem(`slot ${location.hash.slice(1, 23)}`);
}

/** Waits until each page has a slot, and returns them. @param {Page[]} pages */
async function slotsOf(pages) {
  for (const page of pages) await page.waitForFunction(() => Object.keys(sessionStorage).some(key => key.startsWith('slot ')));
  return Promise.all(pages.map(page => page.evaluate(slotOf)));
}

test('two pages that open a call at the same moment get different sides, and keep them', {skip}, async () => {
  const link = `/call.html#${'A'.repeat(22)}.${'B'.repeat(22)}`;
  const pages = await Promise.all(devices.slice(0, 2).map(device => device.open(link)));
  const slots = await slotsOf(pages);
  assert.deepEqual([...slots].sort(), ['a', 'b']);
  await Promise.all(pages.map(page => page.reload()));
  assert.deepEqual(await slotsOf(pages), slots);
  await pages[0].close();
  const third = await devices[2].open(link);
  assert.deepEqual(await slotsOf([third]), [slots[0]], 'a page that was closed leaves its side at once');
});

test('a page that closes while it looks for a side leaves it free', {skip}, async () => {
  const [ann, ben] = devices;
  const link = `/call.html#${'C'.repeat(22)}.${'D'.repeat(22)}`;
  await ann.context.addInitScript(() => {
    const {fetch} = window;
    window.fetch = async (url, options) => {
      const response = await fetch(url, options);
      return options?.method === 'GET' ? new Promise(() => {}) : response; // the server has answered, and the page does not know
    };
  });
  const taken = ann.context.waitForEvent('response', isPoll);
  const page = await ann.open(link);
  assert.equal((await taken).status(), 204);
  const released = ann.context.waitForEvent('response', response => response.request().method() === 'DELETE');
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide'))); // as the page closes
  assert.equal((await released).status(), 204);
  await page.close();
  const other = await ben.open(link);
  assert.deepEqual(await slotsOf([other]), ['b'], 'the side that a page tries first');
});

/** @param {import('playwright-core').Response} response */
function isPoll(response) {
  return response.request().method() === 'GET' && new URL(response.url()).pathname === '/inbox';
}

test('a duplicate of a waiting call page leaves the other side to another device', {skip}, async () => {
  const [ann, ben] = devices;
  const original = await ann.open('/call.html');
  await waitForTitle(original, 'Waiting for the other device');
  const opened = ann.context.waitForEvent('page');
  await original.evaluate(() => void window.open(location.href)); // with a copy of sessionStorage, as a duplicated tab
  const duplicate = await opened;
  await waitForTitle(duplicate, 'Waiting for the other device');
  await waitForTitle(original, 'Opened in another tab');
  const other = await ben.open(duplicate.url());
  await Promise.all([waitForPicture(duplicate), waitForPicture(other)]);
  await waitForTitle(original, 'Opened in another tab');
});

test('two devices that have remembered the same side of a call see each other', {skip}, async () => {
  const [ann, ben] = devices;
  const made = await ann.open('/call.html');
  const {origin, hash} = new URL(made.url());
  await made.close();
  const [id, secret] = hash.slice(1).split('.');
  const rooms = JSON.stringify([{id, secret, page: 'call', name: 'Kitchen', used: 1, slot: 'a'}]);
  const pages = [];
  for (const device of [ann, ben]) {
    const page = await device.open('/robots.txt');
    await page.evaluate(kept => localStorage.setItem('inbox.rooms', kept), rooms);
    pages.push(page);
  }
  await Promise.all(pages.map(page => page.goto(`${origin}/call.html${hash}`)));
  await Promise.all(pages.map(page => waitForTitle(page, 'Connected'))); // one of them has loaded again
  await Promise.all(pages.map(page => waitForPicture(page)));
});

test('a device that was replaced without notice closes its page, and the call goes on', {skip}, async () => {
  const [ann, ben, cleo] = devices;
  await ann.context.addInitScript(() => {
    const {fetch} = window;
    Reflect.deleteProperty(window, 'WebSocket');
    window.fetch = async (url, options) => {
      if (new Headers(options?.headers).has('Accept')) throw new TypeError('polls only');
      const response = await fetch(url, options);
      if ('dead' in window && options?.method === 'GET') await new Promise(() => {}); // the answer is lost
      return response;
    };
  });
  const stale = await ann.open('/call.html');
  await waitForTitle(stale, 'Waiting for the other device');
  const second = await ben.open(stale.url());
  await waitForPicture(second);
  await stale.evaluate(() => void Object.assign(window, {dead: true}));
  const third = await cleo.open(stale.url());
  await third.getByRole('button', {name: 'Take the place of the first device'}).click();
  await waitForPicture(third);
  const refused = ann.context.waitForEvent('response', response => response.request().method() === 'DELETE');
  await stale.evaluate(() => dispatchEvent(new PageTransitionEvent('pagehide'))); // as the page closes
  assert.equal((await refused).status(), 409);
  await waitForPicture(third);
  await waitForTitle(second, 'Connected');
});
