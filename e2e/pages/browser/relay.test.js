/**
 * Tests calls through a relay: what ends the path, and how the picture returns.
 * The relay is a process of its own, so that it can end with or without the server.
 */

import assert from 'node:assert/strict';
import {after, afterEach, before, beforeEach, test} from 'node:test';
import {Device, isRelayed, launch, pressStart, remoteUfrag, sharedLink, skip, useRelaysOnly, waitForPicture, waitForRestart, waitForTitle} from '../lib/browser.js';
import {Relay} from '../lib/relay.js';
import {Server} from '../lib/server.js';

/** @type {Relay} */
let relay;
/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {Server} */
let server;
/** @type {Device} */
let ann;
/** @type {Device} */
let ben;

before(async () => {
  if (skip) return;
  relay = new Relay();
  await relay.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await relay?.remove();
});

/** @param {'udp'|'tcp'} transport */
async function startServer(transport) {
  server = new Server(relay.serverFlags(transport));
  await server.start();
  [ann, ben] = await Promise.all([Device.create(browser, server.origin), Device.create(browser, server.origin)]);
  for (const device of [ann, ben]) {
    device.allowError(/Failed to load resource/); // requests during a restart of the server
    await device.context.addInitScript(useRelaysOnly);
  }
}

beforeEach(async () => {
  if (!skip) await relay.start();
});

afterEach(async () => {
  await ann?.close();
  await ben?.close();
  await server?.remove();
});

/** Connects a camera of Ann to a screen of Ben. */
async function startCall() {
  const screen = await ben.open('/receive.html');
  const camera = await ann.open(await sharedLink(screen));
  await waitForTitle(screen, 'The camera page is open');
  await pressStart(camera);
  await waitForPicture(screen);
  return {camera, screen};
}

test('each side asks for the servers with its credentials before the call', {skip}, async () => {
  await startServer('udp');
  /** @type {Set<string>} */
  const names = new Set();
  for (const device of [ann, ben]) {
    device.context.on('request', request => {
      if (new URL(request.url()).pathname === '/ice') names.add(atob((request.headers().authorization ?? '').slice('Basic '.length)).split(':')[0]);
    });
  }
  const {camera, screen} = await startCall();
  const room = new URL(camera.url()).hash.slice(1).split('.')[0];
  assert.deepEqual([...names].sort(), [`${room}-receive`, `${room}-send`]);
  for (const page of [camera, screen]) assert.equal(await page.evaluate(isRelayed), true);
});

for (const [transport, signal] of /** @type {const} */ ([['udp', 'SIGTERM'], ['udp', 'SIGKILL'], ['tcp', 'SIGTERM']])) {
  test(`the server and its relay restart after ${signal} during a call over ${transport}: the picture returns`, {skip}, async t => {
    await startServer(transport);
    const {camera, screen} = await startCall();
    const ufrag = await screen.evaluate(remoteUfrag);
    await Promise.all([server.stop(signal), relay.stop()]);
    await relay.start();
    await server.start();
    const started = Date.now();
    await waitForRestart(screen, ufrag);
    await waitForPicture(screen);
    t.diagnostic(`the picture moves again ${Date.now() - started} ms after the restart`);
    await waitForTitle(screen, 'Connected');
    await waitForTitle(camera, 'Connected');
  });
}

for (const transport of /** @type {const} */ (['udp', 'tcp'])) {
  test(`the relay loses its allocations during a call over ${transport}: the picture returns`, {skip}, async t => {
    await startServer(transport);
    const {screen} = await startCall();
    const ufrag = await screen.evaluate(remoteUfrag);
    await relay.stop();
    await relay.start();
    const started = Date.now();
    await waitForRestart(screen, ufrag);
    await waitForPicture(screen);
    t.diagnostic(`the picture moves again ${Date.now() - started} ms after the restart`);
  });
}

test('only the mailbox restarts: ICE restarts, and the call continues', {skip}, async () => {
  await startServer('udp');
  const {screen} = await startCall();
  const ufrag = await screen.evaluate(remoteUfrag);
  await server.stop();
  await waitForPicture(screen);
  await server.start();
  await waitForRestart(screen, ufrag);
  await waitForPicture(screen);
});

test('a camera that sends nothing is not a dead relay', {skip}, async () => {
  await startServer('udp');
  const {camera, screen} = await startCall();
  const ufrag = await screen.evaluate(remoteUfrag);
  await camera.evaluate(() => Promise.all(/** @type {any} */ (window).connections.at(-1).getSenders()
    .map((/** @type {RTCRtpSender} */ sender) => sender.replaceTrack(null))));
  await new Promise(resolve => setTimeout(resolve, 15_000)); // no event marks the absence of a restart
  assert.equal(await screen.evaluate(remoteUfrag), ufrag);
  await waitForTitle(screen, 'Connected');
});
