/** Tests complete calls: the order of the pages, reloads, and repeated calls. */

import assert from 'node:assert/strict';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** A TURN server that does not respond. Calls must connect without it. */
const iceServers = [{urls: ['turn:127.0.0.1:9?transport=udp'], username: 'someone', credential: 'something'}];

/** @type {string} */
let directory;
/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (skip) return;
  directory = mkdtempSync(join(tmpdir(), 'inbox-ice-'));
  const file = join(directory, 'ice.json');
  writeFileSync(file, JSON.stringify(iceServers));
  server = new Server(['-turn', 'off', '-ice-servers', file]);
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
  if (directory) rmSync(directory, {recursive: true});
});

/** Creates the devices of two users. */
async function pair() {
  return Promise.all([Device.create(browser, server.origin), Device.create(browser, server.origin)]);
}

test('the screen opens first', {skip}, async () => {
  const [ann, ben] = await pair();
  const screen = await ann.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  const camera = await ben.open(await sharedLink(screen));
  await waitForTitle(camera, 'The other screen is waiting');
  await waitForTitle(screen, 'The camera page is open');
  await pressStart(camera);
  await waitForPicture(screen);
  await waitForTitle(screen, 'Connected');
  await waitForTitle(camera, 'Connected');
  for (const page of [screen, camera]) {
    const used = await page.evaluate(() => /** @type {any} */ (window).connections.at(-1).getConfiguration().iceServers);
    assert.deepEqual(used, iceServers, 'ICE servers of the connection');
  }
  await ann.close();
  await waitForTitle(camera, 'Waiting for the other screen');
  await ben.close();
});

test('the camera starts before the screen opens', {skip}, async () => {
  const [ann, ben] = await pair();
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  await waitForTitle(camera, 'Waiting for the other screen');
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
  await ann.close();
  await waitForTitle(screen, 'Waiting for the camera');
  await ben.close();
});

test('each side reloads during a call', {skip}, async () => {
  const [ann, ben] = await pair();
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);

  await screen.reload();
  await waitForPicture(screen); // without any action by the user

  await camera.reload();
  await waitForTitle(screen, 'The camera page is open');
  await pressStart(camera);
  await waitForPicture(screen);
  await ann.close();
  await ben.close();
});

test('five consecutive calls in one room', {skip}, async () => {
  const [ann, ben] = await pair();
  const screen = await ann.open('/receive.html');
  const camera = await ben.open(await sharedLink(screen));
  for (let call = 0; call < 5; call++) {
    await pressStart(camera);
    await waitForPicture(screen);
    await camera.getByRole('button', {name: 'Stop'}).click();
    await waitForTitle(screen, 'The camera page is open');
  }
  await ann.close();
  await ben.close();
});

test('the server sees no signal of a call', {skip}, async () => {
  const [ann, ben] = await pair();
  /** @type {string[]} */
  const bodies = [];
  for (const device of [ann, ben]) {
    device.context.on('request', request => {
      if (request.method() === 'POST') bodies.push(request.postData() ?? '');
    });
  }
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);
  const secret = screen.url().slice(-22);
  const signals = bodies.filter(body => JSON.parse(body).kind === 'signal');
  assert.ok(signals.length >= 2, `got ${signals.length} signals`);
  for (const body of signals) assert.deepEqual(Object.keys(JSON.parse(body).signal), ['call', 'sealed']);
  for (const body of bodies) assert.ok(!/fingerprint|candidate:|Chrome/.test(body) && !body.includes(secret), body);
  await ann.close();
  await ben.close();
});
