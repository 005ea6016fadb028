/**
 * Checks the accessibility and layout of every page in its main states: three sizes, both
 * colour schemes, and a language that is written from right to left. SCREENSHOTS=1 keeps
 * screenshots in shots/.
 */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import * as strings from '../../../public/strings.js';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {press, waitForBothPictures} from '../lib/calls.js';
import {enterCode, shownCode, shownDigits} from '../lib/codes.js';
import {htmlNames, readPublic} from '../lib/html.js';
import {assertFits, checkLooks, sizes} from '../lib/looks.js';
import {Server} from '../lib/server.js';

/**
 * @typedef {import('playwright-core').BrowserContextOptions} ContextOptions
 */

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/**
 * The pages, and how to bring them into their states.
 * @type {Record<string, () => Promise<void>>}
 */
const scenes = {
  'index.html': async () => {
    const [ann, ben] = await Promise.all([create(), create()]);
    const start = await ann.open('/');
    await start.locator('.code-input').waitFor();
    await checkLooks(start, 'index', ['.start-call']);
    const call = await ben.open('/call.html');
    await enterCode(start, await shownCode(call));
    await shownDigits(start);
    await checkLooks(start, 'index-digits');
    await checkLooks(call, 'call-digits');
    await Promise.all([ann.close(), ben.close()]);
  },

  'call.html': async () => {
    const [ann, ben] = await Promise.all([create(), create()]);
    const first = await ann.open('/call.html');
    await waitForTitle(first, 'Waiting for the other device');
    await first.locator('.code-text').waitFor();
    await checkLooks(first, 'call-waiting', ['.status', '#hang-up']);
    const second = await ben.open(await sharedLink(first));
    await waitForBothPictures(first, second);
    await checkLooks(first, 'call', ['.status', '#hang-up']);
    await press(first, 'More');
    await first.getByText('direct', {exact: true}).waitFor();
    await checkLooks(first, 'call-panel', ['#hang-up']);
    await press(first, 'More');
    await press(second, 'Camera');
    await first.locator('#picture-note').waitFor();
    await checkLooks(first, 'call-camera-off', ['.status', '#hang-up']);
    await press(first, 'Hang up');
    await waitForTitle(first, 'The call has ended');
    await checkLooks(first, 'call-ended', ['.status']);
    await Promise.all([ann.close(), ben.close()]);
  },

  'send.html': async () => {
    const device = await create();
    const camera = await device.open('/send.html');
    await waitForTitle(camera, 'Ready when you are');
    await camera.locator('.code-text').waitFor();
    await checkLooks(camera, 'send-ready', ['.status']);
    const screen = await device.open(await sharedLink(camera));
    await pressStart(camera);
    await waitForPicture(screen);
    await waitForTitle(camera, 'Connected');
    await checkLooks(camera, 'send-connected', ['.status', '#stop']);
    await checkLooks(await device.open('/send.html#incomplete'), 'bad-link', ['.status']);
    await device.close();
  },

  'receive.html': async () => {
    const device = await create();
    const screen = await device.open('/receive.html');
    await waitForTitle(screen, 'Waiting for the camera');
    await screen.locator('.code-text').waitFor();
    await checkLooks(screen, 'receive-waiting', ['.status']);
    const camera = await device.open(await sharedLink(screen));
    await pressStart(camera);
    await waitForPicture(screen);
    await checkLooks(screen, 'receive-connected', ['.status', '#sound']);
    await device.close();
  },

  'test.html': async () => {
    const device = await create();
    const page = await device.open('/test.html');
    await page.getByRole('button', {name: 'Run again'}).and(page.locator(':not([aria-disabled="true"])')).waitFor();
    await checkLooks(page, 'test', ['.status']);
    await device.close();
  },

  '404.html': async () => {
    const device = await create();
    device.allowError(/404/);
    await checkLooks(await device.open('/nothing/here'), 'not-found', ['h1']);
    await device.close();
  },
};

/**
 * Returns a device for which the server has an address of the network, so that its pages
 * show links and QR codes.
 * @param {ContextOptions} [context]
 */
async function create(context = {}) {
  const device = await Device.create(browser, server.origin, context);
  const addresses = [{scheme: 'https', host: '192.0.2.17', port: 3000}, {scheme: 'https', host: '[2001:db8::17]', port: 3000}];
  await device.context.route('**/addresses', route => route.fulfill({json: {addresses}}));
  return device;
}

test('every page has a scene', () => {
  assert.deepEqual(Object.keys(scenes).sort(), htmlNames.sort());
});

for (const [name, scene] of Object.entries(scenes)) test(name, {skip}, scene);

test('no control is displayed before it works', {skip}, async () => {
  const device = await create();
  for (const name of htmlNames.filter(name => name !== '404.html')) {
    const module = `**/bundles/${name.replace('.html', '.js')}`;
    await device.context.route(module, () => {}); // it never arrives
    const page = await device.context.newPage();
    await page.goto(`${server.origin}/${name}`, {waitUntil: 'commit'});
    await page.locator('main').waitFor();
    const controls = await page.evaluate(() => [...document.querySelectorAll('button, input, select, textarea')]
      .filter(control => control.checkVisibility() && !control.matches(':disabled')).map(control => control.outerHTML));
    assert.deepEqual(controls, [], name);
    await checkLooks(page, `${name.replace('.html', '')}-loading`, [], ['light']);
    await page.close();
    await device.context.unroute(module);
  }
  await device.close();
});

/** @param {object} texts @returns {object} the texts that are strings, marked as translated */
function translated(texts) {
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => typeof text !== 'function').map(([key, text]) =>
    [key, typeof text === 'string' ? `${text} ترجم` : translated(text)]));
}

/**
 * Adds a made-up translation into Arabic to what a device loads.
 * @param {Device} device
 */
async function translate(device) {
  const script = readPublic('reload-on-error.js') + readPublic('language.js').replace('translations = []', "translations = ['ar']");
  const module = `export const strings = ${JSON.stringify(translated(strings))};`;
  await device.context.route('**/bundles/early.js', route => route.fulfill({body: script, contentType: 'text/javascript'}));
  await device.context.route(({pathname}) => pathname === '/strings.ar.js', route => route.fulfill({body: module, contentType: 'text/javascript'}));
}

test('the pages in a language from right to left', {skip}, async () => {
  const device = await create({locale: 'ar-EG'});
  await translate(device);
  device.allowError(/404/); // the page that does not exist
  for (const name of htmlNames) {
    const page = await device.open(name === '404.html' ? '/nothing' : `/${name}`);
    await page.waitForFunction(() => document.title.endsWith('ترجم'));
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).direction), 'rtl', name);
    if (name === 'send.html' || name === 'call.html') await page.locator('.code-text').waitFor();
    if (name === 'send.html') await page.getByText('Ready when you are ترجم').waitFor();
    await page.setViewportSize(sizes.desk);
    await assertFits(page, `${name} from right to left`);
    await checkLooks(page, `${name.replace('.html', '')}-rtl`, [], ['light']);
  }
  await device.close();
});

test('a page in English, or in a language without a translation, requests no texts', {skip}, async () => {
  for (const locale of ['en-GB', 'ar-EG']) {
    const device = await create({locale});
    /** @type {string[]} */
    const requested = [];
    device.context.on('request', request => requested.push(new URL(request.url()).pathname));
    const page = await device.open('/');
    await page.locator('.code-input').waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.lang), 'en', locale);
    assert.deepEqual(requested.filter(path => /strings\./.test(path)), [], locale);
    await device.close();
  }
});
