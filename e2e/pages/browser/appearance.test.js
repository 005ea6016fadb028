/**
 * Checks the accessibility and layout of the pages in their main states, in both
 * colour schemes and on two screen sizes. The screenshots are kept in shots/.
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
    const device = await Device.create(browser, server.origin, {colorScheme});
    /** @param {Page} page @param {string} state */
    const check = (page, state) => checkState(page, state, colorScheme);
    await check(await device.open('/'), 'index');
    await checkCall(device, check);
    await checkTwoWayCall(device, check);
    await check(await device.open('/send.html#incomplete'), 'bad-link');
    device.allowError(/404/);
    await check(await device.open('/nothing'), 'not-found');
    await device.close();
  });
}

/**
 * Checks both pages before and during a call.
 * @param {Device} device
 * @param {(page: Page, state: string) => Promise<void>} check
 */
async function checkCall(device, check) {
  const screen = await device.open('/receive.html');
  await waitForTitle(screen, 'Waiting for the camera');
  await check(screen, 'receive-waiting');
  const camera = await device.open(await sharedLink(screen));
  await waitForTitle(camera, 'The other screen is waiting');
  await check(camera, 'send-ready');
  await pressStart(camera);
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
  await check(camera, 'send-connected');
  await screen.bringToFront();
  await check(screen, 'receive-connected');
}

/**
 * Checks the call page before, in and after a call.
 * @param {Device} device
 * @param {(page: Page, state: string) => Promise<void>} check
 */
async function checkTwoWayCall(device, check) {
  const first = await device.open('/call.html');
  await waitForTitle(first, 'Waiting for the other device');
  await check(first, 'call-waiting');
  const second = await device.open(await sharedLink(first));
  await waitForTitle(second, 'Connected');
  await second.getByRole('button', {name: 'Camera', exact: true}).click();
  await first.bringToFront();
  await waitForTitle(first, 'Connected');
  await check(first, 'call-camera-off');
  await first.getByRole('button', {name: 'More', exact: true}).click();
  await first.getByText('direct', {exact: true}).waitFor();
  await check(first, 'call-panel');
  await first.getByRole('button', {name: 'Hang up', exact: true}).click();
  await waitForTitle(first, 'The call has ended');
  await check(first, 'call-ended');
  await Promise.all([first.close(), second.close()]);
}

/**
 * Checks a page in both sizes.
 * @param {Page} page
 * @param {string} state
 * @param {string} scheme
 */
async function checkState(page, state, scheme) {
  for (const [size, viewport] of Object.entries(sizes)) {
    const name = `${state}-${size}-${scheme}`;
    await page.setViewportSize(viewport);
    await page.screenshot({path: `${shots}${name}.png`});
    await assertAccessible(page, name);
    await assertFits(page, name);
  }
}

/**
 * Fails on serious and critical findings of axe.
 * @param {Page} page
 * @param {string} name
 */
async function assertAccessible(page, name) {
  await page.evaluate(axe); // evaluate bypasses the Content-Security-Policy
  const {violations} = await page.evaluate(() => /** @type {any} */ (window).axe.run());
  const serious = violations
    .filter((/** @type {any} */ v) => ['serious', 'critical'].includes(v.impact))
    .map((/** @type {any} */ v) => `${v.id}: ${v.nodes.map((/** @type {any} */ n) => n.html).join(' ')}`);
  assert.deepEqual(serious, [], `${name}: accessibility`);
}

/**
 * Fails if a page scrolls horizontally.
 * @param {Page} page
 * @param {string} name
 */
async function assertFits(page, name) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${name}: the page is ${content} px wide, the window ${window} px`);
}
