/**
 * Tests the pages in WebKitGTK, the engine of Safari. This build has no WebRTC: the test
 * presses what needs no call, and checks that the others say why they cannot work.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch} from '../lib/browser.js';
import {shownCode, shownDigits} from '../lib/codes.js';
import {Server} from '../lib/server.js';
import {WebKit, skip} from '../lib/webkit.js';

/** @type {Server} */
let server;
/** @type {WebKit} */
let webkit;
const size = {width: 1280, height: 1000};

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  webkit = await WebKit.launch(size);
});

after(async () => {
  await webkit?.close();
  await server?.remove();
});

/** Runs in the page: whether it is wider than the window. */
const overflows = () => document.documentElement.scrollWidth > innerWidth;

/** Runs in the page: whether an element with this text is displayed. @param {string} text */
const shows = text => document.body.innerText.includes(text);

test('the start page joins a room by code', {skip}, async () => {
  const chromium = await launch();
  const device = await Device.create(chromium, server.origin);
  const call = await device.open('/call.html');
  await webkit.open(`${server.origin}/`);
  await webkit.waitFor(() => document.querySelector('.code-input') !== null);
  assert.equal(await webkit.evaluate(overflows), false, 'horizontal scrolling');
  await webkit.screenshot('webkit-index');
  await webkit.type('.code-input', 'abc 23o');
  await webkit.press('.code-row button');
  await webkit.waitFor(shows, 'without 0, O, 1, I and L');
  await webkit.type('.code-input', (await shownCode(call)).toLowerCase());
  await webkit.press('.code-row button');
  const digits = await shownDigits(call);
  await webkit.waitFor(shows, digits);
  await webkit.screenshot('webkit-digits');
  await webkit.waitFor(() => !document.querySelector('.code-actions .button-main:disabled, .code-actions .button-main[aria-disabled="true"]'));
  await webkit.press('.code-actions .button-main');
  await call.getByRole('button', {name: 'Let in'}).click();
  await webkit.waitFor(fragment => location.pathname === '/call.html' && location.hash === fragment, new URL(call.url()).hash);
  await device.close();
  await chromium.close();
});

for (const name of ['call.html', 'send.html', 'receive.html']) {
  test(`${name} says that this browser has no calls, and what to do`, {skip}, async () => {
    await webkit.open(`${server.origin}/${name}`);
    await webkit.waitFor(shows, 'This browser cannot make video calls');
    assert.notEqual(await webkit.text('.status-actions'), '', 'an action');
    assert.equal(await webkit.evaluate(overflows), false, 'horizontal scrolling');
    await webkit.screenshot(`webkit-${name.split('.')[0]}`);
  });
}

test('the self-test ends with advice', {skip}, async () => {
  await webkit.open(`${server.origin}/test.html`);
  await webkit.waitFor(shows, 'Something that calls need does not work');
  await webkit.waitFor(shows, 'Use a current version of Firefox, Chrome, Edge or Safari.');
  await webkit.screenshot('webkit-test');
});

test('a page that does not exist leads to the start page', {skip}, async () => {
  await webkit.open(`${server.origin}/nothing/here`);
  await webkit.waitFor(shows, 'There is no such page.');
  await webkit.screenshot('webkit-not-found');
  await webkit.press('main a');
  await webkit.waitFor(() => location.pathname === '/' && document.querySelector('.code-input') !== null);
});
