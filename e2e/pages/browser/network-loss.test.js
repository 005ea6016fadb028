/**
 * Tests two-way calls whose other side vanishes: the network of a device is down for a while,
 * a browser is killed. The devices are network namespaces with a cable between them.
 */

import {after, before, test} from 'node:test';
import * as chromium from '../lib/browser.js';
import {waitForBothPictures} from '../lib/calls.js';
import * as firefox from '../lib/firefox.js';
import {Namespace, skipNamespaces} from '../lib/namespace.js';
import {Server, freePort} from '../lib/server.js';

const skip = chromium.skip || firefox.skip || skipNamespaces;
const addresses = /** @type {[string, string]} */ (['192.168.78.1/24', '192.168.78.2/24']);
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

/** Returns a device at home, with a call page that waits. */
async function openAtHome() {
  const ben = await chromium.Device.create(browser, origin);
  ben.allowError(/net::ERR_/);
  const page = await ben.open('/call.html');
  await chromium.waitForTitle(page, 'Waiting for the other device');
  return {ben, page, link: page.url()};
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

const interrupted = /interrupted|offline|does not answer|left/i;

/** Waits until a page in Firefox is interrupted. @param {firefox.Page} page */
async function waitForInterruption(page) {
  await page.waitForFunction(() => /interrupted|offline|does not answer|left/i.test(document.querySelector('.status-title')?.textContent ?? ''));
}

test('Chromium without a network for a while: both pages say so, and the pictures return', {skip}, async t => {
  const {ben, page: home, link} = await openAtHome();
  const other = await chromium.launch([], away.script(chromium.executablePath));
  try {
    const ann = await chromium.Device.create(other, origin);
    ann.allowError(/net::ERR_/);
    const page = await ann.open(link);
    await waitForBothPictures(home, page);
    await interrupt(() => Promise.all([home, page].map(one => one.locator('.status-title', {hasText: interrupted}).waitFor())));
    const restored = Date.now();
    await Promise.all([chromium.waitForPicture(home, 60_000), chromium.waitForPicture(page, 60_000)]);
    t.diagnostic(`the pictures move ${Date.now() - restored} ms after the network returns`);
    await waitForBothPictures(home, page);
    await ann.close();
    await chromium.waitForTitle(home, 'The other device has left');
  } finally {
    await other.close();
  }
  await ben.close();
});

test('Firefox without a network for a while: both pages say so, and the pictures return', {skip}, async t => {
  const {ben, page: home, link} = await openAtHome();
  const port = await freePort();
  await away.forward(port); // of BiDi
  const other = await firefox.launch(away.script(firefox.executablePath), port);
  try {
    const page = await firefox.open(other, link, []);
    await firefox.press(page, '#join');
    await Promise.all([firefox.waitForPicture(page), chromium.waitForPicture(home)]);
    await interrupt(() => Promise.all([home.locator('.status-title', {hasText: interrupted}).waitFor(), waitForInterruption(page)]));
    const restored = Date.now();
    await Promise.all([firefox.waitForPicture(page, 60_000), chromium.waitForPicture(home, 60_000)]);
    t.diagnostic(`the pictures move ${Date.now() - restored} ms after the network returns`);
    await firefox.waitForTitle(page, 'Connected');
  } finally {
    await other.close();
  }
  await ben.close();
});

test('a browser is killed during a call: the other page says so, and the call continues when the link is opened again', {skip}, async t => {
  const {ben, page: home, link} = await openAtHome();
  ben.allowError(/status of 404/); // messages for the device that is gone
  const killed = await chromium.launch([], away.script(chromium.executablePath));
  const ann = await chromium.Device.create(killed, origin);
  const page = await ann.open(link);
  await waitForBothPictures(home, page);
  const crashed = new Promise(resolve => killed.once('disconnected', resolve));
  await Promise.all([crashed, killed.newBrowserCDPSession().then(session => session.send('Browser.crash')).catch(() => {})]);
  await chromium.waitForTitle(home, 'The other device does not answer', 60_000);
  const again = await chromium.launch([], away.script(chromium.executablePath));
  try {
    const device = await chromium.Device.create(again, origin);
    device.allowError(/status of 409/);
    const opened = Date.now();
    const page = await device.open(link);
    await Promise.all([chromium.waitForPicture(home, 90_000), chromium.waitForPicture(page, 90_000)]);
    t.diagnostic(`the pictures move ${Date.now() - opened} ms after the link is opened`);
    await waitForBothPictures(home, page);
    await device.close();
  } finally {
    await again.close();
  }
  await ben.close();
});
