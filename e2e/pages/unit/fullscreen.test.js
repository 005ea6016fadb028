/** Tests fullscreen.js without a browser. */

import assert from 'node:assert/strict';
import {mock, test} from 'node:test';
import {AutoHide, fullscreenFunctions, pictureInPicture} from '../../../public/fullscreen.js';

test('controls fade after three seconds without activity, in full screen only', t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  /** @type {boolean[]} */
  const changes = [];
  const autoHide = new AutoHide(hidden => changes.push(hidden), () => false);
  autoHide.show();
  t.mock.timers.tick(10_000);
  assert.deepEqual(changes, []);
  autoHide.setActive(true);
  t.mock.timers.tick(2_999);
  autoHide.show();
  t.mock.timers.tick(2_999);
  assert.deepEqual(changes, []);
  t.mock.timers.tick(1);
  assert.deepEqual(changes, [true]);
  autoHide.show();
  assert.deepEqual(changes, [true, false]);
  t.mock.timers.tick(3_000);
  autoHide.setActive(false);
  assert.deepEqual(changes, [true, false, true, false]);
  t.mock.timers.tick(10_000);
  assert.equal(autoHide.hidden, false);
});

test('controls stay while they are held', t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  let held = true;
  const autoHide = new AutoHide(() => {}, () => held);
  autoHide.setActive(true);
  t.mock.timers.tick(30_000);
  assert.equal(autoHide.hidden, false);
  held = false;
  t.mock.timers.tick(3_000);
  assert.equal(autoHide.hidden, true);
});

test('full screen by the standard, by the older names, and on iPhones', async () => {
  const calls = mock.fn(async () => {});
  const root = {requestFullscreen: calls};
  const standard = fullscreenFunctions(root, {}, {fullscreenEnabled: true, fullscreenElement: root, exitFullscreen: calls});
  assert.deepEqual([standard.supported, standard.isActive()], [true, true]);
  await standard.enter();
  await standard.exit();
  const older = fullscreenFunctions({webkitRequestFullscreen: calls}, {}, {webkitFullscreenEnabled: true, webkitFullscreenElement: null, webkitExitFullscreen: calls});
  assert.deepEqual([older.supported, older.isActive()], [true, false]);
  await older.enter();
  await older.exit();
  const phone = fullscreenFunctions({}, {webkitEnterFullscreen: calls}, {});
  assert.equal(phone.supported, true);
  await phone.enter();
  assert.equal(calls.mock.callCount(), 5);
  assert.equal(fullscreenFunctions({requestFullscreen: calls}, {}, {fullscreenEnabled: false}).supported, false);
});

test('picture in picture by the standard and by the form of Safari', async () => {
  const calls = mock.fn(async () => {});
  const video = {requestPictureInPicture: calls};
  const standard = pictureInPicture(video, {pictureInPictureEnabled: true, pictureInPictureElement: video, exitPictureInPicture: calls});
  assert.deepEqual([standard.supported, standard.isActive()], [true, true]);
  await standard.enter();
  await standard.exit();
  assert.equal(calls.mock.callCount(), 2);
  const safari = {webkitPresentationMode: 'inline', webkitSupportsPresentationMode: () => true,
    webkitSetPresentationMode(/** @type {string} */ mode) { this.webkitPresentationMode = mode; }};
  const older = pictureInPicture(safari, {});
  assert.equal(older.supported, true);
  await older.enter();
  assert.equal(older.isActive(), true);
  await older.exit();
  assert.equal(older.isActive(), false);
  assert.equal(pictureInPicture({}, {}).supported, false);
});
