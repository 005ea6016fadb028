/** Tests recovery: server restarts, network loss, duplicate tabs and ICE restarts. */

import assert from 'node:assert/strict';
import {after, afterEach, before, beforeEach, test} from 'node:test';
import {Device, launch, pressStart, remoteUfrag, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {Device} */
let ann;
/** @type {Device} */
let ben;

/** The console error of Chromium when a server is unreachable. */
const unreachable = /Failed to load resource: net::ERR_|WebSocket connection .* failed: .*net::ERR_/;

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  browser = await launch();
});

beforeEach(async () => {
  if (skip) return;
  ann = await Device.create(browser, server.origin);
  ben = await Device.create(browser, server.origin);
});

afterEach(async () => {
  await ann?.close();
  await ben?.close();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/** Connects a camera of Ann to a screen of Ben. */
async function startCall() {
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
  return {camera, screen};
}

test('the server is killed during a call and loses its state', {skip}, async () => {
  ann.allowError(unreachable);
  ben.allowError(unreachable);
  const {camera, screen} = await startCall();
  await server.stop('SIGKILL');
  await waitForPicture(screen); // the call does not need the server
  await waitForTitle(screen, 'Connected');
  await server.start();
  await screen.reload();
  await waitForPicture(screen);
  await camera.reload();
  await pressStart(camera);
  await waitForPicture(screen);
});

test('the server stops gracefully while the screen waits, and starts again', {skip}, async () => {
  ann.allowError(unreachable);
  ann.allowError(/status of 503/); // the response of the stopping server to a waiting POST
  const screen = await ann.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  await server.stop();
  await waitForTitle(screen, 'The server cannot be reached');
  await server.start();
  await waitForTitle(screen, 'Waiting for the camera');
  const camera = await ben.open(await sharedLink(screen));
  await pressStart(camera);
  await waitForPicture(screen);
});

test('a device loses its network while it waits and during a call', {skip}, async () => {
  ann.allowError(unreachable);
  const screen = await ann.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  await ann.context.setOffline(true);
  await waitForTitle(screen, 'This device is offline');
  await ann.context.setOffline(false);
  await waitForTitle(screen, 'Waiting for the camera');
  const camera = await ben.open(await sharedLink(screen));
  await pressStart(camera);
  await waitForPicture(screen);
  await ann.context.setOffline(true);
  await waitForPicture(screen); // the media does not pass through the server
  await ann.context.setOffline(false);
  await waitForTitle(screen, 'Connected');
});

test('both peers restart ICE at the same time', {skip}, async () => {
  const {camera, screen} = await startCall();
  const first = await screen.evaluate(remoteUfrag);
  const restart = () => /** @type {any} */ (window).connections.at(-1).restartIce();
  await Promise.all([camera.evaluate(restart), screen.evaluate(restart)]);
  const deadline = Date.now() + 60_000;
  while (await screen.evaluate(remoteUfrag) === first) assert.ok(Date.now() < deadline, 'timeout: ICE was not restarted');
  await waitForPicture(screen);
  for (const page of [camera, screen]) {
    await page.waitForFunction(() => /** @type {any} */ (window).connections.at(-1).signalingState === 'stable');
    assert.equal(await page.evaluate(() => /** @type {any} */ (window).connections.length), 1, 'peer connections');
  }
});

test('the user chooses another camera during a call', {skip}, async () => {
  const {camera, screen} = await startCall();
  await camera.getByLabel('Microphone', {exact: true}).selectOption('none');
  await camera.getByLabel('Camera', {exact: true}).selectOption({index: 0});
  await waitForPicture(screen);
  await camera.getByLabel('Microphone', {exact: true}).selectOption({index: 0});
  await waitForTitle(camera, 'Connected');
});

test('the same link in two tabs: the newest is active, and the tabs do not compete', {skip}, async () => {
  for (const device of [ann, ben]) device.allowError(/status of 409/); // a page asks once if it was superseded as its WebSocket opened
  const {camera, screen} = await startCall();
  const second = await ben.open(screen.url());
  await waitForTitle(screen, 'Opened in another tab');
  await waitForPicture(second);
  const requests = await countRequests(ben, 2_000);
  assert.ok(requests < 10, `the two tabs made ${requests} requests in 2 s`);

  await screen.getByRole('button', {name: 'Use this tab'}).click();
  await waitForTitle(second, 'Opened in another tab');
  await waitForPicture(screen);

  const other = await ann.open(camera.url());
  await waitForTitle(camera, 'Opened in another tab');
  await waitForTitle(screen, 'The camera page is open');
  await pressStart(other);
  await waitForPicture(screen);
  await pressStart(camera); // pressing start selects this tab
  await waitForTitle(other, 'Opened in another tab');
  await waitForPicture(screen);
});

/**
 * @param {Device} device
 * @param {number} milliseconds
 */
async function countRequests(device, milliseconds) {
  let count = 0;
  const add = () => count++;
  device.context.on('request', add);
  await new Promise(resolve => setTimeout(resolve, milliseconds)); // no event marks the absence of requests
  device.context.off('request', add);
  return count;
}
