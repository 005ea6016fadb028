/** Servers with other limits than usual: what the pages tell, and that they go on by themselves where they can. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @typedef {import('../lib/browser.js').Page} Page */

/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (!skip) browser = await launch();
});

after(async () => {
  await browser?.close();
});

/**
 * Two persons at a server of their own.
 * @param {string[]} flags
 * @param {(ann: Device, ben: Device, server: Server) => Promise<void>} use
 */
async function meet(flags, use) {
  const server = new Server(flags);
  await server.start();
  try {
    const [ann, ben] = [await Device.make(browser, server.origin), await Device.make(browser, server.origin)];
    await use(ann, ben, server);
    await ann.close();
    await ben.close();
  } finally {
    await server.remove();
  }
}

/**
 * Counts the answers with a status.
 * @param {Device} device
 * @param {number} status
 */
function count(device, status) {
  const seen = {answers: 0};
  device.context.on('response', response => {
    if (response.status() === status) seen.answers++;
  });
  return seen;
}

test('a server that takes only small messages: both are told, and nothing is tried in vain', {skip}, () =>
  meet(['-max-body-size', '1000'], async (ann, ben) => {
    ben.expect(/status of 413/);
    const refused = count(ben, 413);
    const screen = await ann.open('/receive.html');
    const camera = await ben.open(await sharedLink(screen));
    await waitForTitle(camera, 'The other screen is waiting');
    await pressStart(camera);
    for (const page of [camera, screen]) {
      await waitForTitle(page, 'This server takes only small messages');
      assert.equal(await page.locator('.status-countdown').textContent(), '');
    }
    assert.equal(refused.answers, 1, 'answers 413');
    assert.ok(!(await camera.locator('body.live').count()), 'the camera is off');
    await pressStart(camera); // and can be started again
    await waitForTitle(camera, 'This server takes only small messages');
  }));

test('a room in use with another secret is told, and entered once it is free', {skip}, () =>
  meet(['-inbox-timeout', '6'], async (ann, ben) => {
    ann.expect(/status of 404/); // the server holds knocks for three seconds only
    ben.expect(/status of (401|404)/);
    const first = await ann.open('/receive.html');
    await waitForTitle(first, 'Waiting for the camera');
    const [room] = first.url().split('.html')[1].split('.');
    const second = await ben.open(`/receive.html${room}.${'x'.repeat(22)}`);
    await waitForTitle(second, 'This room is in use with another secret');
    await first.close();
    await waitForTitle(second, 'Waiting for the camera', 40_000);
    const camera = await ann.open(await sharedLink(second));
    await waitForTitle(camera, 'The other screen is waiting');
    await waitForTitle(second, 'The camera’s page is open');
  }));

for (const [flags, most] of /** @type {[string[], number][]} */ ([
  [['-poll-timeout', '3'], 1],
  [['-inbox-timeout', '4'], 1],
  [['-long-polling=false'], 4],
])) {
  test(`${flags.join(' ')}: a page that waits alone leaves the console alone`, {skip}, () => meet(flags, async (ann, ben) => {
    ann.expect(/status of 404/); // counted instead
    ben.expect(/status of 404/);
    const camera = await ann.open('/send.html');
    const absent = count(ann, 404);
    await pressStart(camera);
    await waitForTitle(camera, 'Waiting for the other screen');
    await new Promise(resolve => setTimeout(resolve, 8_000)); // an absence can only be waited for
    assert.ok(absent.answers <= most, `got ${absent.answers} answers 404 in 8 s, want at most ${most}`);
    const screen = await ben.open(await sharedLink(camera));
    await waitForPicture(screen);
  }));
}

test('two requests a second: the pages load and the call comes about, by themselves', {skip, timeout: 150_000}, () =>
  meet(['-rate', '2', '-burst', '20'], async (ann, ben) => {
    ann.expect(/status of 429/);
    ben.expect(/status of 429/);
    const screen = await ann.open('/receive.html');
    await waitForTitle(screen, 'Waiting for the camera');
    const camera = await ben.open(await sharedLink(screen));
    await waitForTitle(camera, 'This page did not load completely');
    await waitForCountdown(camera);
    await pressStart(camera);
    await waitForPicture(screen, 60_000);
    await waitForTitle(camera, 'Connected', 30_000);
  }));

test('requests are used up while a page waits: it counts down and goes on', {skip}, () =>
  meet(['-rate', '1', '-burst', '40'], async (ann, _ben, server) => {
    ann.expect(/status of 429|net::ERR_INTERNET_DISCONNECTED/);
    const screen = await ann.open('/receive.html');
    await waitForTitle(screen, 'Waiting for the camera');
    while ((await ann.context.request.get(`${server.origin}/robots.txt`)).ok());
    await ann.context.setOffline(true); // which ends what is held
    await ann.context.setOffline(false);
    await waitForTitle(screen, 'Too many requests');
    await waitForCountdown(screen);
    await waitForTitle(screen, 'Waiting for the camera');
  }));

test('requests are used up when a page is opened: it loads itself later', {skip}, () =>
  meet(['-rate', '1', '-burst', '24'], async (ann, _ben, server) => {
    ann.expect(/status of 429|Refused to (apply style|execute script)|net::ERR_ABORTED/);
    const page = await ann.context.newPage();
    let answer;
    do answer = await page.goto(`${server.origin}/receive.html`, {waitUntil: 'commit'}); while (answer?.ok());
    assert.equal(answer?.status(), 429);
    const again = page.waitForResponse(response => response.request().isNavigationRequest() && response.ok());
    await page.getByText('This page reloads automatically').waitFor();
    await again;
    await page.getByRole('heading', {name: 'Too many requests'}).waitFor({state: 'detached'});
  }));

test('of a page nothing but the page itself has come: it says what to do, but not at once', {skip}, () =>
  meet([], async ann => {
    ann.expect(/status of 429|Refused to execute script/);
    await ann.context.route('**/*.js', route => route.fulfill({status: 429, contentType: 'application/problem+json', body: '{}'}));
    const page = await ann.open('/receive.html');
    const hint = page.getByText('If this stays, load the page again.');
    const visible = await hint.isVisible();
    const age = await page.evaluate(() => performance.now());
    assert.ok(!visible || age > 5_000, `it says so after ${age} ms`);
    await hint.waitFor();
  }));

/** @param {Page} page */
async function waitForCountdown(page) {
  await page.locator('.status-countdown', {hasText: /^Next try in \d+ s\.$/}).waitFor();
}
