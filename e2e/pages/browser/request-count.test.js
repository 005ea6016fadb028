/** Limits the number of requests per call. The figures in docs/security.md depend on it. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {waitForBothPictures} from '../lib/calls.js';
import {joinByCode} from '../lib/codes.js';
import {Server} from '../lib/server.js';

/** Maximum requests of both devices, pages and short codes included, until the pictures are shown. */
const maxRequests = 79;
/** The manifest of each page, which a browser without a window does not request. */
const unseenFiles = 1;

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/** Runs in the page, before its scripts: the last transports that it can use. */
const blocked = {
  'WebSocket': () => {},
  'event stream': () => void Reflect.deleteProperty(window, 'WebSocket'),
  'polls': () => {
    Reflect.deleteProperty(window, 'WebSocket');
    const {fetch} = window;
    window.fetch = async (url, options) => {
      if (new Headers(options?.headers).has('Accept')) throw new TypeError('polls only');
      return fetch(url, options);
    };
  },
};

for (const [transport, block] of Object.entries(blocked)) {
  test(`a one-way call takes fewer than 80 requests, ${transport}`, {skip}, async t => {
    const [ann, ben] = await twoDevices();
    for (const device of [ann, ben]) await device.context.addInitScript(block);
    const counts = countRequests([ann, ben]);
    const screen = await ann.open('/receive.html');
    await screen.locator('.code-text', {hasText: /\w{3} \w{3}/}).waitFor(); // the code is a mailbox more
    const camera = await ben.open(await sharedLink(screen));
    await waitForTitle(camera, 'The other screen is waiting');
    await pressStart(camera);
    await waitForPicture(screen);
    checkCounts(t, counts);
    await closeAll([ann, ben]);
  });

  test(`a two-way call takes fewer than 80 requests, ${transport}`, {skip}, async t => {
    const [ann, ben] = await twoDevices({permissions: ['camera', 'microphone']});
    for (const device of [ann, ben]) await device.context.addInitScript(block);
    const counts = countRequests([ann, ben]);
    const first = await ann.open('/call.html');
    await first.locator('.code-text', {hasText: /\w{3} \w{3}/}).waitFor();
    const second = await ben.open(await sharedLink(first));
    await waitForBothPictures(first, second);
    checkCounts(t, counts);
    await closeAll([ann, ben]);
  });
}

test('a two-way call by short code, from the start page, takes fewer than 80 requests', {skip}, async t => {
  const [ann, ben] = await twoDevices({permissions: ['camera', 'microphone']});
  const counts = countRequests([ann, ben]);
  const [first, second] = [await ann.open('/'), await ben.open('/')];
  await first.getByRole('link', {name: 'Start a call'}).click();
  await first.waitForURL(/call\.html#/);
  await joinByCode(first, second);
  await second.waitForURL(/call\.html#/);
  await waitForBothPictures(first, second);
  checkCounts(t, counts);
  await closeAll([ann, ben]);
});

/**
 * Returns two devices with empty caches.
 * @param {import('playwright-core').BrowserContextOptions} [options]
 */
async function twoDevices(options) {
  return Promise.all([Device.create(browser, server.origin, options), Device.create(browser, server.origin, options)]);
}

/** @param {Device[]} devices */
const closeAll = devices => Promise.all(devices.map(device => device.close()));

/** Counts the requests of devices by their purpose. @param {Device[]} devices */
function countRequests(devices) {
  const counts = {files: 0, messages: 0, polls: 0, acks: 0, webSockets: 0, releases: 0, codes: 0, others: 0};
  for (const device of devices) {
    device.context.on('page', page => page.on('websocket', () => counts.webSockets++));
    device.context.on('request', request => {
      counts[kindOf(request)]++;
      if (request.isNavigationRequest()) counts.files += unseenFiles;
    });
  }
  return counts;
}

/**
 * @param {import('playwright-core').Request} request
 * @returns {'files'|'messages'|'polls'|'acks'|'releases'|'codes'|'others'} codes: the mailboxes of short codes
 */
function kindOf(request) {
  const {pathname} = new URL(request.url());
  if (/^\/(ice|addresses)$/.test(pathname)) return 'others';
  if (pathname === '/inbox/ack') return 'acks';
  if (pathname !== '/inbox') return 'files';
  const [name] = atob((request.headers().authorization ?? '').replace('Basic ', '')).split(':');
  if (/^(code|join)-/.test(name)) return 'codes';
  switch (request.method()) {
    case 'POST': return 'messages';
    case 'DELETE': return 'releases';
    default: return 'polls';
  }
}

/**
 * @param {import('node:test').TestContext} t
 * @param {ReturnType<typeof countRequests>} counts
 */
function checkCounts(t, counts) {
  const total = Object.values(counts).reduce((a, b) => a + b);
  t.diagnostic(`${total} requests: ${JSON.stringify(counts)}`);
  assert.ok(counts.messages + counts.webSockets > 0 && counts.polls > 0, 'a call goes through the mailboxes');
  assert.ok(total <= maxRequests, `got ${total} requests per call, want at most ${maxRequests}`);
}
