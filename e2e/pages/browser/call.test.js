/** Tests two-way calls in Chromium: every control, hanging up, a third device, and cameras that fail. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, skip, waitForPicture, waitForText, waitForTitle} from '../lib/browser.js';
import {
  answerQuestion, assertInView, denyDevices, leaveQuestionsUnanswered, openCall, press, removeDevices, waitForBothPictures,
} from '../lib/calls.js';
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
  browser = await launch(['--use-fake-device-for-media-stream=fps=10,device-count=2']);
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

/** Opens a call page on two devices. @param {Parameters<typeof openCall>[2]} [options] */
const open = options => openCall(browser, server.origin, options);

/** @param {Page} page @param {string} name @param {boolean} pressed */
async function waitForPressed(page, name, pressed) {
  await page.getByRole('button', {name, exact: true, pressed}).waitFor();
}

test('two devices join by link without a press, and every control works', {skip}, async () => {
  const {ann, ben, first, second} = await open();
  await waitForBothPictures(first, second);
  const own = first.locator('.self.mirrored video');
  assert.equal(await own.evaluate(video => getComputedStyle(video).transform), 'matrix(-1, 0, 0, 1, 0, 0)');
  await pressSources(first, second);
  await pressPanel(first);
  await shareScreen(first, second);
  await pauseAndUnplug(first, second);
  await checkLayout(first);
  await pressFullscreen(first);
  await press(first, 'Picture in picture');
  await waitForPressed(first, 'Picture in picture', true);
  await press(first, 'Hang up');
  await first.waitForFunction(() => document.pictureInPictureElement === null);
  await ann.close();
  await ben.close();
});

/**
 * Turns microphone and camera off and on, and changes the camera.
 * @param {Page} first @param {Page} second
 */
async function pressSources(first, second) {
  await press(first, 'Microphone');
  await waitForPressed(first, 'Microphone', false);
  await waitForText(second, 'The other microphone is off');
  await press(first, 'Camera');
  await waitForText(second, 'The other camera is off');
  await waitForText(first, 'Your camera is off');
  await press(first, 'Camera');
  await second.locator('#picture-note').waitFor({state: 'hidden'});
  await waitForPicture(second);
  await press(first, 'Microphone');
  await second.locator('#sound-note').waitFor({state: 'hidden'});
  const camera = () => first.locator('#self').evaluate(video => /** @type {any} */ (video).srcObject.getTracks()[0].label);
  const label = await camera();
  await press(first, 'Switch camera');
  await first.waitForFunction(old => /** @type {any} */ (document.querySelector('#self'))?.srcObject?.getTracks()[0].label !== old, label);
  await first.locator('#microphone-button .lit').first().waitFor();
}

/** Reads the connection and chooses other devices in the panel. @param {Page} page */
async function pressPanel(page) {
  await press(page, 'More');
  const panel = page.getByRole('region', {name: 'Devices and connection'});
  await panel.getByText('direct', {exact: true}).waitFor();
  await panel.getByText(/^\d+ × \d+, \d+ fps$/).first().waitFor();
  await panel.getByLabel('Camera').selectOption({index: 0});
  await panel.getByLabel('Speaker').selectOption({index: 1});
  await page.waitForFunction(() => /** @type {any} */ (document.querySelector('#picture')).sinkId !== '');
  await page.keyboard.press('Escape');
  await panel.waitFor({state: 'hidden'});
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'more');
}

/**
 * Full screen: the controls fade out, and in again. They stay while one of them has the focus.
 * @param {Page} page
 */
async function pressFullscreen(page) {
  await press(page, 'Full screen');
  await page.locator('.in-fullscreen').waitFor();
  await page.mouse.move(300, 200);
  await page.evaluate(() => /** @type {HTMLElement} */ (document.activeElement).blur());
  await page.locator('.controls-hidden').waitFor();
  await page.mouse.move(310, 200);
  await page.locator('.call-layout:not(.controls-hidden)').waitFor();
  await assertInView(page, ['.status', '#hang-up']);
  await page.keyboard.press('Tab');
  await page.waitForTimeout(3_500); // longer than the delay of the controls
  assert.equal(await page.locator('.controls-hidden').count(), 0, 'a control has the focus');
  await press(page, 'Full screen');
  await page.locator('.call-layout:not(.in-fullscreen)').waitFor();
}

/**
 * Shares a screen until the browser's own bar ends it, and then cancels the choice of another.
 * @param {Page} first @param {Page} second
 */
async function shareScreen(first, second) {
  await press(first, 'Share screen');
  await waitForPressed(first, 'Share screen', true);
  await first.locator('.self.screen:not(.mirrored)').waitFor();
  await waitForPicture(second);
  await first.evaluate(endOwnTrack);
  await waitForPressed(first, 'Share screen', false);
  await waitForPicture(second);
  await first.evaluate(() => { navigator.mediaDevices.getDisplayMedia = async () => { throw new DOMException('cancelled', 'NotAllowedError'); }; });
  await press(first, 'Share screen');
  await first.locator('.status-hint', {hasText: 'The screen was not shared.'}).waitFor({state: 'attached'});
}

/** Runs in the page: ends the track of the own picture, as the browser or the device does. */
function endOwnTrack() {
  const [track] = /** @type {any} */ (document.querySelector('#self')).srcObject.getTracks();
  track.stop();
  track.dispatchEvent(new Event('ended'));
}

/** Runs in the page: the system mutes or unmutes the own picture. @param {boolean} muted */
function muteOwnTrack(muted) {
  const [track] = /** @type {any} */ (document.querySelector('#self')).srcObject.getTracks();
  Object.defineProperty(track, 'muted', {value: muted, configurable: true});
  track.dispatchEvent(new Event(muted ? 'mute' : 'unmute'));
}

/**
 * The system pauses the camera, and it is unplugged: both sides are told.
 * @param {Page} first @param {Page} second
 */
async function pauseAndUnplug(first, second) {
  await first.evaluate(muteOwnTrack, true);
  await waitForTitle(first, 'The system has paused the camera');
  await waitForText(second, 'The other device has paused its camera');
  await first.evaluate(muteOwnTrack, false);
  await waitForTitle(first, 'Connected');
  await second.locator('#picture-note').waitFor({state: 'hidden'});
  await first.evaluate(endOwnTrack);
  await waitForTitle(first, 'The camera has stopped');
  await waitForText(second, 'The other camera has stopped');
  await press(first, 'Camera');
  await waitForTitle(first, 'Connected');
  await waitForPicture(second);
}

/**
 * Status and controls are in view, and big enough for a thumb.
 * @param {Page} page
 */
async function checkLayout(page) {
  const before = page.viewportSize() ?? {width: 640, height: 480};
  for (const size of [{width: 390, height: 844}, {width: 844, height: 390}, {width: 1280, height: 800}]) {
    await page.setViewportSize(size);
    await assertInView(page, ['.status', '#hang-up', '#microphone-button', '#camera-button']);
    const small = await page.locator('button:visible').evaluateAll(elements =>
      elements.filter(element => element.getBoundingClientRect().height < 44).map(element => element.id || element.className));
    assert.deepEqual(small, [], `controls at ${size.width}×${size.height} that are too small`);
  }
  await page.setViewportSize(before);
}

test('hang up, call again, answer', {skip}, async () => {
  const {ann, ben, first, second} = await open();
  for (let call = 0; call < 2; call++) {
    await waitForBothPictures(first, second);
    await press(first, 'Hang up');
    await waitForTitle(first, 'The call has ended');
    await waitForTitle(second, 'The other device has hung up');
    for (const page of [first, second]) {
      const live = await page.evaluate(() => /** @type {any} */ (document.querySelector('#self')).srcObject);
      assert.equal(live, null, 'the camera is off');
    }
    assert.equal(await first.evaluate(() => document.activeElement?.id), 'join', 'focus');
    await first.keyboard.press('Enter');
    await waitForTitle(second, 'The other device is calling');
    await press(second, 'Answer');
  }
  await waitForBothPictures(first, second);
  await second.reload();
  await waitForBothPictures(first, second);
  await ann.close();
  await ben.close();
});

test('a third device takes the place of one', {skip}, async () => {
  const {ann, ben, first, second, link} = await open();
  await waitForBothPictures(first, second);
  const eve = await Device.create(browser, server.origin);
  for (const device of [ann, ben, eve]) device.allowError(/409/); // a page asks once if it was superseded as its WebSocket opened
  const third = await eve.open(link);
  await waitForTitle(third, 'Two devices are in this call already');
  await press(third, 'Take the place of the second device');
  await waitForTitle(second, 'Opened on another device');
  await waitForBothPictures(first, third);
  assert.equal(await second.evaluate(() => /** @type {any} */ (document.querySelector('#self')).srcObject), null);
  await press(second, 'Use this device');
  await waitForBothPictures(first, second);
  await waitForTitle(third, 'Opened on another device');
  for (const device of [ann, ben, eve]) await device.close();
});

test('a question that is not answered: the page says so, the call begins, and the answer adds the picture', {skip}, async () => {
  const {ann, ben, first, second} = await open({scripts: [leaveQuestionsUnanswered]});
  await waitForTitle(second, 'The other device is waiting for you');
  await press(second, 'Join the call');
  await waitForTitle(second, 'Answer the browser’s question');
  await waitForPicture(second);
  await waitForText(first, 'The other camera is off');
  await second.evaluate(answerQuestion, 0);
  await waitForPicture(first);
  await waitForTitle(second, 'Connected');
  await ann.close();
  await ben.close();
});

test('a choice replaces the question that waits', {skip}, async () => {
  const ben = await Device.create(browser, server.origin);
  await ben.context.addInitScript(leaveQuestionsUnanswered);
  const page = await ben.open('/call.html');
  await press(page, 'Camera');
  await waitForTitle(page, 'Answer the browser’s question');
  await page.getByLabel('Camera', {exact: true}).and(page.locator('select')).selectOption({index: 1});
  await waitForTitle(page, 'Ready when you are');
  await page.evaluate(answerQuestion, 1);
  await page.locator('.self.has-track').waitFor();
  const label = await page.locator('#self').evaluate(video => /** @type {any} */ (video).srcObject.getTracks()[0].label);
  await page.evaluate(answerQuestion, 0);
  await waitForTitle(page, 'Ready when you are');
  assert.equal(await page.locator('#self').evaluate(video => /** @type {any} */ (video).srcObject.getTracks()[0].label), label);
  await ben.close();
});

for (const [name, script, title, hint] of /** @type {[string, () => void, string, RegExp][]} */ ([
  ['denied camera and microphone', denyDevices, 'The other device is waiting for you', /Allow camera and microphone/],
  ['a browser without mediaDevices', removeDevices, 'This browser gives pages no camera', /open it in a current Firefox/],
])) {
  test(`${name}: the call is received`, {skip}, async () => {
    const {ann, ben, first, second} = await open({scripts: [script]});
    await waitForTitle(second, title);
    await press(second, 'Join the call');
    await waitForPicture(second);
    await waitForTitle(second, 'Connected');
    assert.match(await second.locator('.status-hint').textContent() ?? '', hint);
    await waitForText(first, 'The other camera is off');
    await ann.close();
    await ben.close();
  });
}

/** Runs in the page: the browser refuses to play before a gesture, even without sound. */
function refuseToPlay() {
  let pressed = false; // navigator.userActivation is true, because Playwright evaluates code as a gesture
  addEventListener('pointerdown', () => (pressed = true), true);
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = async function () {
    if (this.id !== 'picture' || pressed) return play.call(this);
    this.pause();
    throw new DOMException('refused', 'NotAllowedError');
  };
}

test('a refused picture starts on a press', {skip}, async () => {
  const {ann, ben, first, second} = await open({scripts: [refuseToPlay]});
  await waitForTitle(second, 'Connected');
  await press(second, 'Press the picture to start it');
  await waitForPicture(second);
  assert.equal(await second.locator('#press').isVisible(), false);
  assert.equal(await second.locator('#picture').evaluate(video => /** @type {HTMLVideoElement} */ (video).muted), false);
  await waitForPicture(first);
  await ann.close();
  await ben.close();
});


test('at 400 % zoom the page scrolls in one direction, and no control covers another', {skip}, async () => {
  const device = await Device.create(browser, server.origin, {viewport: {width: 320, height: 256}});
  const page = await device.open('/call.html');
  await waitForTitle(page, 'Waiting for the other device');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 320);
  for (const selector of ['#microphone-button', '#hang-up', '#camera', '.code-input', '.code-row button']) {
    const element = page.locator(selector);
    await element.scrollIntoViewIfNeeded();
    const box = await element.boundingBox();
    assert.ok(box && box.x >= 0 && box.x + box.width <= 320, `${selector}: ${JSON.stringify(box)}`);
    await element.click({trial: true}); // fails if another element is on top
  }
  await device.close();
});
