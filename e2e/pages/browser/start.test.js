/** Two devices start from the start page, and end in the same room: by code, by link, and tomorrow. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, executablePath, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {enterCode, joinByCode, shownCode, shownDigits} from '../lib/codes.js';
import {Namespace, skipNamespaces} from '../lib/namespace.js';
import {Server} from '../lib/server.js';

/** @typedef {import('playwright-core').Page} Page */

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

/** @param {string} [origin] @param {import('../lib/browser.js').Browser} [where] */
async function twoDevices(origin = server.origin, where = browser) {
  const devices = await Promise.all([Device.create(where, origin), Device.create(where, origin)]);
  for (const device of devices) device.allowError(/status of (404|403)/); // a wrong code, and refused addresses
  return devices;
}

/** @param {Device[]} devices */
const closeAll = devices => Promise.all(devices.map(device => device.close()));
/** @param {Page} page */
const fragmentOf = page => new URL(page.url()).hash;
/** @param {Page} page */
const error = page => page.locator('.code-error');

test('two start pages end in one call by code, with the keyboard only', {skip}, async () => {
  const devices = await twoDevices();
  const [ann, ben] = await Promise.all(devices.map(device => device.open('/')));
  await ann.getByRole('link', {name: 'Start a call'}).press('Enter');
  await ann.waitForURL(/call\.html#/);
  const code = await shownCode(ann);
  await enterCode(ben, 'abc 23o');
  await error(ben).getByText('without 0, O, 1, I and L').waitFor();
  await enterCode(ben, code.startsWith('2') ? '345678' : '234567');
  await error(ben).getByText('No device shows this code').waitFor();
  await enterCode(ben, code.toLowerCase().replace(' ', '-'));
  const digits = await shownDigits(ann);
  assert.equal(await shownDigits(ben), digits);
  await ann.getByRole('button', {name: 'Refuse'}).click();
  await error(ben).getByText('The other device refused').waitFor();
  await ann.waitForFunction(old => ![old, '··· ···'].includes(document.querySelector('.code-text')?.textContent ?? ''), code);
  await joinWithKeys(ann, ben);
  await ben.waitForURL(/call\.html#/);
  assert.equal(fragmentOf(ben), fragmentOf(ann));
  for (const page of [ann, ben]) await waitForPicture(page);
  await closeAll(devices);
});

/** Joins by code with the keyboard. @param {Page} owner @param {Page} joiner */
async function joinWithKeys(owner, joiner) {
  await enterCode(joiner, await shownCode(owner));
  assert.equal(await shownDigits(joiner), await shownDigits(owner));
  await joiner.waitForFunction(() => document.activeElement?.className === 'code-title');
  await pressWithKeys(joiner, 'The digits are the same');
  await pressWithKeys(owner, 'Let in');
}

/** Moves the focus to a button with the Tab key, and presses it. @param {Page} page @param {string} name */
async function pressWithKeys(page, name) {
  await page.locator('.code-panel button:enabled', {hasText: name}).waitFor();
  for (let i = 0; i < 60; i++) {
    if (await page.evaluate(() => document.activeElement?.textContent) === name) return page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
  }
  assert.fail(`the Tab key does not reach ${name}`);
}

test('a camera and a screen that were opened apart are joined by code', {skip}, async () => {
  const devices = await twoDevices();
  const [camera, screen] = await Promise.all(devices.map(device => device.open('/')));
  await camera.getByRole('link', {name: 'This device is the camera'}).click();
  await screen.getByRole('link', {name: 'This device is the screen'}).click();
  const [left, joined] = [await shownCode(camera).then(() => fragmentOf(camera)), await shownCode(screen).then(() => fragmentOf(screen))];
  assert.notEqual(left, joined);
  await joinByCode(screen, camera);
  await camera.waitForFunction(hash => location.hash === hash, joined);
  await waitForTitle(camera, 'The other screen is waiting');
  await pressStart(camera);
  await waitForPicture(screen);
  assert.ok(await screen.locator('.code-box').isHidden(), 'a connected call shows no code');
  await closeAll(devices);
});

test('two cameras are told so, and one becomes the screen', {skip}, async () => {
  const devices = await twoDevices();
  const [first, second] = await Promise.all(devices.map(device => device.open('/send.html')));
  await joinByCode(first, second);
  await second.getByText('The other device is a camera').waitFor();
  assert.match(second.url(), /send\.html/);
  await second.getByRole('button', {name: 'Continue'}).click();
  await second.waitForURL(/receive\.html#/);
  assert.equal(fragmentOf(second), fragmentOf(first));
  await closeAll(devices);
});

test('digits that differ: a new code needs a press', {skip}, async () => {
  const devices = await twoDevices();
  const [owner, joiner] = await Promise.all([devices[0].open('/receive.html'), devices[1].open('/')]);
  await enterCode(joiner, await shownCode(owner));
  await shownDigits(owner);
  await joiner.getByRole('button', {name: 'They differ'}).click();
  await error(joiner).getByText('because the digits differ').waitFor();
  await owner.getByText('It left before you decided').waitFor();
  await joiner.close();
  await owner.getByRole('button', {name: 'Show a new code'}).click();
  await shownCode(owner);
  await closeAll(devices);
});

test('a hidden page claims no code, and a closed one releases it', {skip}, async () => {
  const device = await Device.create(browser, server.origin);
  /** @type {string[]} */
  const requests = [];
  device.context.on('request', request => {
    const {authorization = ''} = request.headers();
    const name = atob(authorization.replace('Basic ', '')).split(':')[0];
    if (name.startsWith('code-')) requests.push(`${request.method()} ${name}`);
  });
  await device.context.addInitScript(() => {
    const win = /** @type {any} */ (window);
    if (location.pathname === '/receive.html') Object.defineProperty(document, 'visibilityState', {get: () => win.seen ? 'visible' : 'hidden'});
  });
  const page = await device.open('/receive.html');
  await waitForTitle(page, 'Waiting for the camera');
  assert.deepEqual(requests, []);
  await page.evaluate(() => {
    /** @type {any} */ (window).seen = true;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  const code = (await shownCode(page)).replace(' ', '');
  assert.ok(requests.length > 0 && requests.every(request => request === `GET code-${code}`), requests.join());
  await page.goto(`${server.origin}/`);
  device.allowError(/status of 404/);
  await enterCode(page, code);
  await error(page).getByText('No device shows this code').waitFor();
  await device.close();
});

test('a remembered room opens from the start page, and can be forgotten', {skip}, async () => {
  const device = await Device.create(browser, server.origin);
  const page = await device.open('/call.html');
  await page.getByLabel('Remember this room').check();
  await page.getByLabel('Name').fill('غرفة المعيشة');
  const room = fragmentOf(page);
  await page.close();
  const start = await device.open('/');
  await start.getByRole('link', {name: 'غرفة المعيشة'}).click();
  await start.waitForURL(/call\.html#/);
  assert.equal(fragmentOf(start), room);
  assert.ok(await start.getByLabel('Remember this room').isChecked());
  await start.goBack();
  await start.getByRole('button', {name: 'Rename غرفة المعيشة'}).click();
  await start.keyboard.type('<b>Oma & Opa</b>');
  await start.keyboard.press('Enter');
  await start.getByRole('button', {name: 'Forget <b>Oma & Opa</b>'}).click();
  await start.getByRole('button', {name: 'Undo'}).click();
  await start.getByRole('button', {name: /^Forget/}).click();
  await start.reload();
  assert.ok(await start.locator('.rooms').isHidden());
  assert.equal(await start.evaluate(() => localStorage.getItem('inbox.rooms')), null);
  await device.close();
});

test('on localhost without its addresses, there is a code and no link', {skip}, async t => {
  const proxied = new Server(['-trusted-proxies', '127.0.0.1']);
  t.after(() => proxied.remove());
  await proxied.start();
  const devices = await twoDevices(proxied.origin);
  const [screen, camera] = await Promise.all([devices[0].open('/receive.html'), devices[1].open('/send.html')]);
  const port = new URL(proxied.origin).port;
  await screen.getByText(`such as https://ADDRESS:${port}/`).waitFor();
  assert.ok(await screen.locator('.share-qr').isHidden() && await screen.locator('.share-link').isHidden());
  await joinByCode(screen, camera);
  await waitForTitle(camera, 'The other screen is waiting');
  await closeAll(devices);
});

test('on localhost, the link has an address of the network', {skip: skip || skipNamespaces}, async t => {
  const namespace = new Namespace(['192.168.77.2/24', '10.77.0.2/24']);
  const local = new Server([], {host: '0.0.0.0', namespace: namespace.name});
  const inside = await launch([], namespace.script(executablePath));
  t.after(async () => {
    await inside.close();
    await local.remove();
    namespace.remove();
  });
  await local.start();
  const {port} = new URL(local.origin);
  const ann = await Device.create(inside, local.origin);
  const camera = await ann.open('/send.html');
  const field = camera.getByLabel('Link for the other device');
  const choice = camera.getByLabel('Address of this computer');
  await field.waitFor();
  assert.deepEqual((await choice.locator('option').allTextContents()).sort(), [`10.77.0.2:${port}`, `192.168.77.2:${port}`]);
  const links = [];
  for (const host of ['10.77.0.2', '192.168.77.2']) {
    await choice.selectOption(`${host}:${port}`);
    links.push(await field.inputValue());
    assert.ok(links[links.length - 1].startsWith(`https://${host}:${port}/receive.html#`), links.join());
  }
  assert.doesNotMatch(await camera.locator('.share-qr').innerHTML(), /localhost/);
  await camera.reload();
  await field.waitFor();
  assert.equal(await field.inputValue(), links[1], 'the choice is kept');
  const ben = await Device.create(inside, new URL(links[1]).origin);
  const screen = await ben.open(links[1]);
  await waitForTitle(camera, 'The other screen is waiting');
  await pressStart(camera);
  await waitForPicture(screen);
  assert.equal(await sharedLink(camera), links[1].replace('192.168.77.2', 'localhost'), 'the link in this browser');
  await closeAll([ann, ben]);
});
