/**
 * Tests the pages on a private server: hosts with an invitation, guests without, and what a page
 * says when the server refuses it.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as strings from '../../../public/strings.js';
import * as chromium from '../lib/browser.js';
import {press, waitForBothPictures} from '../lib/calls.js';
import {enterCode, shownDigits} from '../lib/codes.js';
import * as firefox from '../lib/firefox.js';
import {checkLooks} from '../lib/looks.js';
import {Relay} from '../lib/relay.js';
import {Server} from '../lib/server.js';

const {skip} = chromium;
const texts = strings.access;
const permissions = ['camera', 'microphone'];
/** What Chromium says of a request that the server refuses. */
const refused = /status of 403/;

/** @typedef {import('playwright-core').Page} Page */

/** @type {Relay} */
let relay;
/** @type {Server} */
let server;
/** @type {chromium.Browser} */
let browser;

before(async () => {
  if (skip) return;
  relay = new Relay();
  await relay.start();
  server = new Server(['-access', 'invited', ...relay.serverFlags('udp')]);
  await server.start();
  browser = await chromium.launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
  await relay?.remove();
});

/** Returns a device without an invitation. */
const createGuest = () => chromium.Device.create(browser, server.origin, {permissions});

/** Returns a device that has opened its invitation link. @param {string} label */
async function createHost(label) {
  const host = await createGuest();
  const start = await host.open(`/#invite=${server.invite(label)}`);
  await chromium.waitForText(start, strings.home.invited);
  assert.equal(new URL(start.url()).hash, '', 'the invitation has left the address bar');
  await start.close();
  return host;
}

/** Opens a call of a host, and returns its page with the link for a guest. @param {chromium.Device} host */
async function openCall(host) {
  const page = await host.open('/call.html');
  await page.locator('.share-open[href*="guest_"]').waitFor();
  return {page, link: await chromium.sharedLink(page)};
}

/** Waits until a page shows a hint. @param {Page} page @param {string} hint */
const waitForHint = (page, hint) => page.locator('.status-hint', {hasText: hint}).waitFor();

/** Waits until a page that a guest pass lets in waits for the other device. @param {Page} page */
const waitForOther = page => chromium.waitForTitle(page, strings.call.waiting);

/**
 * Returns the guest pass that a device keeps with its remembered room.
 * @param {Page} page
 * @returns {Promise<string>}
 */
const keptPass = page => page.evaluate(() => JSON.parse(localStorage.getItem('inbox.rooms') ?? '[{}]')[0].pass ?? '');

/** Returns the days until a guest pass expires. @param {string} pass */
function daysOf(pass) {
  return (Buffer.from(pass.slice('guest_'.length), 'base64url').readUInt32BE(6) - Date.now() / 1000) / 86_400;
}

/** Counts the requests to mailboxes from now on. @param {Page} page */
function countRequests(page) {
  const count = {requests: 0};
  page.on('request', request => { if (/\/(inbox|guest-pass)/.test(request.url())) count.requests++; });
  return count;
}

test('a link lets a guest in, the call outlives the invitation, and ends without retries', {skip}, async () => {
  const [ann, ben] = [await createHost('ann'), await createGuest()];
  for (const device of [ann, ben]) {
    device.allowError(refused);
    await device.context.addInitScript(chromium.useRelaysOnly);
  }
  const {page: first, link} = await openCall(ann);
  assert.doesNotMatch(first.url(), /guest_/, 'the host uses its invitation');
  const second = await ben.open(link);
  await waitForBothPictures(first, second);
  for (const page of [first, second]) assert.equal(await page.evaluate(chromium.isRelayed), true);
  server.revoke('ann');
  // A call shows the hint of a notice that is not good.
  for (const page of [first, second]) await page.locator('.status[data-tone="busy"] .status-hint', {hasText: texts.inCall}).waitFor();
  const counts = [first, second].map(countRequests);
  await Promise.all([chromium.waitForPicture(first), chromium.waitForPicture(second)]);
  await checkLooks(first, 'private-in-call', ['.status', '#hang-up'], ['dark']);
  assert.deepEqual(counts.map(({requests}) => requests), [0, 0], 'requests after the refusal');
  await press(second, 'Hang up');
  await chromium.waitForTitle(second, texts.passExpired.title);
  await chromium.waitForTitle(first, texts.invitationExpired.title);
  await new Promise(resolve => setTimeout(resolve, 6_000)); // longer than the time between hellos
  assert.deepEqual(counts.map(({requests}) => requests), [0, 0], 'requests after the call');
  await Promise.all([ann.close(), ben.close()]);
});

test('a visitor without invitation learns whom to ask, on every page', {skip}, async () => {
  const visitor = await createGuest();
  visitor.allowError(refused);
  for (const name of ['call', 'send', 'receive']) {
    const page = await visitor.open(`/${name}.html`);
    await chromium.waitForTitle(page, texts.required.title);
    await waitForHint(page, texts.askOperator);
    if (name !== 'receive') await checkLooks(page, `private-${name}`, ['.status', '.status-actions a:first-child'], name === 'call' ? undefined : ['light']);
    if (name === 'call') await page.reload();
    if (name === 'call') await waitForHint(page, texts.askSender); // the address is that of a room now
    await page.close();
  }
  const selfTest = await visitor.open('/test.html');
  await selfTest.getByText(strings.test.findings.mailboxPrivate.text).waitFor();
  await chromium.waitForTitle(selfTest, strings.test.failures);
  assert.equal(await selfTest.getByText(strings.test.findings.needsInvitation.text).count(), 5);
  await checkLooks(selfTest, 'private-test', ['.status'], ['light']);
  await visitor.close();
});

test('an invitation and links that are forged, incomplete or expired', {skip}, async () => {
  const [host, guest] = [await createHost('cleo'), await createGuest()];
  for (const device of [host, guest]) device.allowError(refused);
  const {page: call, link} = await openCall(host);
  const start = await host.open('/');
  await checkLooks(start, 'private-index', ['.start-call']);
  const at = link.indexOf('guest_') + 30;
  const forged = link.slice(0, at) + (link[at] === 'A' ? 'B' : 'A') + link.slice(at + 1);
  for (const [bad, title] of [[forged, texts.passUnknown.title], [link.slice(0, -5), strings.status.badLink.title]]) {
    const page = await guest.open(bad);
    await chromium.waitForTitle(page, title);
    await page.close();
  }
  const screen = await host.open('/receive.html');
  await screen.locator('.share-open[href*="guest_"]').waitFor();
  const camera = await guest.open(await chromium.sharedLink(screen));
  await chromium.waitForTitle(camera, strings.send.otherWaits.title);
  for (const page of [camera, screen]) await page.close();
  for (const [fragment, text] of [['#invite=invite_abc', strings.home.incompleteInvitation], [`#invit=invite_${'1'.repeat(32)}`, strings.home.badInvitation]]) {
    const wrong = await guest.open('/' + fragment);
    await chromium.waitForText(wrong, text);
    assert.equal(new URL(wrong.url()).hash, '', 'it has left the address bar');
    await wrong.close();
  }
  host.allowError(/Failed to load resource|WebSocket connection/); // while the server restarts
  await server.stop();
  server.expireInvitations();
  await server.start();
  await chromium.waitForTitle(call, texts.invitationExpired.title);
  const late = await guest.open(link);
  await chromium.waitForTitle(late, texts.passExpired.title);
  await checkLooks(late, 'private-expired', ['.status'], ['dark']);
  await start.getByRole('button', {name: strings.home.removeInvitation}).click();
  await chromium.waitForText(start, strings.home.invitationRemoved);
  assert.equal(await start.evaluate(() => localStorage.getItem('inbox.invite')), null);
  await Promise.all([host.close(), guest.close()]);
});

test('a remembered pair gets a guest pass for 30 days in its calls, which replaces the one of the link', {skip}, async () => {
  const [host, guest] = [await createHost('dora'), await createGuest()];
  host.allowError(/409/); // it looks for a free side of the call
  const {page: call, link} = await openCall(host);
  await call.getByLabel(strings.share.remember).check();
  await call.close();
  let second = await guest.open(link);
  await waitForOther(second);
  await second.getByLabel(strings.share.remember).check();
  const first = await keptPass(second);
  assert.ok(link.includes(`.${first}.`) && daysOf(first) < 1.01, 'the pass of the link');
  const start = await host.open('/');
  await start.locator('.room-link').click();
  await waitForBothPictures(start, second);
  await second.waitForFunction(old => !localStorage.getItem('inbox.rooms')?.includes(old), first);
  const renewed = await keptPass(second);
  assert.ok(daysOf(renewed) > 29.9, `got ${daysOf(renewed)} days`);
  assert.ok(second.url().includes(`.${renewed}.`), 'a reload uses it, too');
  await second.close();
  second = await guest.open('/');
  await second.locator('.room-link').click();
  await waitForBothPictures(start, second);
  await Promise.all([host.close(), guest.close()]);
});

test('Firefox and Chromium: a guest by link through the relay, and a guest by short code', {skip: skip || firefox.skip}, async () => {
  const firefoxBrowser = await firefox.launch();
  try {
    /** @type {string[]} */
    const errors = [];
    const [host, guest] = [await createHost('emma'), await createGuest()];
    await host.context.addInitScript(chromium.useRelaysOnly);
    const {page: call, link} = await openCall(host);
    const other = await firefox.open(firefoxBrowser, link, errors, [chromium.useRelaysOnly]);
    await firefox.press(other, '#join');
    await Promise.all([firefox.waitForPicture(other), chromium.waitForPicture(call)]);
    assert.deepEqual([await other.evaluate(chromium.isRelayed), await call.evaluate(chromium.isRelayed)], [true, true]);
    assert.equal(await other.evaluate(() => document.querySelector('.code-text')), null, 'a guest shows no code');
    await other.close();
    await host.close();

    const own = await firefox.open(firefoxBrowser, `${server.origin}/#invite=${server.invite('finn')}`, errors);
    await own.waitForSelector('.invited button');
    await own.goto(`${server.origin}/call.html`);
    await firefox.press(own, '#join');
    const code = await own.waitForFunction(() => /^[2-9A-Z]{3} [2-9A-Z]{3}$/.exec(document.querySelector('.code-text')?.textContent ?? '')?.[0]);
    const joiner = await guest.open('/');
    await enterCode(joiner, await code.jsonValue() ?? '');
    const digits = await shownDigits(joiner);
    await own.waitForFunction(want => document.querySelector('.code-digits')?.textContent === want, {}, digits);
    await joiner.getByRole('button', {name: strings.pairing.confirm}).click();
    await own.bringToFront();
    await own.locator('.code-box button ::-p-text(Let in)').click();
    await joiner.waitForURL(/call\.html#.*\.guest_/);
    await Promise.all([firefox.waitForPicture(own), chromium.waitForPicture(joiner)]);
    await own.close();
    await guest.close();
    assert.deepEqual(errors, []);
  } finally {
    await firefoxBrowser.close();
  }
});
