/**
 * Shows the operator's page of a server with traffic, in both colour schemes and on three screen
 * sizes, and stops the server.
 */

import assert from 'node:assert/strict';
import {once} from 'node:events';
import {readFileSync} from 'node:fs';
import {request} from 'node:https';
import {createRequire} from 'node:module';
import {after, before, test} from 'node:test';
import {launch, skip} from '../lib/browser.js';
import {keepScreenshot} from '../lib/looks.js';
import {Server, freePort} from '../lib/server.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const sizes = {desk: {width: 1280, height: 800}, phone: {width: 390, height: 844}, landscape: {width: 844, height: 390}};

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;
let address = '';

before(async () => {
  if (skip) return;
  address = `127.0.0.1:${await freePort()}`;
  server = new Server(['-metrics-bind', address, '-compat', 'peerjs']);
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

// The texts of a status can come from a CA, a certificate file or the network.
test('the page shows hostile texts as text, and says if the state is not one', {skip}, async () => {
  const page = await browser.newPage({viewport: sizes.phone});
  /** @type {string[]} */
  const problems = [];
  page.on('pageerror', error => problems.push(error.message));
  page.on('console', message => { if (message.type() === 'error') problems.push(message.text()); });
  page.on('dialog', dialog => { problems.push('dialog'); void dialog.dismiss(); });
  const state = hostile(await (await fetch(`http://${address}/status.json`)).json());
  let body = JSON.stringify(state);
  await page.route('**/status.json', route => route.fulfill({body, contentType: 'application/json'}));
  await page.goto(`http://${address}/`);
  await page.getByRole('status').filter({hasText: 'Not ready: <img'}).waitFor();
  for (const viewport of Object.values(sizes)) {
    await page.setViewportSize(viewport);
    const [content, visible] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(content <= visible, `the page is ${content} px wide, the window ${visible} px`);
  }
  assert.equal(await page.locator('main :is(img, script)').count(), 0);
  for (body of ['<html>', '{}', JSON.stringify({...state, warnings: null})]) {
    await page.goto(`http://${address}/`);
    await page.getByRole('alert').filter({hasText: 'not the state that this page expects'}).waitFor();
  }
  assert.deepEqual(problems, []);
  await page.close();
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
  assert.equal(await page.locator('.fact', {hasText: 'PeerJS'}).textContent(), 'PeerJS0 connections0 frames received');
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
 * Replaces the texts of a state, and the times of a certificate by equal ones.
 * @param {any} state
 */
function hostile(state) {
  const text = `<img src=x onerror=alert(1)><script>alert(1)</script> ${'a'.repeat(200)}\u0000\u001b[31m`;
  const now = state.time;
  const certificate = {name: text, source: text, issuer: text, status: text, last_error: text, failures: 1, not_before: now, not_after: now, renew_at: now, last_attempt: null, next_attempt: null};
  return {
    ...state, version: text, ready: false, failing: [text], restarts: {...state.restarts, loss: text}, certificates: [certificate, {...certificate, not_before: null, not_after: null}],
    refusals: state.refusals.map((/** @type {any} */ layer) => ({...layer, total: 1, reasons: {[text]: 1}})), turn: null,
    protocols: [{protocol: text, open: 1, frames_total: 1}],
    warnings: [{time: now, level: 'ERROR', message: text, count: 2, attributes: [{name: text, value: text}]}],
  };
}

/**
 * Fails on findings of axe and if the page scrolls horizontally.
 * @param {import('playwright-core').Page} page
 * @param {string} name
 * @param {{width: number, height: number}} viewport
 */
async function checkLayout(page, name, viewport) {
  await page.setViewportSize(viewport);
  await keepScreenshot(page, name);
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
