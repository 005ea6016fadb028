/** Tests the pages against servers with unusual limits: the notice, and the recovery where it is possible. */

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
 * Runs a test with its own server and the devices of two users.
 * @param {string[]} flags
 * @param {(ann: Device, ben: Device, server: Server) => Promise<void>} use
 */
async function withServer(flags, use) {
  const server = new Server(flags);
  await server.start();
  try {
    const [ann, ben] = [await Device.create(browser, server.origin), await Device.create(browser, server.origin)];
    await use(ann, ben, server);
    await ann.close();
    await ben.close();
  } finally {
    await server.remove();
  }
}

/**
 * Counts the responses with a status.
 * @param {Device} device
 * @param {number} status
 */
function countResponses(device, status) {
  const counter = {responses: 0};
  device.context.on('response', response => {
    if (response.status() === status) counter.responses++;
  });
  return counter;
}

test('a server that accepts only small messages: both pages show it, and nothing is retried', {skip}, () =>
  withServer(['-max-body-size', '1000'], async (ann, ben) => {
    ben.allowError(/status of 413/);
    const refused = countResponses(ben, 413);
    const screen = await ann.open('/receive.html');
    const camera = await ben.open(await sharedLink(screen));
    await waitForTitle(camera, 'The other screen is waiting');
    await pressStart(camera);
    for (const page of [camera, screen]) {
      await waitForTitle(page, 'This server accepts only small messages');
      assert.equal(await page.locator('.status-countdown').textContent(), '');
    }
    // On a busy machine, the candidates are queued before the offer is refused.
    assert.ok(refused.responses === 1 || refused.responses === 2, `${refused.responses} responses with 413`);
    assert.ok(!(await camera.locator('body.live').count()), 'the camera is off');
    await pressStart(camera); // starting again is possible
    await waitForTitle(camera, 'This server accepts only small messages');
  }));

test('a page waits for a room that is in use with another secret', {skip}, () =>
  withServer(['-inbox-timeout', '6'], async (ann, ben) => {
    ann.allowError(/status of 404/); // the server waits for only 3 s
    ben.allowError(/status of (401|404)/);
    const first = await ann.open('/receive.html');
    await waitForTitle(first, 'Waiting for the camera');
    const [room] = first.url().split('.html')[1].split('.');
    const second = await ben.open(`/receive.html${room}.${'x'.repeat(22)}`);
    await waitForTitle(second, 'This room is in use with another secret');
    await first.close();
    await waitForTitle(second, 'Waiting for the camera', 40_000);
    const camera = await ann.open(await sharedLink(second));
    await waitForTitle(camera, 'The other screen is waiting');
    await waitForTitle(second, 'The camera page is open');
  }));

for (const [flags, maxNotFound] of /** @type {[string[], number][]} */ ([
  [['-poll-timeout', '3'], 1],
  [['-inbox-timeout', '4'], 1],
  [['-long-polling=false'], 4],
])) {
  test(`${flags.join(' ')}: a waiting page does not flood the console`, {skip}, () => withServer(flags, async (ann, ben) => {
    ann.allowError(/status of 404/); // counted below
    ben.allowError(/status of 404/);
    for (const device of [ann, ben]) device.allowError(/WebSocket connection .* failed/); // without long polling there is none
    const camera = await ann.open('/send.html');
    const notFound = countResponses(ann, 404);
    await pressStart(camera);
    await waitForTitle(camera, 'Waiting for the other screen');
    await new Promise(resolve => setTimeout(resolve, 8_000)); // no event marks the absence of requests
    assert.ok(notFound.responses <= maxNotFound, `got ${notFound.responses} responses with 404 in 8 s, want at most ${maxNotFound}`);
    const screen = await ben.open(await sharedLink(camera));
    await waitForPicture(screen);
  }));
}

test('two requests per second: the pages load and the call connects automatically', {skip, timeout: 220_000}, () =>
  withServer(['-rate', '2', '-burst', '40'], async (ann, ben) => {
    ann.allowError(/(status of|response code:) 429/);
    ben.allowError(/(status of|response code:) 429/);
    const screen = await ann.open('/receive.html');
    await waitForTitle(screen, 'Waiting for the camera');
    await ben.context.route('**/bundles/send.js', useUpRate, {times: 1});
    const camera = await ben.open(await sharedLink(screen));
    await waitForTitle(camera, 'This page did not load completely');
    await waitForCountdown(camera);
    await camera.getByRole('button', {name: 'Start'}).waitFor({timeout: 100_000}); // it reloads until all files are there
    await pressStart(camera);
    await waitForPicture(screen, 60_000);
    await waitForTitle(camera, 'Connected');
  }));

test('a page that exceeds the rate limit while it waits counts down and continues', {skip}, () =>
  withServer(['-rate', '1', '-burst', '40'], async (ann, _ben, server) => {
    ann.allowError(/status of 429|net::ERR_INTERNET_DISCONNECTED/);
    const screen = await ann.open('/receive.html');
    await waitForTitle(screen, 'Waiting for the camera');
    const spend = () => ann.context.request.get(`${server.origin}/robots.txt`);
    while ((await spend()).ok());
    let limited = false;
    const spending = (async () => { // a slow browser reconnects when the server has a token again
      while (!limited) await spend();
    })();
    try {
      await ann.context.setOffline(true); // aborts the requests that wait
      await ann.context.setOffline(false);
      await waitForTitle(screen, 'Too many requests');
    } finally {
      limited = true;
      await spending;
    }
    await waitForCountdown(screen);
    await waitForTitle(screen, 'Waiting for the camera');
  }));

test('a page that exceeds the rate limit when it opens reloads automatically', {skip}, () =>
  withServer(['-rate', '1', '-burst', '24'], async (ann, _ben, server) => {
    ann.allowError(/status of 429|Refused to (apply style|execute script)|net::ERR_ABORTED/);
    const page = await ann.context.newPage();
    let answer;
    do answer = await page.goto(`${server.origin}/receive.html`, {waitUntil: 'commit'}); while (answer?.ok());
    assert.equal(answer?.status(), 429);
    const again = page.waitForResponse(response => response.request().isNavigationRequest() && response.ok());
    await page.getByText('This page reloads automatically').waitFor();
    await again;
    await page.getByRole('heading', {name: 'Too many requests'}).waitFor({state: 'detached'});
  }));

test('the parts that a page loads later: it waits for late ones, and reloads without them', {skip}, () =>
  withServer([], async (ann, ben) => {
    ann.allowError(/status of 429/);
    await ann.context.route('**/call-later.js', route => route.fulfill({status: 429, contentType: 'application/problem+json', body: '{}'}), {times: 1});
    const first = await ann.open('/call.html');
    const link = await sharedLink(first); // after a reload
    await ben.context.route('**/call-later.js', async route => {
      await new Promise(resolve => setTimeout(resolve, 2_000));
      await route.continue();
    });
    const second = await ben.open(link);
    await Promise.all([waitForPicture(first), waitForPicture(second)]);
  }));

test('a page whose scripts fail to load shows a hint after a delay', {skip}, () =>
  withServer([], async ann => {
    ann.allowError(/status of 429|Refused to execute script/);
    await ann.context.route('**/*.js', route => route.fulfill({status: 429, contentType: 'application/problem+json', body: '{}'}));
    const page = await ann.open('/receive.html');
    const hint = page.getByText('If nothing happens, reload the page.');
    const visible = await hint.isVisible();
    const age = await page.evaluate(() => performance.now());
    assert.ok(!visible || age > 5_000, `the hint is visible after ${age} ms, want more than 5000`);
    await hint.waitFor();
  }));

/** Repeats a request until the server rejects it. @param {import('playwright-core').Route} route */
async function useUpRate(route) {
  let response;
  do response = await route.fetch(); while (response.ok());
  await route.fulfill({response});
}

/** @param {Page} page */
async function waitForCountdown(page) {
  await page.locator('.status-countdown', {hasText: /^Next try in \d+ s\.$/}).waitFor();
}
