/**
 * Shows the operator's page of a server with traffic, in both colour schemes and on three screen
 * sizes, and stops the server. The screenshots are kept in shots/.
 */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {mkdirSync, readFileSync} from 'node:fs';
import {request} from 'node:https';
import {createRequire} from 'node:module';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {launch, skip} from '../lib/browser.js';
import {Server, freePort} from '../lib/server.js';

const shots = fileURLToPath(new URL('../shots/', import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const sizes = {desk: {width: 1280, height: 800}, phone: {width: 390, height: 844}, landscape: {width: 844, height: 390}};

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;
let address = '';

before(async () => {
  if (skip) return;
  mkdirSync(shots, {recursive: true});
  address = `127.0.0.1:${await freePort()}`;
  server = new Server(['-metrics-bind', address]);
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

test('the page shows the state, follows it, and reports a server that is gone', {skip}, async () => {
  const page = await browser.newPage({ignoreHTTPSErrors: true});
  /** @type {string[]} */
  const problems = [];
  page.on('pageerror', error => problems.push(error.message));
  page.on('console', message => { if (message.type() === 'error') problems.push(message.text()); });
  const hosts = new Set();
  page.on('request', request => hosts.add(new URL(request.url()).host));
  await page.goto(`http://${address}/`);
  await page.getByRole('status').filter({hasText: 'Ready'}).waitFor();
  assert.equal(await page.locator('.certificate h3').first().textContent(), 'localhost');
  assert.equal(await sendToMissing(), 404);
  await page.getByText('no-inbox 1').waitFor(); // with the next poll
  for (const colorScheme of /** @type {const} */ (['light', 'dark'])) {
    await page.emulateMedia({colorScheme});
    for (const [size, viewport] of Object.entries(sizes)) await checkLayout(page, `operator-${size}-${colorScheme}`, viewport);
  }
  assert.deepEqual([...hosts], [address]);
  assert.deepEqual(problems, []);
  await server.remove();
  await page.getByRole('alert').filter({hasText: 'has not answered since'}).waitFor();
  await page.close();
});

/**
 * Fails on findings of axe and if the page scrolls horizontally.
 * @param {import('playwright-core').Page} page
 * @param {string} name
 * @param {{width: number, height: number}} viewport
 */
async function checkLayout(page, name, viewport) {
  await page.setViewportSize(viewport);
  await page.screenshot({path: `${shots}${name}.png`, fullPage: true});
  await page.evaluate(axe); // evaluate bypasses the Content-Security-Policy
  const {violations} = await page.evaluate(() => /** @type {any} */ (window).axe.run());
  const serious = violations.filter((/** @type {any} */ v) => ['serious', 'critical'].includes(v.impact)).map((/** @type {any} */ v) => v.id);
  assert.deepEqual(serious, [], `${name}: accessibility`);
  const [content, visible] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= visible, `${name}: the page is ${content} px wide, the window ${visible} px`);
}

/**
 * Sends a message to a name that is not claimed.
 * @returns {Promise<number | undefined>} the status of the response
 */
async function sendToMissing() {
  const sent = request(`${server.origin}/inbox?to=missing`, {method: 'POST', auth: 'alice:password', rejectUnauthorized: false}).end('hello');
  const [response] = await once(sent, 'response');
  response.resume();
  return response.statusCode;
}
