/**
 * Measures the time from a click on a link to a usable page, over a slow line: 50 kB/s and
 * 400 ms. A page is usable when all of its controls work. The first column is the whole
 * time, with the handshakes of TCP and TLS; the second is the time that Chromium's own
 * network conditions give, which start after the handshakes.
 *
 * scripts/soak slow_line runs it. INBOX_BINARY names the binary, as in the tests.
 */

import {launch} from '../lib/browser.js';
import {htmlNames} from '../lib/html.js';
import {Server} from '../lib/server.js';
import {SlowLine} from '../lib/slow-line.js';

/** @typedef {import('playwright-core').Browser} Browser */

const line = {bytesPerSecond: 50_000, roundTrip: 400};
/** Seconds in which a page should be usable. */
const goal = 2.5;
const rounds = Number(process.env.ROUNDS ?? 5);

/** What a page has as soon as it is usable. @type {Record<string, string>} */
const signs = {
  'call.html': '#microphone-button:not([disabled])',
  'index.html': '.code-input',
  'receive.html': '.status', // it has controls only with a picture
  'send.html': '.controls:not([hidden]) #start:not([disabled])',
  'test.html': '.test-buttons:not([hidden])',
};

/** Runs in the page: records when it is usable. @param {string} sign */
function recordUsable(sign) {
  const check = () => {
    const title = document.querySelector('.status-title')?.textContent;
    if (title === 'One moment' || !document.querySelector(sign)) return void setTimeout(check, 5);
    Object.assign(window, {usableAt: performance.now()});
  };
  addEventListener('DOMContentLoaded', check);
}

/**
 * Opens a page in a new profile.
 * @param {Browser} browser
 * @param {string} url
 * @param {boolean} emulate with Chromium's network conditions
 */
async function load(browser, url, emulate) {
  const context = await browser.newContext({ignoreHTTPSErrors: true, permissions: ['camera', 'microphone']});
  await context.addInitScript(recordUsable, signs[new URL(url).pathname.slice(1)]);
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  await cdp.send('Network.enable');
  const traffic = {requests: 0, bytes: 0};
  cdp.on('Network.requestWillBeSent', () => traffic.requests++);
  cdp.on('Network.loadingFinished', ({encodedDataLength}) => traffic.bytes += encodedDataLength);
  if (emulate) {
    await page.goto(new URL('/robots.txt', url).href); // the handshakes
    await cdp.send('Network.emulateNetworkConditions', {offline: false, latency: line.roundTrip, downloadThroughput: line.bytesPerSecond, uploadThroughput: line.bytesPerSecond});
    Object.assign(traffic, {requests: 0, bytes: 0});
  }
  await page.goto(url, {waitUntil: 'load', timeout: 60_000});
  await page.waitForFunction(() => 'usableAt' in window, undefined, {timeout: 60_000});
  const {usable, painted} = await page.evaluate(() => ({
    usable: /** @type {any} */ (window).usableAt,
    painted: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN,
  }));
  await context.close();
  return {usable, painted, ...traffic};
}

/** @param {number[]} values */
const median = values => values.sort((a, b) => a - b)[values.length >> 1];
/** @param {number} milliseconds */
const seconds = milliseconds => `${(milliseconds / 1000).toFixed(2)} s`;

/**
 * @param {Browser} browser
 * @param {string} name
 * @param {string} slow the origin over the slow line
 * @param {string} direct
 */
async function measure(browser, name, slow, direct) {
  const results = [];
  const emulated = [];
  await load(browser, `${direct}/${name}`, false); // the server then has its files compressed
  for (let i = 0; i < rounds; i++) {
    results.push(await load(browser, `${slow}/${name}`, false));
    emulated.push(await load(browser, `${direct}/${name}`, true));
  }
  const usable = median(results.map(result => result.usable));
  const painted = median(results.map(result => result.painted));
  const {requests, bytes} = results[0];
  console.log([name.padEnd(14), seconds(usable), seconds(median(emulated.map(result => result.usable))), seconds(painted),
    `${requests}`.padStart(3), `${(bytes / 1000).toFixed(1)} kB`].join('   ') + (usable > goal * 1000 ? `   over the goal of ${goal} s` : ''));
}

const server = new Server();
await server.start();
const slowLine = new SlowLine(Number(new URL(server.origin).port), line);
const slow = `https://localhost:${await slowLine.listen()}`;
const browser = await launch(['--ignore-certificate-errors']); // without it, Chromium connects twice
console.log('page             usable   emulated first paint   requests and bytes');
for (const name of htmlNames.filter(name => name !== '404.html')) await measure(browser, name, slow, server.origin);
await browser.close();
slowLine.close();
await server.remove();
