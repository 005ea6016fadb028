/** Tests the pages for one camera: prompts, tracks that mute, sound, full screen, and a phone held sideways. */

import assert from 'node:assert/strict';
import {after, afterEach, before, beforeEach, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** @typedef {import('../lib/browser.js').Page} Page */

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {Device} */
let ann;
/** @type {Device} */
let ben;

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  browser = await launch(['--use-fake-device-for-media-stream=fps=10,device-count=2']);
});

beforeEach(async () => {
  if (skip) return;
  ann = await Device.create(browser, server.origin);
  ben = await Device.create(browser, server.origin);
});

afterEach(async () => {
  await ann?.close();
  await ben?.close();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

async function startCall() {
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);
  await waitForTitle(camera, 'Connected');
  return {camera, screen};
}

/** Runs in the page: makes its camera track muted, as an incoming call does on phones. @param {boolean} muted */
function setMuted(muted) {
  const video = /** @type {HTMLVideoElement} */ (document.querySelector('#preview'));
  const [track] = /** @type {MediaStream} */ (video.srcObject).getTracks();
  Object.defineProperty(track, 'muted', {value: muted, configurable: true});
  track.dispatchEvent(new Event(muted ? 'mute' : 'unmute'));
}

test('a camera that the system pauses or ends is told on both sides', {skip}, async () => {
  const {camera, screen} = await startCall();
  await camera.evaluate(setMuted, true);
  await waitForTitle(camera, 'The system has paused the camera');
  await waitForTitle(screen, 'The other device has paused its camera');
  await camera.evaluate(setMuted, false);
  await waitForTitle(camera, 'Connected');
  await waitForTitle(screen, 'Connected');
  await camera.evaluate(() => {
    const video = /** @type {HTMLVideoElement} */ (document.querySelector('#preview'));
    /** @type {MediaStream} */ (video.srcObject).getTracks()[0].dispatchEvent(new Event('ended'));
  });
  await waitForTitle(camera, 'The camera has stopped');
  await waitForTitle(screen, 'The camera has stopped');
  await pressStart(camera);
  await waitForPicture(screen);
});

/** Runs in the page: leaves the first question of a kind without an answer. @param {string} kind video or audio */
function ignoreQuestion(kind) {
  const {mediaDevices} = navigator;
  if (!mediaDevices) return; // about:blank
  const original = mediaDevices.getUserMedia.bind(mediaDevices);
  navigator.permissions.query = async () => /** @type {PermissionStatus} */ (/** @type {unknown} */ ({state: 'prompt'}));
  let asked = false;
  mediaDevices.getUserMedia = wishes => {
    if (!wishes?.[/** @type {'video'|'audio'} */ (kind)] || asked) return original(wishes);
    asked = true;
    return new Promise(() => {});
  };
}

test('a question about the camera that stays unanswered: another choice replaces it, and cancel ends it', {skip}, async () => {
  await ann.context.addInitScript(ignoreQuestion, 'video');
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  await waitForTitle(camera, 'Answer the browser’s question');
  await camera.getByRole('button', {name: 'Cancel'}).click();
  await waitForTitle(camera, 'Ready when you are');
  await camera.reload();
  await pressStart(camera);
  await waitForTitle(camera, 'Answer the browser’s question');
  await camera.getByLabel('Camera', {exact: true}).selectOption({index: 1});
  await waitForTitle(camera, 'Waiting for the other screen');
});

test('a question about the microphone does not hold up the picture', {skip}, async () => {
  await ann.context.addInitScript(ignoreQuestion, 'audio');
  const camera = await ann.open('/send.html');
  await pressStart(camera);
  const screen = await ben.open(await sharedLink(camera));
  await waitForPicture(screen);
  await screen.getByText('Without sound: the microphone is off there.').waitFor();
  await waitForTitle(camera, 'Answer the browser’s question');
  await camera.getByLabel('Microphone', {exact: true}).selectOption({index: 1});
  await waitForTitle(camera, 'Connected');
  await screen.getByText(/^Encrypted from/).waitFor();
});

test('a browser without a camera for pages is told so, with the browser to use', {skip}, async () => {
  await ann.context.addInitScript(() => Object.defineProperty(Navigator.prototype, 'mediaDevices', {value: undefined}));
  const camera = await ann.open('/send.html');
  await waitForTitle(camera, 'This browser gives pages no camera');
  await camera.getByText('open it in a current Firefox').waitFor();
  assert.equal(await camera.getByRole('button', {name: 'Start'}).count(), 0, 'a start button');
  await ann.context.grantPermissions(['clipboard-write', 'clipboard-read']);
  await camera.getByRole('button', {name: 'Copy the link of this page'}).click();
  await camera.getByRole('button', {name: 'Copied'}).waitFor();
  assert.equal(await camera.evaluate(() => navigator.clipboard.readText()), camera.url());
});

/** Runs in the page: refuses sound before a press, as browsers do. For them, the test itself is a gesture. */
function refuseSound() {
  const original = HTMLMediaElement.prototype.play;
  let pressed = false;
  addEventListener('pointerdown', () => (pressed = true), true);
  HTMLMediaElement.prototype.play = function () {
    const refused = !this.muted && !pressed;
    return refused ? Promise.reject(new DOMException('', 'NotAllowedError')) : original.call(this);
  };
}

test('a press on the picture turns the sound on, and full screen fades its controls', {skip}, async () => {
  await ben.context.addInitScript(refuseSound);
  const {screen} = await startCall();
  await screen.bringToFront();
  const muted = () => /** @type {HTMLVideoElement} */ (document.querySelector('#picture')).muted;
  await screen.getByText('Press the picture to turn the sound on').waitFor();
  const box = await screen.locator('.stage').boundingBox();
  await screen.mouse.click((box?.x ?? 0) + 40, (box?.y ?? 0) + 40);
  await screen.waitForFunction(() => !/** @type {HTMLVideoElement} */ (document.querySelector('#picture')).muted);
  await screen.getByRole('button', {name: 'Mute'}).click();
  assert.ok(await screen.evaluate(muted), 'muted by the button');
  await screen.getByRole('button', {name: 'Full screen'}).click();
  await screen.locator('.in-fullscreen .status-title', {hasText: 'Connected'}).waitFor();
  await screen.mouse.move(100, 100);
  await screen.evaluate(() => /** @type {HTMLElement} */ (document.activeElement).blur());
  await screen.locator('.controls-hidden').waitFor();
  await screen.mouse.move(120, 120);
  await screen.locator('.receive-layout:not(.controls-hidden)').waitFor();
});

test('on a phone held sideways, the status and Stop stay in view', {skip}, async () => {
  const {camera, screen} = await startCall();
  for (const page of [camera, screen]) await page.setViewportSize({width: 844, height: 390});
  for (const position of [0, 10_000]) {
    await camera.evaluate(top => scrollTo(0, top), position);
    await assertInView(camera, '.status-title');
    await assertInView(camera, '#stop');
    await assertInView(screen, '.status-title');
  }
  await camera.getByRole('button', {name: 'Stop'}).click();
  await waitForTitle(screen, 'The camera page is open');
  await assertInView(screen, '.status-title');
  await screen.reload();
  await waitForTitle(screen, 'The camera page is open');
  await assertInView(screen, '.status-title');
});

/** Fails if an element is not completely in the window. @param {Page} page @param {string} selector */
async function assertInView(page, selector) {
  const box = await page.locator(selector).boundingBox();
  const size = page.viewportSize();
  assert.ok(box && size && box.y >= 0 && box.y + box.height <= size.height, `${selector} is at ${JSON.stringify(box)}`);
}
