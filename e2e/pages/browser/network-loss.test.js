/**
 * Tests two-way calls whose other side vanishes: the network of a device is down for a while,
 * a browser is killed. The devices are network namespaces with a cable between them.
 */

import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import * as firefox from '../lib/firefox.js';
import {Namespace, skipNamespaces} from '../lib/namespace.js';
import {Server, freePort} from '../lib/server.js';

/** Four browsers with video take minutes of both processors: scripts/soak outages. */
const skip = chromium.skip || firefox.skip || skipNamespaces || (process.env.OUTAGES ? false : 'part of scripts/soak outages');
const addresses = /** @type {[string, string]} */ (['192.168.78.1/24', '192.168.78.2/24']);
/** Milliseconds that a test waits for something: three browsers share the machine with others. */
const deadline = 180_000;
/** Milliseconds without a network. */
const outage = 15_000;

/** @type {Namespace} */
let home;
/** @type {Namespace} */
let away;
/** @type {Server} */
let server;
/** @type {chromium.Browser} */
let browser;
/** The origin for both devices. */
let origin = '';

before(async () => {
  if (skip) return;
  [home, away] = [new Namespace(), new Namespace()];
  home.connect(away, addresses);
  // A device that vanishes keeps its place for the first of these times.
  server = new Server(['-inbox-timeout', '20', '-poll-timeout', '10'], {host: '0.0.0.0', namespace: home.name});
  await server.start();
  origin = server.origin.replace('localhost', '192.168.78.1');
  browser = await chromium.launch([], home.script(chromium.executablePath));
});

after(async () => {
  await browser?.close();
  await server?.remove();
  home?.remove();
  away?.remove();
});

/**
 * Opens a call page at home, and returns its device as well.
 * @returns {Promise<{ben: chromium.Device, page: chromium.Page}>}
 */
async function openAtHome() {
  const ben = await chromium.Device.create(browser, origin);
  ben.allowError(/net::ERR_|status of 404/); // messages for a device that is gone
  const page = await ben.open('/call.html');
  await chromium.waitForTitle(page, 'Waiting for the other device');
  return {ben, page};
}

/** Launches Chromium in the device that is away, and opens a link. @param {string} link */
async function openChromium(link) {
  const launched = await chromium.launch([], away.script(chromium.executablePath));
  const device = await chromium.Device.create(launched, origin);
  device.allowError(/net::ERR_|status of 409/);
  return {launched, page: await device.open(link)};
}

/** Launches Firefox in the device that is away, and joins the call of a link. @param {string} link */
async function openFirefox(link) {
  const port = await freePort();
  await away.forward(port); // of BiDi
  const launched = await firefox.launch(away.script(firefox.executablePath), port);
  const page = await firefox.open(launched, link, []);
  await firefox.press(page, '#join');
  return {launched, page};
}

/** Takes the network of the device that is away for some time. @param {() => Promise<unknown>} meanwhile */
async function interrupt(meanwhile) {
  const restored = Date.now() + outage;
  away.setNetwork('down');
  try {
    await meanwhile();
    await new Promise(resolve => setTimeout(resolve, restored - Date.now()));
  } finally {
    away.setNetwork('up');
  }
}

/** Runs in the page: whether it says that the call is interrupted. */
function isInterrupted() {
  return /interrupted|offline|does not answer|left|connection lost|cannot be reached/i.test(document.querySelector('.status-title')?.textContent ?? '');
}

/** Ends a browser without notice to its pages. @param {chromium.Browser} launched */
async function kill(launched) {
  const ended = new Promise(resolve => launched.once('disconnected', resolve));
  const session = await launched.newBrowserCDPSession();
  session.send('Browser.crash').catch(() => {});
  await ended;
}

test('calls of a device whose network is down for a while, and whose browser is killed', {skip}, async t => {
  const [one, two] = [await openAtHome(), await openAtHome()];
  const fox = await openFirefox(two.page.url());
  const chrome = await openChromium(one.page.url());
  t.after(() => Promise.all([fox.launched.close(), chrome.launched.close()]));
  const pictures = async () => {
    await Promise.all([firefox.waitForPicture(fox.page, deadline), ...[one, two, chrome].map(({page}) => chromium.waitForPicture(page, deadline))]);
    await firefox.waitForTitle(fox.page, 'Connected', deadline);
    for (const {page} of [one, two, chrome]) await chromium.waitForTitle(page, 'Connected', deadline);
  };
  await pictures();

  await t.test('all pages say so, and the pictures return', async t => {
    await interrupt(() => Promise.all([fox.page.waitForFunction(isInterrupted, {timeout: deadline}), ...[one, two, chrome].map(({page}) => page.waitForFunction(isInterrupted, undefined, {timeout: deadline}))]));
    const restored = Date.now();
    await pictures();
    t.diagnostic(`the pictures move ${Date.now() - restored} ms after the network returns`);
  });

  await t.test('a browser is killed: the other page says so, and the call continues when the link is opened again', async t => {
    await kill(chrome.launched);
    await chromium.waitForTitle(one.page, 'The other device does not answer', deadline);
    const opened = Date.now();
    const again = await openChromium(one.page.url());
    t.after(() => again.launched.close());
    await Promise.all([one, again].map(({page}) => chromium.waitForPicture(page, deadline)));
    t.diagnostic(`the pictures move ${Date.now() - opened} ms after the link is opened`);
  });
  await Promise.all([one.ben.close(), two.ben.close()]);
});
