/**
 * How the pages look and how accessible they are, in their main states, by day
 * and by night, on a desk and on a phone. The pictures are left in shots/.
 */

import assert from 'node:assert/strict';
import {mkdirSync, readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @typedef {import('playwright-core').Page} Page */

const shots = fileURLToPath(new URL('../shots/', import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const sizes = {desk: {width: 1280, height: 800}, phone: {width: 390, height: 844}};

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (skip) return;
  mkdirSync(shots, {recursive: true});
  server = new Server();
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
  test(colorScheme, {skip}, async () => {
    const device = await Device.make(browser, server.origin, {colorScheme});
    /** @param {Page} page @param {string} state */
    const look = (page, state) => lookAt(page, state, colorScheme);
    await look(await device.open('/'), 'index');
    await lookAtCall(device, look);
    await look(await device.open('/send.html#torn'), 'bad-link');
    device.expect(/404/);
    await look(await device.open('/nothing'), 'lost');
    await device.close();
  });
}

/**
 * @param {Device} device
 * @param {(page: Page, state: string) => Promise<void>} look
 */
async function lookAtCall(device, look) {
  const screen = await device.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  await look(screen, 'receive-waiting');
  const camera = await device.open(await sharedLink(screen));
  await waitForTitle(camera, 'The other screen is waiting');
  await look(camera, 'send-ready');
  await pressStart(camera);
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
  await look(camera, 'send-connected');
  await screen.bringToFront();
  await look(screen, 'receive-connected');
}

/**
 * @param {Page} page
 * @param {string} state
 * @param {string} scheme
 */
async function lookAt(page, state, scheme) {
  for (const [size, viewport] of Object.entries(sizes)) {
    const name = `${state}-${size}-${scheme}`;
    await page.setViewportSize(viewport);
    await page.screenshot({path: `${shots}${name}.png`});
    await assertAccessible(page, name);
    await assertFits(page, name);
  }
}

/**
 * @param {Page} page
 * @param {string} name
 */
async function assertAccessible(page, name) {
  await page.evaluate(axe); // past the policy, which stops scripts that the page itself would load
  const {violations} = await page.evaluate(() => /** @type {any} */ (window).axe.run());
  const grave = violations
    .filter((/** @type {any} */ v) => ['serious', 'critical'].includes(v.impact))
    .map((/** @type {any} */ v) => `${v.id}: ${v.nodes.map((/** @type {any} */ n) => n.html).join(' ')}`);
  assert.deepEqual(grave, [], `${name}: accessibility`);
}

/**
 * Nothing may make a person scroll sideways.
 * @param {Page} page
 * @param {string} name
 */
async function assertFits(page, name) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${name}: the page is ${content} wide, the window ${window}`);
}
