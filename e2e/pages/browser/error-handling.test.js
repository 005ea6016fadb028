/** Tests error handling: each error is shown with a hint, and the page stays usable. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

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
 * Runs a test with one device.
 * @param {(device: Device) => Promise<void>} use
 * @param {string} [origin]
 * @param {import('../lib/browser.js').Browser} [on]
 */
async function withDevice(use, origin = server.origin, on = browser) {
  const device = await Device.create(on, origin);
  await use(device);
  await device.close();
}

/**
 * Runs a test with one device in a separate browser with other flags.
 * @param {string[]} flags
 * @param {(device: Device) => Promise<void>} use
 * @param {string} [origin]
 */
async function withFlags(flags, use, origin) {
  const browserWithFlags = await launch(flags);
  try {
    await withDevice(use, origin, browserWithFlags);
  } finally {
    await browserWithFlags.close();
  }
}

test('access to the camera is denied', {skip}, () => withFlags(['--use-fake-ui-for-media-stream=deny'], async device => {
  const camera = await device.open('/send.html');
  await pressStart(camera);
  await waitForTitle(camera, 'Access to the camera was denied');
  assert.ok(await camera.getByRole('button', {name: 'Start'}).isEnabled(), 'start is enabled');
}));

test('no camera is found', {skip}, () => withFlags(['--use-fake-device-for-media-stream=device-count=0'], async device => {
  const camera = await device.open('/send.html');
  await pressStart(camera);
  await waitForTitle(camera, 'No camera was found');
}));

test('the camera is in use, and available on the next attempt', {skip}, () => withDevice(async device => {
  await device.context.addInitScript(() => {
    const {mediaDevices} = navigator;
    if (!mediaDevices) return; // about:blank
    const original = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = () => {
      mediaDevices.getUserMedia = original;
      return Promise.reject(new DOMException('', 'NotReadableError'));
    };
  });
  const camera = await device.open('/send.html');
  await pressStart(camera);
  await waitForTitle(camera, 'The camera is in use by another program');
  await pressStart(camera);
  await waitForTitle(camera, 'Waiting for the other screen');
}));

test('without a microphone, the call has no sound', {skip}, () => withDevice(async device => {
  await device.context.addInitScript(() => {
    const {mediaDevices} = navigator;
    if (!mediaDevices) return; // about:blank
    const original = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = wishes =>
      wishes?.audio ? Promise.reject(new DOMException('', 'NotFoundError')) : original(wishes);
  });
  const camera = await device.open('/send.html');
  await pressStart(camera);
  const screen = await device.open(await sharedLink(camera));
  await waitForPicture(screen);
  await camera.getByText('Without sound: no microphone was found.').waitFor();
}));

test('the camera is unplugged during a call', {skip}, () => withDevice(async device => {
  const camera = await device.open('/send.html');
  await pressStart(camera);
  const screen = await device.open(await sharedLink(camera));
  await waitForPicture(screen);
  await camera.evaluate(() => {
    const video = /** @type {HTMLVideoElement} */ (document.querySelector('#preview'));
    const stream = /** @type {MediaStream} */ (video.srcObject);
    stream.getTracks()[0].dispatchEvent(new Event('ended'));
  });
  await waitForTitle(camera, 'The camera has stopped');
  await waitForTitle(screen, 'The camera has stopped');
  await pressStart(camera);
  await waitForPicture(screen);
}));

test('the focus moves between the start and stop buttons', {skip}, () => withDevice(async device => {
  const camera = await device.open('/send.html');
  const focused = () => camera.evaluate(() => document.activeElement?.id || document.activeElement?.tagName);
  await camera.locator('#start:enabled').waitFor();
  await camera.focus('#start');
  await camera.keyboard.press('Enter');
  await waitForTitle(camera, 'Waiting for the other screen');
  await camera.waitForFunction(() => document.querySelector('#stop')?.checkVisibility());
  assert.equal(await focused(), 'stop');
  await camera.keyboard.press('Enter');
  await waitForTitle(camera, 'Ready when you are');
  assert.equal(await focused(), 'start');
}));

/** Runs in the page: makes screen capture fail as if the user cancelled it. */
function rejectScreenCapture() {
  const {mediaDevices} = navigator;
  if (mediaDevices) mediaDevices.getDisplayMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'));
}

test('cancelling screen capture restores the previous choice', {skip}, () => withDevice(async device => {
  await device.context.addInitScript(rejectScreenCapture);
  const camera = await device.open('/send.html');
  const list = camera.getByLabel('Camera', {exact: true});
  await waitForTitle(camera, 'Ready when you are');
  const before = await list.inputValue();
  await list.selectOption('screen');
  await camera.getByText('The screen was not shared.').waitFor();
  await waitForTitle(camera, 'Ready when you are');
  assert.equal(await list.inputValue(), before, 'the previous choice');

  await pressStart(camera);
  const screen = await device.open(await sharedLink(camera));
  await waitForPicture(screen);
  const during = await list.inputValue();
  await list.selectOption('screen');
  await camera.getByText('The screen was not shared.').waitFor();
  await waitForTitle(camera, 'Connected');
  assert.equal(await list.inputValue(), during, 'the previous choice');
  await waitForPicture(screen); // still of the camera
}));

test('cancelling screen capture on start does not start a call', {skip}, () => withDevice(async device => {
  await device.context.addInitScript(rejectScreenCapture);
  await device.context.addInitScript(() => globalThis.origin !== 'null' && sessionStorage.setItem('video', 'screen'));
  const camera = await device.open('/send.html');
  await pressStart(camera);
  await camera.getByText('The screen was not shared.').waitFor();
  await waitForTitle(camera, 'Ready when you are');
  assert.ok(await camera.getByRole('button', {name: 'Start'}).isEnabled(), 'start is enabled');
}));

/** Runs in the page: records wake locks, and grants a request when the test says so. */
function fakeWakeLocks() {
  const win = /** @type {any} */ (window);
  win.locks = [];
  win.granted = Promise.resolve();
  const request = async () => {
    await win.granted;
    const lock = Object.assign(new EventTarget(), {released: false, release: async () => {
      lock.released = true;
      lock.dispatchEvent(new Event('release'));
    }});
    win.locks.push(lock);
    return lock;
  };
  Object.defineProperty(navigator, 'wakeLock', {value: {request}});
}

test('the wake lock is requested again after the page was hidden, and released after the call', {skip}, () => withDevice(async device => {
  await device.context.addInitScript(fakeWakeLocks);
  const screen = await device.open('/receive.html');
  const camera = await device.open(await sharedLink(screen));
  const locks = () => screen.evaluate(() => /** @type {any} */ (window).locks.map((/** @type {any} */ lock) => lock.released));
  await pressStart(camera);
  await screen.bringToFront();
  await waitForTitle(screen, 'Connected');
  await screen.waitForFunction(() => /** @type {any} */ (window).locks.length === 1);
  // Browsers release the lock of a hidden page. The event shows the page again.
  await screen.evaluate(() => {
    const win = /** @type {any} */ (window);
    void win.locks[0].release();
    win.granted = new Promise(resolve => { win.grant = resolve; });
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await camera.getByRole('button', {name: 'Stop'}).click();
  await waitForTitle(screen, 'The camera page is open');
  await screen.evaluate(() => /** @type {any} */ (window).grant());
  await screen.waitForFunction(() => /** @type {any} */ (window).locks.length === 2);
  await screen.waitForFunction(() => /** @type {any} */ (window).locks[1].released);
  assert.deepEqual(await locks(), [true, true]);
}));

test('a choice survives a reload, and works without storage', {skip}, () => withDevice(async device => {
  const camera = await device.open('/send.html');
  const microphone = camera.getByLabel('Microphone', {exact: true});
  await microphone.selectOption('none');
  await camera.reload();
  await waitForTitle(camera, 'Ready when you are');
  assert.equal(await microphone.inputValue(), 'none');
  await device.context.addInitScript(() => {
    Object.defineProperty(window, 'sessionStorage', {get: () => { throw new DOMException('', 'SecurityError'); }});
  });
  await camera.reload();
  await microphone.selectOption('none');
  await pressStart(camera);
  await waitForTitle(camera, 'Waiting for the other screen');
}));

test('an invalid link', {skip}, () => withDevice(async device => {
  await waitForTitle(await device.open('/receive.html#incomplete'), 'This link is incomplete');
}));

test('a tab that may play sound does, and the user can mute it', {skip}, () => withDevice(async device => {
  const camera = await device.open('/send.html');
  await pressStart(camera);
  const screen = await device.open(await sharedLink(camera));
  await waitForPicture(screen);
  const muted = () => /** @type {HTMLVideoElement} */ (document.querySelector('#picture')).muted;
  assert.ok(!(await screen.evaluate(muted)), 'audible at first: the same browser uses a microphone');
  await screen.getByRole('button', {name: 'Mute'}).click();
  assert.ok(await screen.evaluate(muted), 'muted');
  await screen.getByRole('button', {name: 'Unmute'}).click();
  assert.ok(!(await screen.evaluate(muted)), 'audible again');
}));

test('a permanent error is shown without a countdown', {skip}, () => withDevice(async device => {
  device.allowError(/status of 403/);
  await device.context.route('**/inbox?to=*', route => route.fulfill({
    status: 403, contentType: 'application/problem+json', body: '{"type":"urn:inbox:problem:cross-site","title":"t"}',
  }));
  const screen = await device.open('/receive.html');
  await waitForTitle(screen, 'The server does not accept requests from this page');
  assert.equal(await screen.locator('.status-countdown').textContent(), '');
}));

test('plain HTTP from another machine is not a secure context', {skip}, async () => {
  const httpServer = new Server(['-https=false']);
  await httpServer.start();
  const origin = httpServer.origin.replace('https://localhost', 'http://camera.test');
  try {
    await withFlags(['--host-resolver-rules=MAP camera.test 127.0.0.1'], async device => {
      device.allowError(/Cross-Origin-Opener-Policy header has been ignored/); // same cause
      await waitForTitle(await device.open('/send.html'), 'This page is not on a secure connection');
      await waitForTitle(await device.open('/receive.html'), 'This page is not on a secure connection');
    }, origin);
  } finally {
    await httpServer.remove();
  }
});

for (const [limit, status, title] of /** @type {const} */ ([
  ['-max-inboxes', 503, 'The server is full'],
  ['-max-inboxes-per-ip', 429, 'Too many requests'],
])) {
  test(`${status}: the page counts down and continues`, {skip}, async () => {
    const limited = new Server([limit, '1', '-inbox-timeout', '6']);
    await limited.start();
    try {
      await withDevice(device => waitForExpiry(device, limited, status, title), limited.origin);
    } finally {
      await limited.remove();
    }
  });
}

/**
 * Claims the only mailbox, checks the notice of the page, then lets the mailbox expire.
 * @param {Device} device
 * @param {Server} limited
 * @param {number} status
 * @param {string} title
 */
async function waitForExpiry(device, limited, status, title) {
  device.allowError(new RegExp(`status of ${status}`));
  device.allowError(/status of 404/); // with this timeout, the server responds to a waiting POST before the page aborts it
  // Without no-cache, this looks like a request of another site's element.
  const headers = {Authorization: `Basic ${btoa('other:secret')}`, 'Cache-Control': 'no-cache'};
  const claim = async () => (await device.context.request.get(`${limited.origin}/inbox?wait=0`, {headers})).status();
  assert.equal(await claim(), 204);
  const renewal = setInterval(() => void claim().catch(() => {}), 500);
  try {
    const screen = await device.open('/receive.html');
    await waitForTitle(screen, title);
    await screen.locator('.status-countdown', {hasText: /^Next try in \d+ s\.$/}).waitFor();
    clearInterval(renewal);
    await waitForTitle(screen, 'Waiting for the camera');
  } finally {
    clearInterval(renewal);
  }
}
